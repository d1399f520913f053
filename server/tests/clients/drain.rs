use std::time::Duration;

use hither_protocol::error::CloseCode;
use hither_protocol::message::{Consistency, Context, End, EndReason, Get, GoAway, Put, Reply, Start};
use hither_protocol::{ErrorCode, KeyRange, Revision};

use crate::harness::{Server, closed_with, within};

#[tokio::test]
async fn a_node_that_goes_down_says_so_and_ends_what_it_serves_in_good_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (mut stream, _) = client.watch(1, KeyRange::prefix("a/"), Start::Now).await;
    client.put("a/1", "1").await;
    // A request that waits for a revision which is yet to come keeps the node from ending.
    let next = server.engine.machine().state.read().revision().next();
    let waiting =
        client.ask(Get { key: "a/2".into(), consistency: Consistency::AtLeast(next) }, &Context::default()).await;
    let engine = server.engine.clone();
    until_asked(&server).await;
    let shutdown = tokio::spawn(server.node.shutdown());
    assert!(client.control.recv.message::<GoAway>().await.retry_after_ms > 0);
    assert_eq!(stream.message::<End>().await, End { reason: EndReason::ShuttingDown });
    // What is new is refused, what was under way is answered.
    let put = Put { key: "a/2".into(), value: "2".into(), lease: None, previous: false };
    let refusal = client.call(put).await.expect_err("is refused");
    assert_eq!((refusal.code, refusal.applied), (ErrorCode::ShuttingDown, hither_protocol::Applied::No));
    raise_revision(&engine).await;
    let frame = client.requests.recv.next().await;
    assert_eq!(frame.header.id, waiting.0);
    assert!(matches!(Reply::decode(&frame).expect("decodes"), Ok((_, Reply::Get(_)))));
    assert_eq!(closed_with(&client.stranger.closed().await), Some(CloseCode::ShuttingDown));
    within("the end", shutdown).await.expect("ends");
}

#[tokio::test]
async fn a_shutdown_waits_no_longer_than_it_was_told() {
    let server = Server::start_with(|config| config.clients.drain_timeout = Duration::from_millis(50)).await;
    let mut client = server.client().await;
    let never = Get { key: "a".into(), consistency: Consistency::AtLeast(Revision(1_000_000)) };
    client.ask(never, &Context::default()).await;
    until_asked(&server).await;
    let started = std::time::Instant::now();
    within("the end", server.node.shutdown()).await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(closed_with(&client.stranger.closed().await), Some(CloseCode::ShuttingDown));
}

/// Waits until a request is being worked on.
async fn until_asked(server: &Server) {
    let address = server.node.admin_addr().expect("listens");
    within("a request under way", async {
        while !crate::metrics::get(address, "/metrics").await.1.contains("hither_requests_in_flight 1\n") {}
    })
    .await;
}

/// Makes a change as the server itself would.
async fn raise_revision(engine: &hither_server::engine::Engine) {
    use hither_protocol::{Namespace, UnixMillis};
    use hither_state::{Action, Command};
    let put = Put { key: "by-the-server".into(), value: "1".into(), lease: None, previous: false };
    let command = Command {
        namespace: Namespace::default(),
        principal: std::sync::Arc::default(),
        retry: None,
        at: UnixMillis(1),
        action: Action::Put(put),
    };
    engine.propose(command).await.expect("is applied");
}
