//! A disk that refuses ends the process at once: nothing is acknowledged after it, and no sync is tried again.

use std::time::Duration;

use hither::{Applied, Client};
use hither_faults::disk::{FaultyDisk, Left, Place, monotonic};
use hither_tests::node::{Home, Node};

const PATIENT: Duration = Duration::from_secs(60);
/// From the refusal to the end of the process.
const END: Duration = Duration::from_secs(1);
/// What a server exits with whose disk has refused.
const REFUSED: i32 = 74;
/// The log alone, and the state alone, on the control page.
const LOG: u64 = 1;
const STATE: u64 = 2;

struct Scene {
    node: Node,
    disk: FaultyDisk,
    client: Client,
    acknowledged: u64,
}

impl Scene {
    async fn open() -> anyhow::Result<Self> {
        let mut home = Home::new();
        let disk = FaultyDisk::under(&mut home)?;
        let node = Node::start_in(home, &[]).await;
        let client = node.client().request_timeout(PATIENT).connect().await?;
        let mut scene = Self { node, disk, client, acknowledged: 0 };
        for _ in 0..20 {
            scene.put("").await?;
        }
        Ok(scene)
    }

    async fn put(&mut self, filler: &str) -> Result<(), hither::Error> {
        self.client.put(format!("r/{}", self.acknowledged), format!("{}{filler}", self.acknowledged)).await?;
        self.acknowledged += 1;
        Ok(())
    }

    /// Writes until the process has ended, and returns how long that took from the moment of the refusal.
    async fn end(&mut self, since: impl Fn(&FaultyDisk) -> u64, filler: &str) -> anyhow::Result<Duration> {
        let short = Duration::from_secs(2);
        let deadline = std::time::Instant::now() + PATIENT;
        let status = loop {
            if let Some(status) = self.node.process().ended() {
                break status;
            }
            assert!(std::time::Instant::now() < deadline, "the process goes on");
            let key = format!("r/{}", self.acknowledged);
            let put = self.client.put(key, format!("{}{filler}", self.acknowledged)).timeout(short).into_future();
            tokio::pin!(put);
            let done = loop {
                tokio::select! {
                    done = &mut put => break Some(done),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {
                        if self.node.process().ended().is_some() { break None }
                    }
                }
            };
            match done {
                Some(Ok(_)) => self.acknowledged += 1,
                Some(Err(error)) => anyhow::ensure!(error.applied() == Applied::No || error.is_retryable(), "{error}"),
                None => {}
            }
        };
        let took = Duration::from_nanos(monotonic().saturating_sub(since(&self.disk)));
        assert_eq!(status.code(), Some(REFUSED), "{}", self.node.log());
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log());
        Ok(took)
    }

    /// The process ends by a failed sync of these files, the next one goes on with what it reads, and then the power fails.
    async fn goes_on_before_the_power_fails(mut self, files: u64, filler: &str) -> anyhow::Result<()> {
        self.disk.set(Place::Target, files)?;
        self.disk.set(Place::FailSync, 3)?;
        self.end(|disk| disk.get(Place::FailedAt).expect("the page can be read"), filler).await?;
        assert_eq!(self.disk.get(Place::Repeated)?, 0, "the sync was tried again");
        self.node.restart().await;
        for _ in 0..20 {
            self.put("").await?;
        }
        self.node.kill().await;
        let lost = self.disk.cut_power(Left::Nothing)?;
        println!("{lost:?}");
        self.everything_is_there().await
    }

    /// Starts the node again, and finds what was acknowledged.
    async fn everything_is_there(mut self) -> anyhow::Result<()> {
        self.node.restart().await;
        let reader = self.node.client().connect().await?;
        for number in 0..self.acknowledged {
            let entry = reader.get(format!("r/{number}")).await?;
            let value = entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).unwrap_or_default();
            assert!(value.starts_with(&number.to_string()), "r/{number} was acknowledged and is {value:?}");
        }
        self.client.put("r/after", "").await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_log_ends_the_process_within_a_second_and_is_never_tried_again() -> anyhow::Result<()> {
    let mut scene = Scene::open().await?;
    scene.disk.set(Place::Target, LOG)?;
    scene.disk.set(Place::FailSync, 3)?;
    let took = scene.end(|disk| disk.get(Place::FailedAt).expect("the page can be read"), "").await?;
    println!("the process ended {took:?} after a failed sync of the log");
    assert!(took < END, "{took:?}");
    assert_eq!(scene.disk.get(Place::Repeated)?, 0, "the sync was tried again");
    // What the failed sync took from the page cache is gone for good.
    scene.disk.cut_power(Left::Nothing)?;
    scene.everything_is_there().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_state_ends_the_process_within_a_second() -> anyhow::Result<()> {
    let mut scene = Scene::open().await?;
    scene.disk.set(Place::Target, STATE)?;
    scene.disk.set(Place::FailSync, 1)?;
    // The state is made durable once so much was written.
    let took = scene.end(|disk| disk.get(Place::FailedAt).expect("the page can be read"), &"x".repeat(900_000)).await?;
    println!("the process ended {took:?} after a failed sync of the state");
    assert!(took < END, "{took:?}");
    scene.disk.cut_power(Left::Nothing)?;
    scene.everything_is_there().await
}

/// What a failed sync has left unwritten is read by the next process and counts as written: its syncs do not write it. It
/// is of several blocks, since what follows it is written with the block in which it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_next_process_reads_after_a_failed_sync_of_the_log_is_there_when_the_power_fails() -> anyhow::Result<()>
{
    Scene::open().await?.goes_on_before_the_power_fails(LOG, &"x".repeat(20_000)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_next_process_reads_after_a_failed_sync_of_the_state_is_there_when_the_power_fails()
-> anyhow::Result<()> {
    Scene::open().await?.goes_on_before_the_power_fails(STATE, &"x".repeat(900_000)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_for_which_there_is_no_room_ends_the_process_and_costs_nothing_acknowledged() -> anyhow::Result<()> {
    const NO_SPACE: u64 = 28;
    let mut scene = Scene::open().await?;
    scene.disk.set(Place::RefuseWrites, NO_SPACE)?;
    let refused = monotonic();
    let took = scene.end(|_| refused, "").await?;
    println!("the process ended {took:?} after a write was refused");
    assert!(took < END, "{took:?}");
    scene.disk.set(Place::RefuseWrites, 0)?;
    scene.disk.cut_power(Left::Nothing)?;
    scene.everything_is_there().await
}
