//! Watchers that never read, among many that do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use hither::{Entry, Event, Key, KeyRange, Revision, Start, UpdateKind, Watch};
use hither_protocol::message::Subscribe;
use hither_protocol::{ALPN_CLIENT, WatchId};
use hither_tests::node::{Home, Node};
use hither_tests::raw::{Certificates, Raw};
use hither_tests::wait::{until, within};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::disk::monotonic;
use crate::machine::{slope, usage};

const VALUE_BYTES: usize = 1024;
const PREFIX: &str = "stalled/";
/// Watchers of one client.
const PER_CLIENT: usize = 100;
/// Keys are written in turn, a fifth of them in each folder. Whoever reads watches one folder, whoever does not all of
/// them: the machine has enough to do with what is read.
const KEYS: u64 = 100;
const FOLDERS: u64 = 5;
/// Puts under way at most: fewer than there are keys, so that none overtakes one of the same key.
const AT_ONCE: usize = 16;
/// History that is kept: small, so that it is full before the second half.
const HISTORY: (&str, &str) = ("HITHER_WATCH_HISTORY_BYTES_MAX", "16MiB");
/// For all that is owed in the end.
const PATIENT: Duration = Duration::from_secs(60);

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
    /// The slope of its memory in the second half, when history is full, MiB in a minute.
    pub late_mib_per_min: f64,
    /// Watches whose applications asked in the end only, and those of them that history no longer reached.
    pub late: (usize, usize),
}

/// Opens the watches, `stalled` of which nobody reads, and writes at `rate` for so long.
///
/// # Errors
/// A call fails, or a watch misses something.
pub async fn run(watchers: usize, stalled: usize, rate: u32, seconds: u64) -> anyhow::Result<Figures> {
    let mut home = Home::new();
    home.set(HISTORY.0, HISTORY.1);
    let node = Node::start_in(home, &[]).await;
    let latencies = Arc::new(Mutex::new(Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?));
    let delivered = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    let mut clients = Vec::new();
    let mut unread = Vec::new();
    let mut readers_of = [0_u64; FOLDERS as usize];
    let mut expected = 0;
    for first in (0..watchers - stalled / 2).step_by(PER_CLIENT) {
        let client = node.client().share_watches(false).connect().await?;
        for number in first..(first + PER_CLIENT).min(watchers - stalled / 2) {
            // Half of those who never read do so in an application that has the watch and does not ask it.
            if number < stalled - stalled / 2 {
                unread.push(client.watch(KeyRange::prefix(PREFIX)).start(Start::Now).await?);
            } else {
                let folder = number as u64 % FOLDERS;
                readers_of[usize::try_from(folder)?] += 1;
                let watch = client.watch(KeyRange::prefix(folder_of(folder))).start(Start::Now).await?;
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
    let mut most = before;
    let mut late = Vec::new();
    let mut puts = JoinSet::new();
    let start = Instant::now();
    let period = Duration::from_secs(1) / rate;
    let mut figures = Figures { watchers: (watchers, stalled), ..Figures::default() };
    let mut next_look = start;
    let mut value = vec![b'v'; VALUE_BYTES];
    while start.elapsed() < Duration::from_secs(seconds) {
        value[..8].copy_from_slice(&monotonic().to_be_bytes());
        let folder = figures.writes % FOLDERS;
        if puts.len() == AT_ONCE
            && let Some(done) = puts.join_next().await
        {
            done??;
        }
        let put = writer.put(format!("{}{}", folder_of(folder), figures.writes % KEYS), value.clone());
        puts.spawn(put.into_future());
        figures.writes += 1;
        expected += readers_of[usize::try_from(folder)?];
        if Instant::now() >= next_look {
            next_look += Duration::from_millis(500);
            let now = usage(node.id())?.memory_mib;
            most = most.max(now);
            if start.elapsed() >= Duration::from_secs(seconds) / 2 {
                late.push((start.elapsed().as_secs_f64() / 60.0, now));
            }
        }
        let due = start + period * u32::try_from(figures.writes)?;
        tokio::time::sleep_until(due.into()).await;
    }
    while let Some(done) = puts.join_next().await {
        done??;
    }
    until("everybody is told", PATIENT, async || (delivered.load(Ordering::Relaxed) >= expected).then_some(())).await;
    if let Some(ended) = readers.try_join_next() {
        ended??;
    }
    figures.delivered = delivered.load(Ordering::Relaxed);
    ensure!(figures.delivered == expected, "{} events of {expected}", figures.delivered);
    ensure!(raw.is_open(), "the connection that never reads was closed");
    let at = |quantile| Duration::from_micros(latencies.lock().value_at_quantile(quantile));
    figures.latency = (at(0.5), at(0.99));
    (figures.grown_mib, figures.late_mib_per_min) = (most - before, slope(&late));
    // Whoever had the watch and never asked is told everything when it does: nothing was dropped.
    let there = writer.range(KeyRange::prefix(PREFIX)).await?.entries;
    let last = there.iter().map(|entry| entry.mod_revision).max().context("nothing was written")?;
    for watch in unread {
        let was_reset = within("who asks late is told", PATIENT, catch_up(watch, figures.writes, &there, last)).await?;
        figures.late.0 += 1;
        figures.late.1 += usize::from(was_reset);
    }
    Ok(figures)
}

fn folder_of(folder: u64) -> String {
    format!("{PREFIX}{folder}/")
}

/// Reads a watch up to the last write: each of the writes if history reaches so far, and in any case what is there. Whether
/// there was a reset.
async fn catch_up(mut watch: Watch, writes: u64, there: &[Entry], last: Revision) -> anyhow::Result<bool> {
    let (mut seen, mut was_reset, mut known) = (0, false, BTreeMap::<Key, Revision>::new());
    let mut told = Revision::ZERO;
    while told < last {
        let update = watch.next().await.context("a watch ended")??;
        was_reset |= update.kind == UpdateKind::Reset;
        told = update.revision;
        for event in update.events {
            let Event::Put { entry, .. } = event else { anyhow::bail!("nothing was deleted, and a watch says so") };
            seen += 1;
            ensure!(known.get(&entry.key) < Some(&entry.mod_revision), "{} was told twice or out of order", entry.key);
            known.insert(entry.key, entry.mod_revision);
        }
    }
    ensure!(was_reset || seen == writes, "{seen} events of {writes}");
    let is_told = there.iter().all(|entry| known.get(&entry.key) == Some(&entry.mod_revision));
    ensure!(is_told && known.len() == there.len(), "who asked late knows something else than what is there");
    Ok(was_reset)
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
