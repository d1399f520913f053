//! Who may not come in does not, and nobody else is disturbed.

use hither_protocol::error::CloseCode;
use hither_protocol::{ALPN_CLIENT, ALPN_PEER, ClusterId};
use hither_tests::node::Node;
use hither_tests::raw::{Certificates, Raw, hello};
use quinn::ConnectionError;

/// TLS alerts, as QUIC carries them.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_certificate_is_refused() -> anyhow::Result<()> {
    let node = Node::start().await;
    refused(&node, &Certificates::of(node.home()).without_own()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca_is_refused() -> anyhow::Result<()> {
    let node = Node::start().await;
    refused(&node, &Certificates::of(node.home()).forged()).await
}

async fn refused(node: &Node, certificates: &Certificates) -> anyhow::Result<()> {
    let friend = node.client().connect().await?;
    // In TLS 1.3 the client may believe for a moment that it is connected; it is never answered.
    if let Ok(raw) = Raw::connect(node.addr(), ALPN_CLIENT, certificates).await {
        if let Some(mut lane) = raw.try_lane().await {
            lane.say(0, &hello()).await;
            assert!(lane.next().await.is_none(), "a stranger was welcomed");
        }
        raw.closed().await;
    }
    friend.put("s/a", "1").await?;
    assert_eq!(friend.metrics().reconnects, 0, "a stranger disturbed a friend");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_refused_in_the_handshake() -> anyhow::Result<()> {
    let node = Node::start().await;
    let friend = node.client().connect().await?;
    let certificates = Certificates::of(node.home());
    for alpn in [&b"h3"[..], b"hither/0", b"hither/2", ALPN_PEER, b""] {
        let error = Raw::connect(node.addr(), alpn, &certificates).await.err();
        let Some(ConnectionError::ConnectionClosed(close)) = &error else {
            panic!("{:?} led to {error:?}", alpn.escape_ascii().to_string());
        };
        assert_eq!(u64::from(close.error_code), NO_APPLICATION_PROTOCOL, "{close}");
    }
    friend.put("s/a", "1").await?;
    assert_eq!(friend.metrics().reconnects, 0, "a stranger disturbed a friend");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_cluster_is_told_so() -> anyhow::Result<()> {
    let node = Node::start().await;
    let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await?;
    let mut lane = raw.lane().await;
    let mut hello = hello();
    hello.cluster = Some(ClusterId([7; 16]));
    lane.say(0, &hello).await;
    assert_eq!(raw.closed().await, Some(CloseCode::ClusterMismatch));
    Ok(())
}

/// The same from the client's side: another cluster's CA is not this one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_does_not_fit_another_cluster() -> anyhow::Result<()> {
    let (ours, theirs) = (Node::start().await, Node::start().await);
    let builder = hither::Client::builder().url(theirs.url()).identity(ours.home().identity());
    let error = builder.connect().await.expect_err("another cluster");
    assert_eq!(error.code(), hither::ErrorCode::ClusterMismatch, "{error}");
    Ok(())
}
