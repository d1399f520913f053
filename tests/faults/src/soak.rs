//! A long mixed load, under which nothing may grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use hither::{Client, Filter, KeyRange, Start};
use hither_tests::node::{Home, Node};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::machine::{Usage, slope, usage};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Caches, pools and the history of watches fill up first: this part of a run is not looked at.
const WARM: f64 = 0.4;
/// Keys that are written over and over.
const KEYS: u32 = 2_000;
/// History that is kept: small, so that it is full before the first look that counts.
const HISTORY: (&str, &str) = ("HITHER_WATCH_HISTORY_BYTES_MAX", "16MiB");

/// A look at the server, and when.
pub type Sample = (f64, Usage);

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Operations in all.
    pub operations: u64,
    /// Events that watches were told.
    pub events: u64,
    /// The looks that count, at minutes from the start.
    pub samples: Vec<Sample>,
}

impl Figures {
    /// How much something grew in an hour, and how much it was in the mean.
    #[must_use]
    pub fn growth(&self, of: fn(&Usage) -> f64) -> (f64, f64) {
        let points: Vec<_> = self.samples.iter().map(|(minutes, usage)| (minutes / 60.0, of(usage))).collect();
        #[expect(clippy::cast_precision_loss, reason = "no run has so many")]
        let mean = points.iter().map(|point| point.1).sum::<f64>() / points.len().max(1) as f64;
        (slope(&points), mean)
    }
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    operations: AtomicU64,
    events: AtomicU64,
}

/// Runs the load for so long.
///
/// # Errors
/// A call fails.
pub async fn run(minutes: f64) -> anyhow::Result<Figures> {
    let mut home = Home::new();
    home.set(HISTORY.0, HISTORY.1);
    let node = Node::start_in(home, &[]).await;
    let counts = Arc::new(Counts::default());
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let client = node.client().connect().await?;
        tasks.spawn(write(client.clone(), number, counts.clone()));
        tasks.spawn(read(client.clone(), number, counts.clone()));
        tasks.spawn(hold(client.clone(), number, counts.clone()));
        tasks.spawn(listen(client, counts.clone()));
    }
    for number in 0..2 {
        tasks.spawn(come_and_go(node.client(), number, counts.clone()));
    }
    let mut figures = Figures::default();
    let start = Instant::now();
    let in_minutes = |time: Instant| time.duration_since(start).as_secs_f64() / 60.0;
    while in_minutes(Instant::now()) < minutes {
        tokio::time::sleep(LOOK).await;
        let at = in_minutes(Instant::now());
        if at >= minutes * WARM {
            figures.samples.push((at, usage(node.id())?));
        }
        if let Some(ended) = tasks.try_join_next() {
            ended??;
            anyhow::bail!("a part of the load ended by itself");
        }
    }
    counts.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    figures.operations = counts.operations.load(Ordering::Relaxed);
    figures.events = counts.events.load(Ordering::Relaxed);
    ensure!(figures.events > 0, "no watch was told anything");
    Ok(figures)
}

impl Counts {
    fn done(&self) -> bool {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.stop.load(Ordering::Relaxed)
    }
}

/// Writes, overwrites and deletes, in transactions too.
async fn write(client: Client, number: u64, counts: Arc<Counts>) -> anyhow::Result<()> {
    let mut rng = SmallRng::seed_from_u64(number);
    loop {
        let key = format!("soak/{}", rng.random_range(0..KEYS));
        if rng.random_ratio(1, 8) {
            client.delete(key.as_str()).await?;
        } else {
            client.put(key.as_str(), vec![7; rng.random_range(0..512)]).await?;
        }
        if counts.done() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Reads keys and lists.
async fn read(client: Client, number: u64, counts: Arc<Counts>) -> anyhow::Result<()> {
    let mut rng = SmallRng::seed_from_u64(100 + number);
    loop {
        client.get(format!("soak/{}", rng.random_range(0..KEYS))).await?;
        if rng.random_ratio(1, 50) {
            client.range(KeyRange::prefix("soak/")).limit(200).await?;
        }
        if counts.done() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Takes leases, ties keys to them, and lets go of them.
async fn hold(client: Client, number: u64, counts: Arc<Counts>) -> anyhow::Result<()> {
    for round in 0_u64.. {
        let lease = client.lease(Duration::from_secs(2)).await?;
        client.put(format!("lease/{number}"), "").lease(lease.id()).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Every other one is dropped, and revoked in the background.
        if round.is_multiple_of(2) {
            lease.revoke().await?;
        }
        if counts.done() {
            break;
        }
    }
    Ok(())
}

/// Opens watches, listens for a while, and closes them.
async fn listen(client: Client, counts: Arc<Counts>) -> anyhow::Result<()> {
    loop {
        let filter = Filter { puts: true, deletes: true, liveness: true };
        let mut watch = client.watch(KeyRange::prefix("soak/")).start(Start::Now).filter(filter).await?;
        for _ in 0..200 {
            // The writers may have stopped first.
            let Ok(update) = tokio::time::timeout(LOOK, watch.next()).await else { break };
            let Some(update) = update else { anyhow::bail!("a watch ended") };
            counts.events.fetch_add(update?.events.len() as u64, Ordering::Relaxed);
        }
        if counts.done() {
            return Ok(());
        }
    }
}

/// Connects, writes, and leaves, with a goodbye or without.
async fn come_and_go(builder: hither::ClientBuilder, number: u64, counts: Arc<Counts>) -> anyhow::Result<()> {
    for round in 0_u64.. {
        let client = builder.clone().connect().await?;
        client.put(format!("guest/{number}"), round.to_string()).await?;
        if round.is_multiple_of(2) {
            client.close().await;
        }
        if counts.done() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
