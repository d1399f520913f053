//! Nobody answers: the error says so, with host and port, in the time that was given.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use hither::{Applied, Error, ErrorCode};
use hither_tests::node::Node;
use hither_tests::relay::Relay;

const TIMEOUT: Duration = Duration::from_secs(1);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_within_the_connect_timeout_names_host_and_port() -> anyhow::Result<()> {
    let node = Node::start().await;
    // Two ways of not answering: nobody there at all, and somebody who never says a word.
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let nobody = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    for address in [silent.local_addr()?, nobody] {
        let start = Instant::now();
        let error = node.client_at(address).connect_timeout(TIMEOUT).connect().await.expect_err("nobody answers");
        assert!(start.elapsed() < TIMEOUT + SLACK, "{:?} for a timeout of {TIMEOUT:?}", start.elapsed());
        unavailable(&error, &address.to_string());
        assert_eq!(error.applied(), Applied::No);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_fail_in_time_when_every_server_is_stopped_and_work_again_when_one_is_back() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let client = node.client().request_timeout(TIMEOUT).connect().await?;
    client.put("u/a", "1").await?;
    node.kill().await;
    for _ in 0..3 {
        let start = Instant::now();
        let error = client.put("u/a", "2").await.expect_err("nobody answers");
        assert!(start.elapsed() < TIMEOUT + SLACK, "{:?} for a timeout of {TIMEOUT:?}", start.elapsed());
        assert!(matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Timeout), "{error}");
        assert!(error.to_string().contains(&node.addr().to_string()), "who did not answer? {error}");
    }
    node.restart().await;
    client.put("u/a", "3").timeout(Duration::from_secs(30)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_server_in_the_list_is_no_obstacle() -> anyhow::Result<()> {
    let node = Node::start().await;
    let dead = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let url = format!("hither://{dead},{}", node.addr());
    let client = hither::Client::builder().url(url).identity(node.home().identity()).connect().await?;
    client.put("u/a", "1").await?;
    Ok(())
}

/// A write that was cut off may have happened, and the error says that it is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_may_have_happened_is_said_to_be_unknown() -> anyhow::Result<()> {
    let node = Node::start().await;
    let relay = Relay::start(node.addr(), 41)?;
    let client = node.client_at(relay.addr()).request_timeout(TIMEOUT).connect().await?;
    client.put("u/a", "1").await?;
    relay.cut_way(hither_tests::relay::Way::Down);
    let error = client.put("u/a", "2").await.expect_err("no answer comes through");
    assert_eq!(error.applied(), Applied::Unknown, "{error}");
    Ok(())
}

fn unavailable(error: &Error, address: &str) {
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    assert!(error.to_string().contains(address), "who did not answer? {error}");
    assert!(error.is_retryable());
}
