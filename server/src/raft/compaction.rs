//! Keeps the log short: when it has grown, the state on disk catches up, and entries that it covers are purged.

use std::time::Duration;

use futures_util::future::select;
use hither_state::device::LogDevice;
use openraft::async_runtime::WatchReceiver;
use tokio_util::sync::CancellationToken;

use super::{Log, Raft, Runtime};

/// How often the log is weighed.
const INTERVAL: Duration = Duration::from_millis(500);

/// When the log is too long, and what is left of it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of entries after which the state on disk is made to catch up. Bounds what a restart replays.
    pub grown_bytes: u64,
    /// The same in entries.
    pub grown_entries: u64,
    /// Bytes of entries that are left for other nodes to catch up from; who is further behind gets the whole state.
    pub kept_bytes: u64,
    /// The same in entries.
    pub kept_entries: u64,
}

impl Default for LogLimits {
    /// 256 MiB or 200,000 entries; 64 MiB or 100,000 entries.
    fn default() -> Self {
        Self { grown_bytes: 256 << 20, grown_entries: 200_000, kept_bytes: 64 << 20, kept_entries: 100_000 }
    }
}

/// Weighs the log until `closing`. `durable` is the last entry that the state on disk had at the start.
pub(crate) async fn run<R: Runtime, D: LogDevice>(
    raft: Raft<R>,
    log: Log<R, D>,
    limits: LogLimits,
    mut durable: u64,
    closing: CancellationToken,
) {
    let work = Box::pin(async {
        let mut appended = log.appended();
        let mut before = appended;
        loop {
            R::sleep(INTERVAL).await;
            let now = log.appended();
            if std::mem::replace(&mut before, now) == now {
                log.rest();
            }
            let has_grown = log.appended() - appended >= limits.grown_bytes
                || log.last_index().saturating_sub(durable) >= limits.grown_entries;
            if has_grown {
                (appended, durable) = (log.appended(), log.last_index());
                if raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
            let covered = raft.metrics().borrow_watched().snapshot.map_or(0, |covered| covered.index);
            let surplus = log.surplus(limits.kept_bytes, limits.kept_entries).map(|surplus| surplus.min(covered));
            if let Some(surplus) = surplus.filter(|&surplus| surplus > log.purged().map_or(0, |purged| purged.index))
                && raft.trigger().purge_log(surplus).await.is_err()
            {
                return;
            }
        }
    });
    select(work, Box::pin(closing.cancelled())).await;
}
