//! Services find each other, whatever happens to them, to the network and to the server.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use hither::{
    ErrorCode, InstanceFilter, Pick, Registration, RegistrationState, ServiceUpdate, ServiceView, ServiceWatch,
    ViewState,
};
use hither_tests::node::Node;
use hither_tests::relay::Relay;
use hither_tests::wait::{until, within};

use crate::watcher::PATIENT;

/// Short, so that a loss is soon.
const TTL: Duration = Duration::from_secs(2);
/// Short, so that silence is noticed in a second rather than in three.
const BEAT: Duration = Duration::from_millis(250);
/// Everything that takes a time to live, and some for a busy machine.
const LOST: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_is_found_picked_and_told_of_and_who_leaves_is_gone() -> anyhow::Result<()> {
    let node = Node::start().await;
    let finder = node.client().connect().await?;
    let mut watch = finder.watch_service("api").await?;
    let first = watch.next().await.expect("open")?;
    assert!(first.view.is_empty() && first.view.state == ViewState::Synced, "{first:?}");
    let error = finder.pick("api", &Pick::round_robin()).expect_err("nobody is there");
    assert_eq!(error.code(), ErrorCode::NoInstances);
    assert_eq!(error.no_instances().map(|none| (none.known, none.suspect)), Some((0, 0)));

    let service = node.client().connect().await?;
    let registered = service.register(Registration::new("api").port(8080).tag("blue")).await?;
    let second = watch.next().await.expect("open")?;
    assert_eq!((second.added.len(), second.view.len()), (1, 1));
    assert!(second.view.revision > first.view.revision);
    let picked = finder.pick("api", &Pick::random())?;
    assert_eq!((picked.url().as_deref(), picked.epoch), (Some("http://127.0.0.1:8080"), registered.epoch()));
    assert_eq!(finder.discover("api").await?.len(), 1);
    assert_eq!(service.discover("api").await?.len(), 1, "what a client registered itself it finds");

    assert!(registered.deregister().await?);
    let third = watch.next().await.expect("open")?;
    assert_eq!((third.removed.len(), third.view.len()), (1, 0));
    until("the view is confirmed again and again", PATIENT, async || {
        (finder.view("api")?.age() < Duration::from_secs(2)).then_some(())
    })
    .await;
    Ok(())
}

/// What a finder is told, until it is as wanted.
async fn told_until(watch: &mut ServiceWatch, what: &str, wanted: impl Fn(&ServiceView) -> bool) -> Vec<ServiceUpdate> {
    let mut told = Vec::new();
    within(what, LOST, async {
        loop {
            let update = watch.next().await.expect("it goes on").expect("it goes on");
            let enough = wanted(&update.view);
            told.push(update);
            if enough {
                return;
            }
        }
    })
    .await;
    told
}

fn ids(view: &ServiceView) -> Vec<&str> {
    view.instances.iter().map(|instance| instance.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_instance_is_suspect_then_gone_and_declared_again_when_it_is_heard() -> anyhow::Result<()> {
    let node = Node::start().await;
    let relay = Relay::start(node.addr(), 41)?;
    let service = node.client_at(relay.addr()).session_ttl(TTL).beat_interval(BEAT).connect().await?;
    let finder = node.client().connect().await?;
    let of = |id: &str| Registration::new("api").id(id).endpoint("10.0.0.1:1").ttl(TTL);
    let (a, b) = (service.register(of("a")).await?, service.register(of("b")).await?);
    let near = finder.register(Registration::new("api").id("near").port(1)).await?;
    let mut watch = finder.watch_service("api").await?;
    told_until(&mut watch, "all are there", |view| view.working() == 3).await;
    let epoch = a.epoch();

    relay.cut();
    told_until(&mut watch, "they are suspect", |view| view.suspect() == 2).await;
    for _ in 0..10 {
        assert_eq!(finder.pick("api", &Pick::round_robin())?.id, "near", "no traffic for who is silent");
    }
    within("the loss is told", LOST, a.lost()).await;
    assert_eq!((a.state(), near.state()), (RegistrationState::Lost, RegistrationState::Registered));
    told_until(&mut watch, "they expire", |view| ids(view) == ["near"]).await;
    relay.heal();
    let told = told_until(&mut watch, "they are back", |view| view.working() == 3).await;
    assert_eq!(told.len(), 1, "in one transaction: {told:?}");
    assert!(within("it knows", PATIENT, a.found()).await && within("it knows", PATIENT, b.found()).await);
    assert!(a.epoch() > epoch && a.epoch() == b.epoch());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_server_gone_services_are_found_as_they_were_and_never_shown_as_gone() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let service = node.client().session_ttl(TTL).backoff(BEAT, BEAT).connect().await?;
    let finder = node.client().beat_interval(BEAT).backoff(BEAT, BEAT).connect().await?;
    let register = |id: &str| service.register(Registration::new("api").id(id).port(1).ttl(TTL));
    let (a, b) = (register("a").await?, register("b").await?);
    let mut watch = finder.watch_service("api").await?;
    let mut told = told_until(&mut watch, "both are there", |view| view.len() == 2).await;
    node.kill().await;
    told.extend(told_until(&mut watch, "it is noticed", |view| view.state == ViewState::Offline).await);
    // Longer than the instances' time to live: their clients take them as lost.
    within("the loss is told", LOST, a.lost()).await;
    let view = finder.discover("api").await?;
    assert_eq!((ids(&view), view.state), (vec!["a", "b"], ViewState::Offline));
    assert!(view.age() >= TTL - BEAT * 4, "it says how old it is: {:?}", view.age());
    assert!(finder.pick("api", &Pick::round_robin()).is_ok());
    let error = finder.discover("api").max_staleness(Duration::from_millis(100)).timeout(BEAT).await;
    assert_eq!(error.expect_err("too old").code(), ErrorCode::TooStale);
    let error = finder.discover("other").timeout(BEAT).await.expect_err("nobody tells");
    assert!(matches!(error.code(), ErrorCode::Timeout | ErrorCode::Unavailable), "{error}");

    node.restart().await;
    told.extend(told_until(&mut watch, "it is back", |view| view.state == ViewState::Synced).await);
    assert!(within("a is found", LOST, a.found()).await && within("b is found", LOST, b.found()).await);
    // A last change, so that everything before it has been told.
    a.update(|instance| instance.zone = "z".into()).await?;
    let last = |view: &ServiceView| view.get("a").is_some_and(|instance| instance.zone == "z");
    told.extend(told_until(&mut watch, "the change", last).await);
    assert!(told.iter().all(|update| ids(&update.view) == ["a", "b"]), "nobody was ever shown as gone: {told:?}");
    let revisions: Vec<u64> = told.iter().map(|update| update.view.revision.0).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert_eq!(finder.discover("api").max_staleness(Duration::from_secs(2)).await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_replaced_cannot_take_out_its_successor() -> anyhow::Result<()> {
    let node = Node::start().await;
    let (old, new) = (node.client().connect().await?, node.client().connect().await?);
    let of = || Registration::new("api").id("one").port(1);
    let before = old.register(of()).await?;
    let after = new.register(of().version("2")).await?;
    assert_eq!(
        before.update(|instance| instance.zone = "z".into()).await.expect_err("refused").code(),
        ErrorCode::Conflict
    );
    assert_eq!(before.state(), RegistrationState::Deregistered);
    let again = old.register(Registration::new("api").id("two").port(1)).await?;
    let other = new.register(Registration::new("api").id("two").port(2)).await?;
    assert_eq!(again.deregister().await.expect_err("refused").code(), ErrorCode::Conflict);
    assert!(other.deregister().await?);
    drop(before);
    old.close().await;
    let instances = new.instances("api").await?;
    assert_eq!(instances.iter().map(|instance| instance.id.as_str()).collect::<Vec<_>>(), ["one"]);
    assert_eq!(instances[0], after.instance());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_says_when_and_who_is_dropped_goes_too() -> anyhow::Result<()> {
    let node = Node::start().await;
    let witness = node.client().connect().await?;
    let service = node.client().connect().await?;
    let held = service.register(Registration::new("api").id("held").port(1)).await?;
    drop(service.register(Registration::new("api").id("dropped").port(1)).await?);
    held.drain().await?;
    let instances = witness.instances("api").await?;
    let status = instances.iter().find(|instance| instance.id == "held").map(|instance| &instance.status);
    assert_eq!(status, Some(&hither::InstanceStatus::Draining));
    service.close().await;
    until("both have left", PATIENT, async || witness.instances("api").await.ok()?.is_empty().then_some(())).await;
    for id in ["held", "dropped"] {
        let left = witness.get(hither::Instance::tombstone_of("api", id)).await?.expect("it says that it stopped");
        let record: serde_json::Value = serde_json::from_slice(&left.value)?;
        assert!(record["stopped_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{record}");
        let lease = witness.lease_info(left.lease.expect("for a while")).await?.lease;
        assert!((600_000..=660_000).contains(&lease.ttl_ms), "{lease:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_nobody_uses_is_let_go_of_and_one_that_is_too_large_is_refused() -> anyhow::Result<()> {
    let node = Node::start().await;
    let finder = node.client().option("view_idle", "500ms").option("view_bytes_max", "4000").connect().await?;
    let service = node.client().connect().await?;
    let _one = service.register(Registration::new("small").port(1)).await?;
    let held = finder.service("held")?;
    assert_eq!(finder.discover("small").await?.len(), 1);
    until("nobody follows it", PATIENT, async || (finder.metrics().watches == 1).then_some(())).await;
    assert_eq!(finder.discover("small").await?.len(), 1, "whoever wants it again gets it");
    assert!(held.view().is_some(), "one that is held is kept");

    let mut large = Vec::new();
    for _ in 0..8 {
        large.push(service.register(Registration::new("large").port(1)).await?);
    }
    let error = finder.discover("large").await.expect_err("too large");
    assert_eq!(error.code(), ErrorCode::ViewTooLarge);
    drop(held);
    let mut big = Vec::new();
    for name in ["big-a", "big-b"] {
        let registration = Registration::new(name).port(1).metadata("k", "v".repeat(2_500));
        big.push(service.register(registration).await?);
        assert_eq!(finder.discover(name).await?.len(), 1);
    }
    until("the older one made room", PATIENT, async || finder.view("big-a").is_none().then_some(())).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_was_let_go_of_ages_though_others_are_confirmed() -> anyhow::Result<()> {
    let node = Node::start().await;
    let finder = node.client().beat_interval(BEAT).option("view_idle", "500ms").connect().await?;
    let _other = finder.watch_service("other").await?;
    let view = finder.discover("api").await?;
    until("nobody follows it", PATIENT, async || (finder.metrics().watches == 1).then_some(())).await;
    until("it ages", PATIENT, async || (view.age() > BEAT * 8).then_some(())).await;
    until("the other is young", PATIENT, async || (finder.view("other")?.age() < BEAT * 4).then_some(())).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_service_that_outgrew_its_limit_says_so_until_it_is_found_again() -> anyhow::Result<()> {
    let node = Node::start().await;
    let finder = node.client().option("view_bytes_max", "4000").connect().await?;
    let service = node.client().connect().await?;
    let _first = service.register(Registration::new("api").id("first").port(1)).await?;
    let (held, pick) = (finder.service("api")?, Pick::round_robin());
    assert_eq!(held.discover().await?.len(), 1);
    assert_eq!(held.pick(&pick)?.id, "first");
    let mut more = Vec::new();
    for _ in 0..8 {
        more.push(service.register(Registration::new("api").port(1)).await?);
    }
    let is_told = || held.pick(&pick).err().filter(|error| error.code() == ErrorCode::ViewTooLarge);
    until("a pick says why there is none", PATIENT, async || is_told()).await;
    assert!(held.view().is_none(), "what was known last is not shown for ever");
    assert_eq!(held.discover().await.expect_err("too large").code(), ErrorCode::ViewTooLarge);
    for one in more {
        one.deregister().await?;
    }
    assert_eq!(held.discover().await?.len(), 1);
    assert_eq!((held.pick(&pick)?.id.as_str(), held.view().map(|view| view.len())), ("first", Some(1)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_deregisters_what_is_gone_already_finds_the_service_at_once() -> anyhow::Result<()> {
    let node = Node::start().await;
    let (client, other) = (node.client().connect().await?, node.client().connect().await?);
    let _one = other.register(Registration::new("api").id("one").port(1)).await?;
    assert_eq!(client.discover("api").await?.len(), 1);
    let asked = client.metrics().requests;
    let mut deregistering = pin!(client.deregister("api", "one", None));
    // It reads the record, and is not polled while that is taken out and something else is written.
    assert!(deregistering.as_mut().now_or_never().is_none());
    let is_read = || client.metrics().requests > asked && client.metrics().in_flight == 0;
    until("the record is read", PATIENT, async || is_read().then_some(())).await;
    other.delete(hither::Instance::key_of("api", "one")).await?;
    other.put("another", "v").await?;
    assert!(!deregistering.await?, "it was there no more");
    let found = within("it is found", LOST, client.discover("api").timeout(PATIENT).into_future()).await?;
    assert!(found.len() <= 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_only_dropped_ends_with_all_that_it_follows_and_has_registered() -> anyhow::Result<()> {
    let node = Node::start().await;
    let witness = node.client().connect().await?;
    let client = node.client().connect().await?;
    let registered = client.register(Registration::new("api").port(1)).await?;
    client.discover("api").await?;
    let mut states = client.states();
    drop(client);
    assert_eq!(witness.instances("api").await?.len(), 1, "a registration is a handle too");
    drop(registered);
    assert!(within("the client ends", PATIENT, states.wait_for(hither::SessionState::Closed)).await);
    until("it has left", PATIENT, async || witness.instances("api").await.ok()?.is_empty().then_some(())).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_passes_the_filter_and_is_folded_while_nobody_asks() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let blue = InstanceFilter::new().tag("blue");
    let mut watch = client.watch_service("api").filter(blue.clone()).await?;
    assert!(watch.next().await.expect("open")?.view.is_empty());
    let red = client.register(Registration::new("api").id("r").port(1).tag("red")).await?;
    let first = client.register(Registration::new("api").id("b").port(1).tag("blue")).await?;
    let update = watch.next().await.expect("open")?;
    assert_eq!((update.added.len(), ids(&update.view)), (1, vec!["b"]));
    assert!(watch.try_next().is_none());
    // Comes and goes, and changes twice: nobody asks meanwhile.
    let short = client.register(Registration::new("api").id("s").port(1).tag("blue")).await?;
    first.update(|instance| instance.zone = "x".into()).await?;
    short.deregister().await?;
    first.update(|instance| instance.zone = "y".into()).await?;
    red.update(|instance| instance.tags = vec!["blue".into()]).await?;
    let last = |view: &ServiceView| {
        let is_last = |id: &str, wanted: fn(&hither::Instance) -> bool| view.get(id).is_some_and(|of| wanted(of));
        is_last("r", |of| of.tags == ["blue"]) && is_last("b", |of| of.zone == "y")
    };
    until("all of it has come", PATIENT, async || client.view("api").filter(|view| last(view)).map(|_| ())).await;
    let update = watch.next().await.expect("open")?;
    let (added, changed) = (update.added[0].id.as_str(), update.changed[0].id.as_str());
    assert_eq!((added, changed, update.removed.len()), ("r", "b", 0), "{update:?}");
    red.update(|instance| instance.tags.clear()).await?;
    assert_eq!(watch.next().await.expect("open")?.removed[0].id, "r");
    let pick = Pick::round_robin().filter(blue);
    assert!((0..4).all(|_| client.pick("api", &pick).is_ok_and(|picked| picked.id == "b")));
    client.close().await;
    // What it registered itself is gone, then so is the client.
    while let Some(update) = within("the end", PATIENT, watch.next()).await {
        update?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_without_a_server_is_over_at_once_and_who_closed_hears_nothing_more() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let client = node.client().request_timeout(BEAT).beat_interval(BEAT).connect().await?;
    let registered = client.register(Registration::new("api").id("a").port(1)).await?;
    let mut watch = client.watch_service("api").await?;
    told_until(&mut watch, "it is there", |view| view.len() == 1).await;
    node.kill().await;
    let error = within("the attempt ends", LOST, registered.deregister()).await.expect_err("nobody answers");
    assert_ne!(error.code(), ErrorCode::NotFound, "{error}");
    assert_eq!(registered.state(), RegistrationState::Deregistered);
    // Being closed makes the view another one. Nobody is told.
    client.close().await;
    assert!(watch.next().await.is_none());
    Ok(())
}
