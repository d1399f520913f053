//! Loss of power under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hither::{Applied, Client, Event, KeyRange, Put, TxnOp, UpdateKind, Watch};
use hither_tests::node::{Home, Node};
use hither_tests::wait::{until, within};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::RwLock;
use tokio::task::{JoinHandle, JoinSet};

use crate::disk::{FaultyDisk, Left, Lost, Place};
use crate::ledger::Ledger;

const WRITERS: usize = 24;
const LEASES: usize = 8;
const PREFIX: &str = "power/";
/// Longer than any call may take while the node comes and goes.
const PATIENT: Duration = Duration::from_secs(60);
/// Of a lease that its client keeps: several times what a restart takes, and not much more.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// Load between two losses.
const LOAD: std::ops::Range<u64> = 100..900;

/// What the rounds came to.
#[derive(Debug, Default)]
pub struct Figures {
    /// Losses of power.
    pub rounds: usize,
    /// Writes that were acknowledged, and are all there.
    pub acknowledged: usize,
    /// What the losses took.
    pub lost: Lost,
    /// Syncs that the disk was asked for.
    pub syncs: u64,
    /// From the start of a process to its ready line, the longest.
    pub restart_max: Duration,
}

/// A node on a disk that forgets, and those who use it.
#[derive(Debug)]
pub struct Plant {
    node: Node,
    disk: FaultyDisk,
    rng: SmallRng,
    client: Client,
    load: Arc<Load>,
    writers: JoinSet<anyhow::Result<()>>,
    watcher: JoinHandle<anyhow::Result<()>>,
    leases: Vec<hither::Lease>,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    /// Held by writers for each write, and by whoever wants none.
    gate: RwLock<()>,
    ledger: Mutex<Ledger>,
    told: Mutex<Vec<(u64, String)>>,
    /// What the watch knows everything up to.
    known: AtomicU64,
}

impl Plant {
    /// Starts the node and the load.
    ///
    /// # Errors
    /// Those of the disk and of the client.
    pub async fn start(seed: u64) -> anyhow::Result<Self> {
        let mut home = Home::new();
        let disk = FaultyDisk::under(&mut home)?;
        let node = Node::start_in(home, &[]).await;
        let client = node.client().request_timeout(PATIENT).connect().await?;
        let load = Arc::new(Load::default());
        let watcher = tokio::spawn(listen(client.watch(KeyRange::prefix(PREFIX)).await?, load.clone()));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(client.clone(), writer, load.clone()));
        }
        let mut leases = Vec::new();
        for number in 0..LEASES {
            let lease = client.lease(LEASE_TTL).await?;
            client.put(format!("lease/{number}"), "held").lease(lease.id()).await?;
            leases.push(lease);
        }
        let figures = Figures::default();
        Ok(Self { node, disk, rng: SmallRng::seed_from_u64(seed), client, load, writers, watcher, leases, figures })
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &FaultyDisk {
        &self.disk
    }

    /// Lets the load run on, cuts the power, starts the node again and looks whether all that was acknowledged is there.
    /// `torn`: of what was not synced, some blocks are left, as a disk that writes in its own order leaves them.
    ///
    /// # Errors
    /// The promise that did not hold.
    pub async fn round(&mut self, torn: bool) -> anyhow::Result<()> {
        let before = self.load.ledger.lock().len();
        let target = before + WRITERS;
        until("the load goes on", PATIENT, async || (self.load.ledger.lock().len() >= target).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(LOAD))).await;
        // Acknowledged, and revoked before the power fails: it must not come back.
        let revoked = self.client.lease_grant(LEASE_TTL).await?.lease;
        self.client.put("lease/revoked", "").lease(revoked).await?;
        self.client.lease_revoke(revoked).await?;

        self.node.kill().await;
        let left = if torn { Left::SomeBlocks(&mut self.rng) } else { Left::Nothing };
        let lost = self.disk.cut_power(left)?;
        let start = Instant::now();
        self.node.restart().await;
        self.figures.restart_max = self.figures.restart_max.max(start.elapsed());
        self.figures.lost.files += lost.files;
        self.figures.lost.bytes += lost.bytes;
        self.figures.rounds += 1;

        // A client of its own: nothing that it reads comes from what the others know.
        let reader = self.node.client().request_timeout(PATIENT).connect().await?;
        // Waits for what was under way, which the session carries over the loss, and lets nothing new begin.
        let _pause = within("what was under way is answered", PATIENT, self.load.gate.write()).await;
        let ledger = self.load.ledger.lock().clone();
        let rounds = self.figures.rounds;
        ledger.verify(&reader, PREFIX).await.with_context(|| format!("{} writes, {rounds} losses", ledger.len()))?;
        ensure!(reader.get("lease/revoked").await?.is_none(), "a lease that was revoked has its key back");
        let gone = reader.lease_info(revoked).await.err().map(|error| error.code());
        ensure!(gone == Some(hither::ErrorCode::LeaseNotFound), "a lease that was revoked is back: {gone:?}");
        let held = reader.range(KeyRange::prefix("lease/")).count().await?;
        ensure!(held == LEASES as u64, "{held} of {LEASES} keys of leases that are kept are there");
        reader.close().await;
        Ok(())
    }

    /// Ends the load, and looks whether one watch over all of it was told everything once.
    ///
    /// # Errors
    /// The promise that did not hold.
    pub async fn finish(mut self) -> anyhow::Result<Figures> {
        self.load.stop.store(true, Ordering::Relaxed);
        while let Some(writer) = within("the writers end", PATIENT, self.writers.join_next()).await {
            writer??;
        }
        let last = self.load.ledger.lock().last().0;
        until("the watch is told everything", PATIENT, async || {
            (self.watcher.is_finished() || self.load.known.load(Ordering::Relaxed) >= last).then_some(())
        })
        .await;
        if self.watcher.is_finished() {
            (&mut self.watcher).await??;
        }
        self.watcher.abort();
        ensure!(!self.leases.iter().any(hither::Lease::is_lost), "a client lost a lease that it kept");
        let reader = self.node.client().connect().await?;
        let ledger = std::mem::take(&mut *self.load.ledger.lock());
        ledger.verify(&reader, PREFIX).await?;
        ledger.compare(&self.load.told.lock())?;
        self.figures.acknowledged = ledger.len();
        self.figures.syncs = self.disk.get(Place::Syncs)?;
        ensure!(self.figures.lost.bytes > 0, "nothing was lost in any round: no fault was tested");
        Ok(std::mem::take(&mut self.figures))
    }
}

/// Writes keys that nobody wrote before: one, now and then two at once, and now and then deletes one again.
async fn write(client: Client, writer: usize, load: Arc<Load>) -> anyhow::Result<()> {
    for round in 0_u64.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        let _open = load.gate.read().await;
        let key = |part: &str| format!("{PREFIX}{writer}/{round}{part}");
        let (one, value) = (key(""), round.to_string());
        let done = match round % 8 {
            6 => {
                let other = key("-twin");
                let put = |key: &String| {
                    TxnOp::Put(Put {
                        key: key.as_str().into(),
                        value: value.clone().into(),
                        lease: None,
                        previous: false,
                    })
                };
                client.txn().then(put(&one)).then(put(&other)).await.map(|reply| {
                    load.ledger.lock().wrote(reply.revision, &[(one, value.clone()), (other, value.clone())]);
                })
            }
            7 => {
                let old = format!("{PREFIX}{writer}/{}", round - 7);
                load.ledger.lock().deletes(&old);
                client.delete(old.as_str()).await.map(|reply| load.ledger.lock().deleted(reply.revision, &old))
            }
            _ => client
                .put(one.as_str(), value.as_str())
                .await
                .map(|reply| load.ledger.lock().wrote(reply.revision, &[(one, value)])),
        };
        // The session bridges a restart, so nothing stays unknown.
        if let Err(error) = done {
            ensure!(error.applied() == Applied::No && error.is_retryable(), "writer {writer}: {error}");
        }
    }
    Ok(())
}

async fn listen(mut watch: Watch, load: Arc<Load>) -> anyhow::Result<()> {
    while let Some(update) = watch.next().await {
        let update = update?;
        ensure!(update.kind != UpdateKind::Reset, "history was there: nothing had to be compared");
        let mut told = load.told.lock();
        for event in &update.events {
            let key = match event {
                Event::Put { entry, .. } => &entry.key,
                Event::Delete { key, .. } => key,
                Event::Liveness { .. } => continue,
            };
            told.push((event.revision().0, String::from_utf8_lossy(key.as_bytes()).into_owned()));
        }
        load.known.store(update.revision.0, Ordering::Relaxed);
    }
    Ok(())
}
