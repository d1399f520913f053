//! Requests that are odd, at their limits or beyond: each has one meaning, and the real server keeps to it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use hither::{Applied, Client, Consistency, ErrorCode, Event, Key, KeyRange, LeaseId, Revision, Start, Watch};
use hither_protocol::message::{CancelRequest, CancelWatch, Get, Projection, Range};
use hither_protocol::{ALPN_CLIENT, Refusal, RequestNumber, WatchId};
use hither_tests::node::Node;
use hither_tests::raw::{Certificates, Raw};
use hither_tests::wait::{until, within};

const PROMPT: Duration = Duration::from_secs(20);
/// A call that has to end by its own deadline.
const SHORT: Duration = Duration::from_millis(300);

async fn node_and_client() -> anyhow::Result<(Node, Client)> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    Ok((node, client))
}

fn code<T>(result: Result<T, hither::Error>) -> Option<(ErrorCode, Applied)> {
    result.err().map(|error| (error.code(), error.applied()))
}

/// The keys of the next events, one by one.
async fn keys_of(watch: &mut Watch, count: usize) -> anyhow::Result<Vec<Key>> {
    let mut keys = Vec::new();
    while keys.len() < count {
        let update = within("an event", PROMPT, watch.next()).await.expect("the watch goes on")?;
        keys.extend(update.events.into_iter().map(|event| match event {
            Event::Put { entry, .. } => entry.key,
            Event::Delete { key, .. } => key,
            Event::Liveness { .. } => unreachable!("nobody asked for it"),
        }));
    }
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_any_bytes_comes_back_as_it_was() -> anyhow::Result<()> {
    let (_node, client) = node_and_client().await?;
    let mut watch = client.watch(KeyRange::All).start(Start::Now).await?;
    let keys: [&[u8]; 10] = [
        b"\0",
        b"\xff\xff",
        b"\xc3\x28",
        b"../../etc/passwd",
        b"//",
        b"a\r\nb",
        b"%00",
        b"<img onerror=x>",
        b"services/",
        " \u{202e}\u{1f980}".as_bytes(),
    ];
    for key in keys {
        client.put(key, key).await?;
        let entry = client.get(key).await?.expect("it was put");
        assert_eq!((entry.key.as_bytes(), &entry.value[..]), (key, key));
    }
    assert_eq!(keys_of(&mut watch, keys.len()).await?, keys.map(Key::from), "in a watch");
    let mut listed: Vec<_> = client.range(KeyRange::All).await?.entries.into_iter().map(|entry| entry.key).collect();
    let mut sorted = keys.map(Key::from).to_vec();
    sorted.sort();
    listed.retain(|key| sorted.contains(key));
    assert_eq!(listed, sorted, "in a list, in the order of their bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_never_means_more_than_it_says() -> anyhow::Result<()> {
    let (node, client) = node_and_client().await?;
    for key in ["a", "a\0", "aa", "b", "\u{7f}"] {
        client.put(key, "").await?;
    }
    let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await?;
    let (_control, mut lane) = raw.greet().await;
    let span = |from: &'static str, to: &'static str| KeyRange::Span(from.into(), to.into());
    let cases: [(KeyRange, Result<u64, ErrorCode>); 11] = [
        (span("b", "a"), Err(ErrorCode::InvalidRange)),
        (span("a", "a"), Ok(0)),
        (span("a", "a\0"), Ok(1)),
        (span("a", "b"), Ok(3)),
        (span("", "b"), Err(ErrorCode::KeyEmpty)),
        (span("a", ""), Err(ErrorCode::KeyEmpty)),
        (KeyRange::One("".into()), Err(ErrorCode::KeyEmpty)),
        (KeyRange::One("a".into()), Ok(1)),
        (KeyRange::Prefix(Bytes::new()), Err(ErrorCode::KeyEmpty)),
        (KeyRange::Prefix("a".into()), Ok(3)),
        (KeyRange::One(vec![b'k'; 4097].into()), Err(ErrorCode::KeyTooLong)),
    ];
    for (number, (range, expected)) in (1..).zip(cases) {
        let what = format!("{range:?}");
        let request = Range {
            range,
            limit: 0,
            reverse: false,
            projection: Projection::CountOnly,
            consistency: Consistency::default(),
        };
        lane.ask(number, request).await;
        let answer = lane.answer(number).await.map_err(|refusal: Refusal| refusal.code);
        let count = answer.map(|reply| match reply {
            hither_protocol::message::Reply::Range(range) => range.count,
            other => panic!("{what}: {other:?}"),
        });
        assert_eq!(count, expected, "{what}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_at_most_what_there_is_and_none_is_all() -> anyhow::Result<()> {
    let (_node, client) = node_and_client().await?;
    for number in 0..20 {
        client.put(format!("l/{number:02}"), "").await?;
    }
    for (limit, entries, more) in [(0, 20, false), (1, 1, true), (20, 20, false), (u64::MAX, 20, false)] {
        let reply = client.range(KeyRange::prefix("l/")).limit(limit).await?;
        assert_eq!((reply.entries.len(), reply.more, reply.count), (entries, more, 20), "a limit of {limit}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_the_future_waits_for_it_and_no_longer_than_it_may() -> anyhow::Result<()> {
    let (_node, client) = node_and_client().await?;
    assert!(client.get("f/absent").await?.is_none());
    let now = client.put("f/a", "1").await?.revision;
    let at_least = |revision| Consistency::AtLeast(Revision(revision));
    assert!(client.get("f/a").consistency(at_least(0)).await?.is_some());
    let start = Instant::now();
    for far in [now.0 + 1_000_000, u64::MAX] {
        let late = client.get("f/a").consistency(at_least(far)).timeout(SHORT).await;
        assert!(matches!(code(late), Some((ErrorCode::Timeout, Applied::No))), "{far}");
    }
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    let waiting = tokio::spawn(client.get("f/a").consistency(at_least(now.0 + 1)).timeout(PROMPT).into_future());
    client.put("f/a", "2").await?;
    assert_eq!(&waiting.await??.expect("it was put").value[..], b"2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_to_live_is_clamped_and_the_answer_says_so() -> anyhow::Result<()> {
    let (_node, client) = node_and_client().await?;
    let day = Duration::from_secs(24 * 60 * 60);
    let cases = [
        (Duration::ZERO, Duration::from_secs(1)),
        (Duration::from_millis(999), Duration::from_secs(1)),
        (Duration::from_millis(1500), Duration::from_millis(1500)),
        (day, day),
        (Duration::MAX, day),
    ];
    for (asked, granted) in cases {
        let reply = client.lease_grant(asked).await?;
        assert_eq!(Duration::from_millis(reply.ttl_ms), granted, "{asked:?} was asked for");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_not_there_is_not_found_whatever_is_asked_of_it() -> anyhow::Result<()> {
    let (node, client) = node_and_client().await?;
    let gone = client.lease_grant(PROMPT).await?.lease;
    client.lease_revoke(gone).await?;
    let elsewhere = node.client().namespace("other").connect().await?;
    let of_others = elsewhere.lease_grant(PROMPT).await?.lease;
    let expired = client.lease_grant(Duration::ZERO).await?.lease;
    until("a lease ends", PROMPT, async || code(client.lease_info(expired).await).map(drop)).await;
    let expected = Some((ErrorCode::LeaseNotFound, Applied::No));
    for lease in [LeaseId(0), LeaseId(u64::MAX), gone, expired, of_others] {
        assert_eq!(code(client.lease_renew(lease).await), expected, "renewing {lease:?}");
        assert_eq!(code(client.lease_info(lease).await), expected, "looking at {lease:?}");
        assert_eq!(code(client.lease_revoke(lease).await), expected, "revoking {lease:?}");
        assert_eq!(code(client.put("l/key", "").lease(lease).await), expected, "a key of {lease:?}");
    }
    assert!(client.get("l/key").await?.is_none(), "a put that was refused left a key");
    elsewhere.lease_renew(of_others).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_one_key_is_told_of_that_key_and_no_other() -> anyhow::Result<()> {
    let (_node, client) = node_and_client().await?;
    let mut one = client.watch(Key::from("w/a")).start(Start::Now).await?;
    let mut other_namespace = client.watch(KeyRange::All).start(Start::Now).await?;
    for key in ["w/", "w/a\0", "w/aa", "w/A", "w", "w/b", "w/a"] {
        client.put(key, "").await?;
    }
    assert_eq!(keys_of(&mut one, 1).await?, [Key::from("w/a")], "the first event is of the key that was written last");
    assert_eq!(keys_of(&mut other_namespace, 7).await?.len(), 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_back_what_was_never_asked_for_is_no_error() -> anyhow::Result<()> {
    let (node, _client) = node_and_client().await?;
    let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await?;
    let (mut control, mut lane) = raw.greet().await;
    for number in [0, 77, u64::MAX] {
        control.say(number, &CancelWatch { watch: WatchId(number) }).await;
        control.say(number, &CancelRequest { request: RequestNumber(number) }).await;
    }
    lane.ask(1, Get { key: "a".into(), consistency: Consistency::default() }).await;
    lane.answer(1).await.expect("the lane goes on");
    assert!(raw.is_open());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_the_future_is_silent_until_then() -> anyhow::Result<()> {
    let (_node, client) = node_and_client().await?;
    let now = client.put("w/a", "now").await?.revision;
    let mut watch = client.watch(Key::from("w/a")).start(Start::After(Revision(now.0 + 2))).await?;
    let mut never = Vec::new();
    for far in [now.0 + 1_000_000, u64::MAX - 1, u64::MAX] {
        never.push(client.watch(Key::from("w/a")).start(Start::After(Revision(far))).await?);
    }
    for value in ["1", "2", "3"] {
        client.put("w/a", value).await?;
    }
    let update = within("an event", PROMPT, watch.next()).await.expect("the watch goes on")?;
    assert_eq!(update.events.iter().map(Event::revision).collect::<Vec<_>>(), [Revision(now.0 + 3)]);
    for watch in &mut never {
        assert!(tokio::time::timeout(SHORT, watch.next()).await.is_err(), "it was told of what it is ahead of");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_thousands_of_keys_ends_in_one_revision() -> anyhow::Result<()> {
    const KEYS: usize = 5_000;
    const AT_ONCE: usize = 250;
    let (_node, client) = node_and_client().await?;
    let lease = client.lease_grant(Duration::from_secs(3)).await?.lease;
    let key = |number| Key::from(format!("many/{number:04}"));
    for first in (0..KEYS).step_by(AT_ONCE) {
        client.lease_renew(lease).await?;
        let puts = (first..first + AT_ONCE).map(|number| client.put(key(number), "").lease(lease).into_future());
        try_join_all(puts).await?;
    }
    let mut watch = client.watch(KeyRange::prefix("many/")).start(Start::Now).await?;
    let mut deleted = Vec::new();
    while deleted.len() < KEYS {
        let update = within("the lease ends", PROMPT, watch.next()).await.expect("the watch goes on")?;
        deleted.extend(update.events.into_iter().map(|event| match event {
            Event::Delete { key, revision, .. } => (key, revision),
            other => panic!("{other:?}"),
        }));
    }
    let at = deleted[0].1;
    assert!(deleted.iter().all(|(_, revision)| *revision == at), "its keys went at different revisions");
    deleted.sort();
    assert_eq!(deleted.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), (0..KEYS).map(key).collect::<Vec<_>>());
    assert_eq!(client.range(KeyRange::prefix("many/")).await?.count, 0);
    Ok(())
}
