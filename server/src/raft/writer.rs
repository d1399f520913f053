//! The one thread that writes the log: it takes everything that waits, writes and syncs once, and says so.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use hither_state::device::{LogDevice, LogItem, LogRecord};
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::Runtime;
use super::record::{Record, encode_entry};
use super::ring::Ring;
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::engine::{Failing, Stats};

/// Most steps and most bytes in one write: more would delay those who wait for its first.
const CYCLE_STEPS_MAX: usize = 4096;
const CYCLE_BYTES_MAX: usize = 4 << 20;

/// A step of the log. Steps take effect in order.
pub(crate) enum Step<R: Runtime> {
    Append {
        entries: Vec<Entry>,
        /// The ring's, when they were appended.
        epoch: u64,
        /// What was committed then: entries up to it are in this step or those before. The mark rides along with them,
        /// since it is advice and no reason to wake the disk, and must never overtake them.
        committed: Option<LogId>,
        flushed: IOFlushed<TypeConfig<R>>,
    },
    Vote(Vote, oneshot::Sender<()>),
    TruncateAfter(Option<LogId>),
    Purge(LogId),
    /// Nothing follows.
    Close {
        committed: Option<LogId>,
        closed: oneshot::Sender<()>,
    },
}

/// One write, and whom to tell once it is on disk.
struct Cycle<R: Runtime> {
    items: Vec<LogItem>,
    sync: bool,
    committed: Option<LogId>,
    flushed: Vec<IOFlushed<TypeConfig<R>>>,
    votes: Vec<oneshot::Sender<()>>,
    written: Option<(u64, u64)>,
    closed: Option<oneshot::Sender<()>>,
}

/// Writes until closed or until the device fails, after which nothing more is written: a failed sync is never retried.
pub(crate) async fn write<R: Runtime, D: LogDevice>(
    mut device: D,
    mut steps: mpsc::UnboundedReceiver<Step<R>>,
    ring: Arc<Mutex<Ring>>,
    stats: Arc<Stats>,
    failing: Failing,
) {
    let mut waiting = Vec::with_capacity(CYCLE_STEPS_MAX);
    let mut committed = None;
    while steps.recv_many(&mut waiting, CYCLE_STEPS_MAX).await > 0 {
        let mut rest = waiting.drain(..).peekable();
        while rest.peek().is_some() {
            let mut cycle = gather(&mut rest);
            if cycle.committed > committed
                && let Some(mark) = cycle.committed
            {
                cycle.items.push(LogItem::Committed(mark.encode()));
                committed = cycle.committed;
            }
            #[cfg(feature = "planted")]
            if hither_protocol::planted::strikes(hither_protocol::planted::Bug::EventBeforeCommit) {
                for flushed in std::mem::take(&mut cycle.flushed).into_iter().rev() {
                    flushed.io_completed(Ok(()));
                }
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
            let begun = Instant::now();
            let result = if cycle.items.is_empty() { Ok(()) } else { device.write(&cycle.items, cycle.sync) };
            if cycle.sync {
                stats.record_sync(begun.elapsed());
            }
            if let Err(error) = result {
                failing.fail(format!("the log cannot be written: {error}"));
                // Votes that nobody confirms are errors to who waits for them.
                for flushed in cycle.flushed {
                    flushed.io_completed(Err(io::Error::new(error.kind(), error.to_string())));
                }
                return;
            }
            if let Some((epoch, index)) = cycle.written {
                ring.lock().wrote(epoch, index);
            }
            for vote in cycle.votes {
                // Raft may have stopped waiting.
                let _ = vote.send(());
            }
            // Newest first: it covers the older ones, so that raft is woken once.
            for flushed in cycle.flushed.into_iter().rev() {
                flushed.io_completed(Ok(()));
            }
            if let Some(closed) = cycle.closed {
                drop(device);
                let _ = closed.send(());
                return;
            }
        }
    }
}

/// Takes steps up to the bounds of a cycle.
fn gather<R: Runtime>(steps: &mut impl Iterator<Item = Step<R>>) -> Cycle<R> {
    let mut cycle = Cycle {
        items: Vec::new(),
        sync: false,
        committed: None,
        flushed: Vec::new(),
        votes: Vec::new(),
        written: None,
        closed: None,
    };
    let mut bytes = 0;
    for step in steps {
        match step {
            Step::Append { entries, epoch, committed, flushed } => {
                let records: Vec<LogRecord> = entries
                    .iter()
                    .map(|entry| LogRecord { index: entry.log_id.index, payload: encode_entry(entry) })
                    .collect();
                bytes += records.iter().map(|record| record.payload.len()).sum::<usize>();
                if let Some(last) = records.last() {
                    cycle.written = Some((epoch, last.index));
                    match cycle.items.last_mut() {
                        Some(LogItem::Append(before)) => before.extend(records),
                        _ => cycle.items.push(LogItem::Append(records)),
                    }
                }
                cycle.committed = committed;
                cycle.flushed.push(flushed);
                cycle.sync = true;
            }
            Step::Vote(vote, saved) => {
                cycle.items.push(LogItem::Vote(vote.encode()));
                cycle.votes.push(saved);
                cycle.sync = true;
            }
            Step::TruncateAfter(last) => cycle.items.push(LogItem::TruncateAfter(last.map(|last| last.index))),
            Step::Purge(up_to) => cycle.items.push(LogItem::Purge { up_to: up_to.index, last: up_to.encode() }),
            Step::Close { committed, closed } => {
                cycle.committed = committed;
                cycle.sync = true;
                cycle.closed = Some(closed);
                break;
            }
        }
        if bytes >= CYCLE_BYTES_MAX {
            break;
        }
    }
    cycle
}
