//! Loss of power under load.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hither::{Client, KeyRange};
use hither_tests::node::{Home, Node};
use hither_tests::wait::{until, within};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinHandle, JoinSet};

use crate::disk::{FaultyDisk, Left, Place};
use crate::load::{self, Load, PREFIX};
use crate::losses::{Figures, Layout};

const WRITERS: usize = 24;
const LEASES: usize = 8;
/// Longer than any call may take while the node comes and goes.
const PATIENT: Duration = Duration::from_secs(60);
/// Of a lease that its client keeps: several times what a restart takes, and not much more.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// Microseconds that a sync takes longer before a cut, so that it falls between a write and its sync.
const SLOW_SYNC: u64 = 10_000;

/// A segment is filled and purged in less, most of the time.
const AIM: Duration = Duration::from_secs(3);

/// How soon the state on disk is durable and the log purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As shipped: after 16 MiB or a minute. In a round of a second all is in the log, and has to be taken from it.
    Shipped,
    /// So soon that each round has tables, and the log is purged and its segments removed beside them.
    Brisk,
}

impl Pace {
    fn set(self, home: &mut Home) {
        if self == Self::Brisk {
            home.set("HITHER_STATE_FLUSH_INTERVAL", "100ms");
            home.set("HITHER_RAFT_SNAPSHOT_ENTRIES", "300");
            home.set("HITHER_RAFT_LOG_ENTRIES_KEPT", "100");
        }
    }

    /// Milliseconds of load between two losses. The log is weighed twice a second, and it takes two looks to purge it.
    const fn load(self) -> std::ops::Range<u64> {
        match self {
            Self::Shipped => 100..900,
            Self::Brisk => 600..1_900,
        }
    }
}

/// A node on a disk that forgets, and those who use it.
#[derive(Debug)]
pub struct Plant {
    node: Node,
    disk: FaultyDisk,
    pace: Pace,
    rng: SmallRng,
    client: Client,
    load: Arc<Load>,
    writers: JoinSet<anyhow::Result<()>>,
    watcher: JoinHandle<anyhow::Result<()>>,
    leases: Vec<hither::Lease>,
    layout: Layout,
    figures: Figures,
}

impl Plant {
    /// Starts the node and the load.
    ///
    /// # Errors
    /// Those of the disk and of the client.
    pub async fn start(seed: u64, pace: Pace) -> anyhow::Result<Self> {
        let mut home = Home::new();
        pace.set(&mut home);
        let disk = FaultyDisk::under(&mut home)?;
        let node = Node::start_in(home, &[]).await;
        let client = node.client().request_timeout(PATIENT).connect().await?;
        let load = Arc::new(Load::default());
        let watcher = tokio::spawn(load::listen(client.watch(KeyRange::prefix(PREFIX)).await?, load.clone()));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(load::write(client.clone(), writer, load.clone()));
        }
        let mut leases = Vec::new();
        for number in 0..LEASES {
            let lease = client.lease(LEASE_TTL).await?;
            client.put(format!("lease/{number}"), "held").lease(lease.id()).await?;
            leases.push(lease);
        }
        let (rng, figures) = (SmallRng::seed_from_u64(seed), Figures::default());
        let layout = Layout::of(disk.data())?;
        Ok(Self { node, disk, pace, rng, client, load, writers, watcher, leases, layout, figures })
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &FaultyDisk {
        &self.disk
    }

    /// Lets the load run on, cuts the power, starts the node again and looks whether all that was acknowledged is there.
    /// `torn`: of what was not synced, any part is left, as a disk leaves it that writes in its own order; and in
    /// every other such round the process was killed before and has come back to what it had not synced. Where the log is
    /// purged often the cut falls upon the removal of a segment.
    ///
    /// # Errors
    /// The promise that did not hold.
    pub async fn round(&mut self, torn: bool) -> anyhow::Result<()> {
        self.goes_on().await;
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(self.pace.load()))).await;
        self.disk.set(Place::DelaySyncs, SLOW_SYNC)?;
        if torn {
            if self.figures.rounds % 4 == 1 {
                self.goes_on().await;
                self.node.kill().await;
                self.node.restart().await;
                self.figures.kills += 1;
            }
            self.goes_on().await;
        }
        // Acknowledged, and revoked before the power fails: it must not come back.
        let revoked = self.client.lease_grant(LEASE_TTL).await?.lease;
        self.client.put("lease/revoked", "").lease(revoked).await?;
        self.client.lease_revoke(revoked).await?;

        if torn && self.pace == Pace::Brisk {
            // What the removal relies on must be on the disk by then.
            self.figures.aimed += usize::from(self.counts_on(Place::Removed).await?);
        } else {
            self.counts_on(Place::Syncs).await?;
        }
        self.node.kill().await;
        let left = if torn { Left::Some(&mut self.rng) } else { Left::Nothing };
        self.figures.lost += self.disk.cut_power(left)?;
        self.disk.set(Place::DelaySyncs, 0)?;
        let layout = Layout::of(self.disk.data())?;
        self.figures.saw(&self.layout, &layout);
        self.layout = layout;
        // A copy of a segment each.
        set_aside(self.disk.data())?.into_iter().try_for_each(std::fs::remove_dir_all)?;
        let start = Instant::now();
        self.node.restart().await;
        self.figures.restart_max = self.figures.restart_max.max(start.elapsed());
        self.figures.rounds += 1;
        self.figures.torn += set_aside(self.disk.data())?.len();
        self.is_as_acknowledged(revoked).await
    }

    /// Waits until each writer has had an answer or so.
    async fn goes_on(&self) {
        let target = self.load.ledger.lock().len() + WRITERS;
        until("the load goes on", PATIENT, async || (self.load.ledger.lock().len() >= target).then_some(())).await;
    }

    /// Waits for the moment at which another sync begins, or another segment is removed; not for too long.
    async fn counts_on(&self, what: Place) -> anyhow::Result<bool> {
        let (before, deadline) = (self.disk.get(what)?, Instant::now() + AIM);
        while Instant::now() < deadline {
            if self.disk.get(what)? > before {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(false)
    }

    async fn is_as_acknowledged(&self, revoked: hither::LeaseId) -> anyhow::Result<()> {
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
        Ok(std::mem::take(&mut self.figures))
    }
}

/// Damaged ends of the log that were set aside.
fn set_aside(data: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(data)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let is_damaged =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"log.damaged-"));
    Ok(paths.into_iter().filter(is_damaged).collect())
}
