//! Watchers that never read, among many that do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hither::{Event, KeyRange, Start, Watch};
use hither_protocol::message::Subscribe;
use hither_protocol::{ALPN_CLIENT, WatchId};
use hither_tests::node::Node;
use hither_tests::raw::{Certificates, Raw};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::disk::monotonic;
use crate::machine::usage;

const VALUE_BYTES: usize = 1024;
const PREFIX: &str = "stalled/";
/// Watchers of one client.
const PER_CLIENT: usize = 100;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Watchers, and those of them that never read.
    pub watchers: (usize, usize),
    /// Events delivered to those who read.
    pub delivered: u64,
    /// Writes.
    pub writes: u64,
    /// From before the write to the application, for those who read: the median and the 99th of 100.
    pub latency: (Duration, Duration),
    /// Memory that the server took at most beyond what it had with all watches open, MiB.
    pub grown_mib: f64,
    /// Of which in the second half, MiB.
    pub grown_late_mib: f64,
}

/// Opens the watches, `stalled` of which nobody reads, and writes at `rate` for so long.
///
/// # Errors
/// A call fails, or a watch misses something.
pub async fn run(watchers: usize, stalled: usize, rate: u32, seconds: u64) -> anyhow::Result<Figures> {
    let node = Node::start().await;
    let latencies = Arc::new(Mutex::new(Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?));
    let delivered = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    let mut clients = Vec::new();
    let mut unread = Vec::new();
    for first in (0..watchers - stalled / 2).step_by(PER_CLIENT) {
        let client = node.client().share_watches(false).connect().await?;
        for number in first..(first + PER_CLIENT).min(watchers - stalled / 2) {
            let watch = client.watch(KeyRange::prefix(PREFIX)).start(Start::Now).await?;
            // Half of those who never read do so in an application that has the watch and does not ask it.
            if number < stalled - stalled / 2 {
                unread.push(watch);
            } else {
                readers.spawn(read(watch, latencies.clone(), delivered.clone()));
            }
        }
        clients.push(client);
    }
    // The other half never reads a byte.
    let raw = Raw::connect(node.addr(), ALPN_CLIENT, &Certificates::of(node.home())).await.context("a raw client")?;
    raw.connection().set_max_concurrent_uni_streams(10_000_u32.into());
    let (mut control, _lane) = raw.greet().await;
    for watch in 1..=(stalled / 2) as u64 {
        let subscribe = Subscribe {
            watch: WatchId(watch),
            lineage: None,
            range: KeyRange::prefix(PREFIX),
            start: Start::Now,
            mode: Default::default(),
            filter: Default::default(),
            previous: false,
            min_interval_ms: 0,
        };
        control.say(watch, &subscribe).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let writer = node.client().connect().await?;
    let before = usage(node.id())?.memory_mib;
    let (mut most, mut half) = (before, before);
    let start = Instant::now();
    let period = Duration::from_secs(1) / rate;
    let mut figures = Figures { watchers: (watchers, stalled), ..Figures::default() };
    let mut next_look = start;
    let mut value = vec![b'v'; VALUE_BYTES];
    while start.elapsed() < Duration::from_secs(seconds) {
        value[..8].copy_from_slice(&monotonic().to_be_bytes());
        writer.put(format!("{PREFIX}{}", figures.writes % 100), value.clone()).await?;
        figures.writes += 1;
        if Instant::now() >= next_look {
            next_look += Duration::from_millis(500);
            let now = usage(node.id())?.memory_mib;
            most = most.max(now);
            if start.elapsed() < Duration::from_secs(seconds) / 2 {
                half = half.max(now);
            }
        }
        let due = start + period * u32::try_from(figures.writes)?;
        tokio::time::sleep_until(due.into()).await;
    }
    let expected = figures.writes * (watchers - stalled) as u64;
    hither_tests::wait::until("everybody is told", Duration::from_secs(60), async || {
        (delivered.load(Ordering::Relaxed) >= expected).then_some(())
    })
    .await;
    if let Some(ended) = readers.try_join_next() {
        ended??;
    }
    figures.delivered = delivered.load(Ordering::Relaxed);
    ensure!(figures.delivered == expected, "{} events of {expected}", figures.delivered);
    ensure!(raw.is_open(), "the connection that never reads was closed");
    let at = |quantile| Duration::from_micros(latencies.lock().value_at_quantile(quantile));
    figures.latency = (at(0.5), at(0.99));
    (figures.grown_mib, figures.grown_late_mib) = (most - before, most - half);
    // Whoever had the watch and never asked is told everything when it does: nothing was dropped.
    if let Some(mut late) = unread.pop() {
        let mut seen = 0;
        while seen < figures.writes {
            seen += late.next().await.context("a watch ended")??.events.len() as u64;
        }
        ensure!(seen == figures.writes, "{seen} events of {}", figures.writes);
    }
    Ok(figures)
}

async fn read(
    mut watch: Watch,
    latencies: Arc<Mutex<Histogram<u64>>>,
    delivered: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    while let Some(update) = watch.next().await {
        let now = monotonic();
        for event in update?.events {
            let Event::Put { entry, .. } = event else { continue };
            let sent = entry.value.first_chunk().map_or(now, |bytes| u64::from_be_bytes(*bytes));
            latencies.lock().saturating_record(now.saturating_sub(sent) / 1_000);
            delivered.fetch_add(1, Ordering::Relaxed);
        }
    }
    anyhow::bail!("a watch ended")
}
