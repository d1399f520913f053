//! Stops puts while there is still room for everything else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::{DiskReserve, Stats};
use crate::raft::Runtime;

/// How often the disk is asked: it takes about as long to write the reserve at full speed.
const INTERVAL: Duration = Duration::from_millis(500);

/// Asks the disk once.
pub(crate) fn look(reserve: &DiskReserve, stats: &Stats) {
    match (reserve.free)() {
        Ok(free) => {
            let is_low = free < reserve.bytes_min;
            if stats.no_space.swap(is_low, Ordering::Relaxed) != is_low {
                tracing::warn!(free, reserve = reserve.bytes_min, is_low, "the disk's reserve");
            }
        }
        // What is not known does not stop anything: a write that fails will.
        Err(error) => tracing::warn!(%error, "the free space of the disk is not known"),
    }
}

/// Asks the disk until `closing`. On a thread of its own, since a disk may take its time to answer.
pub(crate) async fn watch<R: Runtime>(reserve: DiskReserve, stats: Arc<Stats>, closing: CancellationToken) {
    loop {
        let pause = Box::pin(R::sleep(INTERVAL));
        if let Either::Right(_) = select(pause, Box::pin(closing.cancelled())).await {
            return;
        }
        look(&reserve, &stats);
    }
}
