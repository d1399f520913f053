//! What nobody waits for any more is given up at the server too.

use std::time::Duration;

use hither::{Event, KeyRange};
use hither_tests::node::Node;
use hither_tests::wait::{until, within};

use crate::watcher::PATIENT;

const GAUGE: &str = "hither_watches";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_watches_are_closed_at_the_server() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let mut watches = Vec::new();
    for number in 0..50 {
        watches.push(client.watch(KeyRange::prefix(format!("c/{number}/"))).await?);
    }
    open_watches(&node, 50.0).await;
    watches.truncate(20);
    open_watches(&node, 20.0).await;
    drop(watches);
    open_watches(&node, 0.0).await;
    assert_eq!(client.status().await?.watches, 0, "the status says what the gauge says");

    // A watch that is dropped while it is being opened is closed as well.
    for number in 0..50 {
        let opening = client.watch(KeyRange::prefix(format!("c/{number}/"))).into_future();
        let _ = tokio::time::timeout(Duration::from_micros(number * 20), opening).await;
    }
    client.get("c/after").await?;
    open_watches(&node, 0.0).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identical_watches_share_a_stream_until_the_last_is_dropped() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    client.put("c/a", "1").await?;
    let first = client.watch(KeyRange::prefix("c/")).await?;
    let mut second = client.watch(KeyRange::prefix("c/")).await?;
    open_watches(&node, 1.0).await;
    drop(first);
    client.put("c/a", "2").await?;
    let mut values = Vec::new();
    while values.last().is_none_or(|value| value != "2") {
        let update = within("the second goes on", PATIENT, second.next()).await.expect("it is open")?;
        for event in update.events {
            if let Event::Put { entry, .. } = event {
                values.push(String::from_utf8_lossy(&entry.value).into_owned());
            }
        }
    }
    assert_eq!(values, ["1", "2"], "it begins with the state, as if it were alone");
    open_watches(&node, 1.0).await;
    drop(second);
    open_watches(&node, 0.0).await;
    Ok(())
}

/// A process that is gone without a word takes its watches along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_clients_watches_are_gone() -> anyhow::Result<()> {
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let _watch = client.watch(KeyRange::All).await?;
    open_watches(&node, 1.0).await;
    client.close().await;
    open_watches(&node, 0.0).await;
    Ok(())
}

async fn open_watches(node: &Node, count: f64) {
    until("the gauge of open watches", PATIENT, async || (node.metric(GAUGE).await? == count).then_some(())).await;
}
