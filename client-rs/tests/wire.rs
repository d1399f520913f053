//! What crate `hither` promises over real QUIC, with a small server played by the test.

mod support;

use std::future::{Future, IntoFuture};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hither::{Applied, ErrorCode, Event, KeyRange, Registration, SessionState, Start, UpdateKind};
use hither_protocol::ALPN_CLIENT;
use support::{Authority, HANGING, Heard, Server, soon};

#[tokio::test]
async fn a_client_puts_gets_and_watches() {
    let server = Server::start();
    let client = server.client().connect().await.expect("a client");
    assert_eq!(client.state(), SessionState::Connected);
    client.put("a/1", "one").await.expect("a put");
    let entry = client.get("a/1").await.expect("a get").expect("an entry");
    assert_eq!((&entry.value[..], entry.mod_revision.0), (&b"one"[..], 1));
    assert_eq!(client.get("a/2").await.expect("a get"), None);
    assert_eq!(client.range(KeyRange::prefix("a/")).await.expect("a range").entries.len(), 1);
    assert_eq!(client.range(KeyRange::All).count().await.expect("a count"), 1);

    let mut watch = client.watch(KeyRange::prefix("a/")).await.expect("a watch");
    let first = soon("the snapshot", watch.next()).await.expect("open").expect("an update");
    assert_eq!((first.kind, first.events.len()), (UpdateKind::Snapshot, 1));
    let reply = client.put("a/2", "two").previous().await.expect("a put");
    let second = soon("the change", watch.next()).await.expect("open").expect("an update");
    assert_eq!((second.kind, second.revision), (UpdateKind::Changes, reply.revision));
    assert!(matches!(&second.events[..], [Event::Put { entry, .. }] if entry.value == "two"));
    assert_eq!(watch.revision(), reply.revision);
    client.close().await;
    assert!(soon("the end", watch.next()).await.is_none());
}

#[test]
fn handles_and_calls_go_to_any_thread() {
    fn everywhere<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: impl FnOnce(hither::Client) -> T) {}
    everywhere::<hither::Client>();
    everywhere::<hither::Lease>();
    everywhere::<hither::Watch>();
    everywhere::<hither::Registered>();
    everywhere::<hither::ServiceWatch>();
    everywhere::<hither::Service>();
    everywhere::<hither::Pick>();
    everywhere::<hither::Error>();
    sent(|client| client.put("a", "b").into_future());
    sent(|client| async move { client.close().await });
}

#[tokio::test]
async fn a_client_runs_on_the_runtime_that_it_is_given() {
    let server = Server::start();
    let builder = server.client().runtime(tokio::runtime::Handle::current());
    let client = std::thread::spawn(move || {
        let elsewhere = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        elsewhere.block_on(builder.connect())
        // The runtime it was connected in is gone.
    });
    let client = tokio::task::spawn_blocking(move || client.join().expect("no panic"));
    let client = soon("connecting", client).await.expect("no panic").expect("a client");
    client.put("a", "v").await.expect("a put");
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    let server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let calls: Vec<_> = (0..2_000)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.put(format!("k{number}"), "v").await })
        })
        .collect();
    for call in calls {
        soon("an answer", call).await.expect("no panic").expect("a put");
    }
    assert_eq!(client.range(KeyRange::All).count().await.expect("a count"), 2_000);
}

#[tokio::test]
async fn a_thousand_watches_get_their_events() {
    let server = Server::start();
    let client = server.client().share_watches(false).connect().await.expect("a client");
    let mut watches = Vec::new();
    for _ in 0..1_000 {
        watches.push(client.watch(KeyRange::All).start(Start::Now).await.expect("a watch"));
    }
    client.put("a", "v").await.expect("a put");
    for watch in &mut watches {
        let update = soon("the event", watch.next()).await.expect("open").expect("an update");
        assert_eq!(update.events.len(), 1);
    }
    assert_eq!(client.metrics().watch_streams, 1_000);
}

#[tokio::test]
async fn a_large_value_goes_and_comes_on_streams_of_its_own() {
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let value = vec![7; 900 * 1024];
    client.put("large", value.clone()).await.expect("a put");
    server.hears(&Heard::OwnStream).await;
    assert_eq!(client.get("large").await.expect("a get").expect("an entry").value, value);
    let error = client.put("larger", vec![7; 1024 * 1024 + 1]).await.expect_err("too large");
    assert_eq!((error.code(), error.applied()), (ErrorCode::ValueTooLarge, Applied::No));
}

#[tokio::test]
async fn nobody_there_is_said_with_host_and_port_and_in_time() {
    // Bound and never read: the packets arrive, and nothing answers.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let identity = Authority::new().identity("tester");
    let started = Instant::now();
    let url = format!("hither://{address}?connect_timeout=700ms");
    let error = hither::Client::builder().url(url).identity(identity).connect().await.expect_err("nobody is there");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.detail().contains(&address.to_string()), "{error}");
    assert!(error.detail().contains("UDP") && error.detail().contains("700ms"), "{error}");
    let took = started.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_server_of_another_ca_is_told_apart_from_one_that_is_not_there() {
    let server = Server::start();
    let stranger = Authority::new().identity("tester");
    let error = server.client().identity(stranger).connect().await.expect_err("another CA");
    assert_eq!(error.code(), ErrorCode::ClusterMismatch, "{error}");
    assert!(error.detail().contains(&server.address.to_string()), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_certificate_that_the_server_does_not_take_is_reported_as_such() {
    let server = Server::start();
    // It trusts the server's CA, but shows a certificate that another has signed.
    let ca = server.authority.ca_der();
    let other = Authority::new().identity("tester");
    let pem = other.to_pem();
    let ca_pem = pem::encode(&pem::Pem::new("CERTIFICATE", ca));
    let identity = hither::Identity::from_pem(ca_pem.as_bytes(), pem.as_bytes()).expect("it parses");
    let error = server.client().identity(identity).connect().await.expect_err("not taken");
    assert_eq!(error.code(), ErrorCode::Unauthenticated, "{error}");
    assert!(error.detail().contains("hither client add"), "{error}");
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_reported_as_such() {
    let server = Server::with(Arc::new(Authority::new()), &[b"h3"]);
    let error = server.client().connect().await.expect_err("another protocol");
    assert_eq!(error.code(), ErrorCode::ProtocolMismatch, "{error}");
}

#[tokio::test]
async fn a_dropped_call_is_taken_back_at_the_server() {
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.get("hang").await }
    });
    server.hears(&Heard::Request("Get")).await;
    call.abort();
    server.hears(&Heard::Cancelled).await;
}

#[tokio::test]
async fn a_deadline_is_kept_when_the_server_does_not_answer() {
    let server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let timeout = Duration::from_millis(200);
    let error = client.get("hang").timeout(timeout).await.expect_err("no answer");
    assert_eq!((error.code(), error.applied()), (ErrorCode::Timeout, Applied::No));
    let error = client.put("hang", "v").timeout(timeout).await.expect_err("no answer");
    assert_eq!((error.code(), error.applied()), (ErrorCode::Timeout, Applied::Unknown));
}

#[tokio::test]
async fn a_dropped_watch_is_closed_at_the_server() {
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let watch = client.watch(KeyRange::All).await.expect("a watch");
    drop(watch);
    server.hears(&Heard::Unwatched).await;
}

#[tokio::test]
async fn a_watch_that_nobody_takes_from_holds_up_nobody_and_loses_nothing() {
    let server = Server::start();
    let client = server.client().option("watch_events_max", "10").connect().await.expect("a client");
    let mut slow = client.watch(KeyRange::prefix("k")).await.expect("a watch");
    let mut fast = client.watch(KeyRange::prefix("k")).await.expect("a watch");
    for number in 0..500 {
        client.put(format!("k{number}"), vec![7; 10_000]).await.expect("a put");
        let mut told = 0;
        while told == 0 {
            told = soon("the event", fast.next()).await.expect("open").expect("an update").events.len();
        }
    }
    let mut revisions = Vec::new();
    while revisions.len() < 500 {
        let update = soon("the event", slow.next()).await.expect("open").expect("an update");
        revisions.extend(update.events.iter().map(|event| event.revision().0));
    }
    assert_eq!(revisions, (1..=500).collect::<Vec<u64>>());
}

#[tokio::test]
async fn closing_is_prompt_and_said() {
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let hanging = tokio::spawn({
        let client = client.clone();
        async move { client.get("hang").await }
    });
    server.hears(&Heard::Request("Get")).await;
    let started = Instant::now();
    soon("closing", client.close()).await;
    assert!(started.elapsed() < Duration::from_secs(1));
    server.hears(&Heard::Goodbye).await;
    let error = soon("the call", hanging).await.expect("no panic").expect_err("closed");
    assert_eq!(error.code(), ErrorCode::Closed);
    assert_eq!(client.state(), SessionState::Closed);
    assert_eq!(client.get("a").await.expect_err("closed").code(), ErrorCode::Closed);
    // Closing twice is fine.
    soon("closing", client.close()).await;
}

#[tokio::test]
async fn a_write_made_while_the_client_closes_is_known_not_to_be_sent() {
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    server.hears(&Heard::Goodbye).await;
    while !closing.is_finished() {
        let error = client.put("a", "v").await.expect_err("it is closing");
        assert_eq!((error.code(), error.applied()), (ErrorCode::Closed, Applied::No));
    }
}

#[tokio::test]
async fn the_last_handle_says_goodbye() {
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let another = client.clone();
    let watch = another.watch(KeyRange::All).await.expect("a watch");
    drop(client);
    drop(another);
    drop(watch);
    server.hears(&Heard::Goodbye).await;
}

#[test]
fn a_program_ends_with_calls_in_flight() {
    let server_runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = server_runtime.block_on(async { Server::start() });
    let builder = server.client();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = builder.connect().await.expect("a client");
            let _watch = client.watch(KeyRange::All).await.expect("a watch");
            for _ in 0..10 {
                let client = client.clone();
                tokio::spawn(async move { client.put("hang", "v").await });
            }
            tokio::task::yield_now().await;
        });
        drop(runtime);
        done.send(()).expect("the test waits");
    });
    ended.recv_timeout(support::PATIENCE).expect("it hangs at exit");
}

#[tokio::test]
async fn a_write_whose_answer_died_with_its_runtime_may_have_taken_effect_and_one_after_it_has_not() {
    let mut server = Server::start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let client = server.client().runtime(runtime.handle().clone()).connect().await.expect("a client");
    let write = tokio::spawn(client.put("hang", "v").into_future());
    server.hears(&Heard::Request("Put")).await;
    let read = tokio::spawn(client.get("hang").into_future());
    server.hears(&Heard::Request("Get")).await;
    let mut lease = Box::pin(client.lease(HANGING));
    assert!(lease.as_mut().now_or_never().is_none());
    server.hears(&Heard::Request("LeaseGrant")).await;
    runtime.shutdown_background();
    let error = soon("the end", write).await.expect("no panic").expect_err("no answer");
    assert_eq!((error.code(), error.applied()), (ErrorCode::Closed, Applied::Unknown));
    let error = soon("the end", lease).await.expect_err("no answer");
    assert_eq!((error.code(), error.applied()), (ErrorCode::Closed, Applied::Unknown));
    let error = soon("the end", read).await.expect("no panic").expect_err("no answer");
    assert_eq!((error.code(), error.applied()), (ErrorCode::Closed, Applied::No));
    let error = client.put("a", "v").await.expect_err("nobody is there");
    assert_eq!((error.code(), error.applied()), (ErrorCode::Closed, Applied::No));
}

#[tokio::test]
async fn a_lease_that_was_granted_to_a_future_dropped_before_it_knew_is_revoked() {
    struct Told(tokio::sync::Notify);
    impl std::task::Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let mut lease = Box::pin(client.lease(Duration::from_secs(60)));
    let told = Arc::new(Told(tokio::sync::Notify::new()));
    let waker = std::task::Waker::from(Arc::clone(&told));
    assert!(lease.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    soon("the answer", told.0.notified()).await;
    drop(lease);
    server.hears(&Heard::Request("LeaseRevoke")).await;
}

#[tokio::test]
async fn a_kept_lease_lives_and_is_reported_lost_when_nobody_vouches_for_it() {
    let mut server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let lease = client.lease(Duration::from_secs(2)).await.expect("a lease");
    assert_eq!(lease.ttl(), Duration::from_secs(2));
    let early = tokio::time::timeout(Duration::from_millis(2_500), lease.lost()).await;
    assert!(early.is_err(), "it is kept alive beyond its time to live");
    server.vouch(false);
    let started = Instant::now();
    soon("the loss", lease.lost()).await;
    assert!(started.elapsed() < Duration::from_secs(2), "told before the server could let it expire");
    assert!(lease.is_lost());
    drop(lease);
    server.hears(&Heard::Request("LeaseRevoke")).await;
}

#[tokio::test]
async fn a_registration_is_a_record_that_others_can_read() {
    let server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let registration = Registration::new("api").id("n1").endpoint("10.0.0.1:80").tag("blue").permanent();
    let registered = client.register(registration).await.expect("registered");
    let instances = client.instances("api").await.expect("instances");
    assert_eq!(instances, [registered.instance()]);
    assert_eq!(instances[0].endpoints[0].to_string(), "tcp://10.0.0.1:80");
    assert_eq!(client.services().await.expect("services").get("api"), Some(&1));
    let wrong = Registration::new("api").endpoint("nowhere");
    let error = client.register(wrong).await.expect_err("no endpoint");
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    let error = client.register(Registration::new("a/b")).await.expect_err("no name");
    assert_eq!(error.code(), ErrorCode::InvalidName);
}

#[tokio::test]
async fn the_state_is_visible_and_a_lost_server_does_not_end_a_watch() {
    let authority = Arc::new(Authority::new());
    let server = Server::with(Arc::clone(&authority), &[ALPN_CLIENT]);
    let client = server.client().connect().await.expect("a client");
    let mut states = client.states();
    let mut watch = client.watch(KeyRange::All).await.expect("a watch");
    soon("the snapshot", watch.next()).await.expect("open").expect("an update");
    server.cut();
    assert!(soon("the loss", states.wait_for(SessionState::Suspended)).await);
    let waiting = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(waiting.is_err(), "it waits for a server: {waiting:?}");
    let error = client.get("a").timeout(Duration::from_millis(200)).await.expect_err("no server");
    // It is there, and takes nobody in.
    assert_eq!(error.code(), ErrorCode::ServerBusy, "{error}");
    assert!(error.detail().contains(&server.address.to_string()), "{error}");
    client.close().await;
    assert!(soon("the end", watch.next()).await.is_none());
    assert_eq!(soon("the end", states.changed()).await, Some(SessionState::Closed));
}
