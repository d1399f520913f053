//! Numbers about an engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of sync times, in microseconds: from a fast disk to one that holds up elections.
const SYNC_BUCKETS_US: [u64; 12] = [50, 100, 200, 400, 800, 1_600, 5_000, 10_000, 25_000, 75_000, 250_000, 1_000_000];

/// Numbers about an engine, for metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineStats {
    /// The last entry of the log here.
    pub log_index: u64,
    /// The last entry applied here.
    pub applied_index: u64,
    /// The last entry in the state on disk, synced or not.
    pub persisted_index: u64,
    /// Synced writes of the log by how long they took: an upper bound in seconds, and how many took no longer; the last
    /// bound is infinite.
    pub sync_seconds: Vec<(f64, u64)>,
    /// The time of all synced writes together, in seconds.
    pub sync_seconds_sum: f64,
    /// Proposals that wait for an entry to take them.
    pub proposals_waiting: u64,
    /// Entries proposed and not yet answered.
    pub entries_in_flight: u64,
    /// Bytes of commands applied and not yet written to the state on disk.
    pub unpersisted_bytes: u64,
    /// Commands applied since the start.
    pub commands_applied: u64,
    /// Entries that were applied as soon as they were on disk, since no other node votes.
    pub entries_applied_ahead: u64,
    /// Whether puts are refused for want of disk space.
    pub no_space: bool,
}

/// Where the numbers are counted.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    syncs: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
    sync_nanos: AtomicU64,
    pub(crate) persisted_index: AtomicU64,
    pub(crate) proposals_waiting: AtomicU64,
    pub(crate) entries_in_flight: AtomicU64,
    pub(crate) unpersisted_bytes: AtomicU64,
    pub(crate) commands_applied: AtomicU64,
    pub(crate) entries_applied_ahead: AtomicU64,
    pub(crate) no_space: AtomicBool,
}

impl Stats {
    pub(crate) fn record_sync(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_BUCKETS_US.partition_point(|&bound| bound < us);
        self.syncs[bucket].fetch_add(1, Ordering::Relaxed);
        self.sync_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> EngineStats {
        let mut count = 0;
        let bounds = SYNC_BUCKETS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::INFINITY]);
        let sync_seconds = bounds.zip(&self.syncs).map(|(bound, syncs)| {
            count += syncs.load(Ordering::Relaxed);
            (bound, count)
        });
        EngineStats {
            sync_seconds: sync_seconds.collect(),
            sync_seconds_sum: self.sync_nanos.load(Ordering::Relaxed) as f64 / 1e9,
            persisted_index: self.persisted_index.load(Ordering::Relaxed),
            proposals_waiting: self.proposals_waiting.load(Ordering::Relaxed),
            entries_in_flight: self.entries_in_flight.load(Ordering::Relaxed),
            unpersisted_bytes: self.unpersisted_bytes.load(Ordering::Relaxed),
            commands_applied: self.commands_applied.load(Ordering::Relaxed),
            entries_applied_ahead: self.entries_applied_ahead.load(Ordering::Relaxed),
            no_space: self.no_space.load(Ordering::Relaxed),
            ..EngineStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_the_last_holds_all() {
        let stats = Stats::default();
        for us in [10, 50, 51, 2_000_000] {
            stats.record_sync(Duration::from_micros(us));
        }
        let read = stats.read();
        assert_eq!(read.sync_seconds[0], (5e-5, 2));
        assert_eq!(read.sync_seconds[1], (1e-4, 3));
        assert_eq!(read.sync_seconds.last(), Some(&(f64::INFINITY, 4)));
        assert!(read.sync_seconds_sum > 2.0);
    }
}
