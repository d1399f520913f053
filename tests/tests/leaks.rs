//! A client that comes and goes leaves nothing behind, here or at the server. A process of its own: it counts its
//! threads and files.

use std::time::Duration;

use anyhow::Context;
use hither_tests::node::Node;

const SETTLED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_and_go_leave_no_thread_no_file_and_no_memory_behind() -> anyhow::Result<()> {
    let times = std::env::var("HITHER_OPENS").map_or(Ok(200), |times| times.parse())?;
    let node = Node::start().await;
    // The first ones pay for what stays: threads of the runtime, the arenas of the allocator.
    for _ in 0..(times / 10).max(80) {
        come_and_go(&node).await?;
    }
    let server = node.id().to_string();
    let (ours, theirs) = (Held::by("self")?, Held::by(&server)?);
    for _ in 0..times {
        come_and_go(&node).await?;
    }
    let grown = (ours.settles("self", 0).await?, theirs.settles(&server, 2).await?);
    println!("after {times} clients: {} KiB more here, {} KiB more at the server", grown.0, grown.1);
    // An allocator keeps a little of what it once gave, for each of its threads: at a client the 2 MiB that it receives into.
    // A client that stayed would be two hundred times 200 KiB.
    assert!(grown.0 < 12 << 10 && grown.1 < 32 << 10, "{grown:?}");
    let status = node.client().connect().await?.status().await?;
    assert_eq!(status.connections, 1, "connections of clients that are gone are still counted");
    Ok(())
}

/// What a process has of the system.
#[derive(Debug)]
struct Held {
    threads: usize,
    files: Vec<String>,
    kib: i64,
}

impl Held {
    fn by(pid: &str) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?
            .filter_map(|file| Some(std::fs::read_link(file.ok()?.path()).ok()?.display().to_string()))
            // Tables of the state come and go with the data, and an own setting bounds them.
            .filter(|file| !file.ends_with(".sst"));
        Ok(Self {
            threads: std::fs::read_dir(format!("/proc/{pid}/task"))?.count(),
            files: files.collect(),
            kib: memory.trim().trim_end_matches(" kB").parse()?,
        })
    }

    /// Waits until it has no more threads and files than this, some files aside that it opens and closes as it goes.
    /// Returns by how many KiB it has grown.
    async fn settles(&self, pid: &str, spare: usize) -> anyhow::Result<i64> {
        let deadline = tokio::time::Instant::now() + SETTLED;
        loop {
            let now = Self::by(pid)?;
            if now.threads <= self.threads && now.files.len() <= self.files.len() + spare {
                return Ok(now.kib - self.kib);
            }
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "it has more than before: {self:#?}, now {now:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn come_and_go(node: &Node) -> anyhow::Result<()> {
    let client = node.client().connect().await?;
    client.get("leak").await?;
    client.close().await;
    Ok(())
}
