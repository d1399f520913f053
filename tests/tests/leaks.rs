//! A client that comes and goes leaves nothing behind, here or at the server. A process of its own: it counts its
//! threads and files.

use hither_tests::node::Node;
use hither_tests::wait::until;

const TIMES: usize = 200;
const SETTLED: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_leave_no_thread_and_no_file_behind() -> anyhow::Result<()> {
    let node = Node::start().await;
    // The first ones pay for what stays: threads of the runtime, caches.
    for _ in 0..5 {
        come_and_go(&node).await?;
    }
    let count = |pid: &str, what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count);
    let server = node.id().to_string();
    let ours = (count("self", "task")?, count("self", "fd")?);
    let theirs = (count(&server, "task")?, count(&server, "fd")?);
    for _ in 0..TIMES {
        come_and_go(&node).await?;
    }
    until("this process is as it was", SETTLED, async || {
        let now = (count("self", "task").ok()?, count("self", "fd").ok()?);
        (now.0 <= ours.0 && now.1 <= ours.1).then_some(())
    })
    .await;
    until("the server is as it was", SETTLED, async || {
        let now = (count(&server, "task").ok()?, count(&server, "fd").ok()?);
        (now.0 <= theirs.0 && now.1 <= theirs.1 + 2).then_some(())
    })
    .await;
    let status = node.client().connect().await?.status().await?;
    assert_eq!(status.connections, 1, "connections of clients that are gone are still counted");
    Ok(())
}

async fn come_and_go(node: &Node) -> anyhow::Result<()> {
    let client = node.client().connect().await?;
    client.get("leak").await?;
    client.close().await;
    Ok(())
}
