//! The one thread that writes the log: it takes everything that waits, writes and syncs once, and says so.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// What it takes to write the log. Held by whoever is about to; empty once the log is closed or has failed, since nothing
/// is written after a failure: a failed sync is never retried.
pub(crate) struct Pen<D> {
    held: Option<Held<D>>,
}

struct Held<D> {
    device: D,
    /// The mark of what is committed that was last written.
    committed: Option<LogId>,
    ring: Arc<Mutex<Ring>>,
    stats: Arc<Stats>,
    failing: Failing,
}

impl<D: LogDevice> Pen<D> {
    pub(crate) fn new(device: D, ring: Arc<Mutex<Ring>>, stats: Arc<Stats>, failing: Failing) -> Self {
        Self { held: Some(Held { device, committed: None, ring, stats, failing }) }
    }

    /// Writes one step that no other waits before.
    ///
    /// # Errors
    /// The log is closed or has failed.
    pub(crate) fn write_one<R: Runtime>(&mut self, step: Step<R>) -> io::Result<()> {
        let goes_on = self.write(gather(&mut std::iter::once(step)));
        if goes_on { Ok(()) } else { Err(io::Error::other("the log is closed or cannot be written")) }
    }

    /// One write, and word of it to those who wait. False if there will be no other.
    fn write<R: Runtime>(&mut self, mut cycle: Cycle<R>) -> bool {
        let Some(held) = &mut self.held else { return false };
        if cycle.committed > held.committed
            && let Some(mark) = cycle.committed
        {
            cycle.items.push(LogItem::Committed(mark.encode()));
            held.committed = cycle.committed;
        }
        #[cfg(feature = "planted")]
        if acknowledges_early() {
            for flushed in std::mem::take(&mut cycle.flushed).into_iter().rev() {
                flushed.io_completed(Ok(()));
            }
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        let begun = Instant::now();
        let result = if cycle.items.is_empty() { Ok(()) } else { held.device.write(&cycle.items, cycle.sync) };
        if cycle.sync {
            held.stats.record_sync(begun.elapsed());
        }
        if let Err(error) = result {
            held.failing.fail(format!("the log cannot be written: {error}"));
            // Votes that nobody confirms are errors to who waits for them.
            for flushed in cycle.flushed {
                flushed.io_completed(Err(io::Error::new(error.kind(), error.to_string())));
            }
            self.held = None;
            return false;
        }
        if let Some((epoch, index)) = cycle.written {
            held.ring.lock().wrote(epoch, index);
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
            self.held = None;
            let _ = closed.send(());
            return false;
        }
        true
    }
}

/// Whether the log says that it has what it is only about to write, which is a bug.
#[cfg(feature = "planted")]
pub(super) fn acknowledges_early() -> bool {
    hither_protocol::planted::strikes(hither_protocol::planted::Bug::EventBeforeCommit)
}

/// Writes what comes until closed or until the device fails. `unwritten` counts what was sent and is not written.
pub(crate) async fn write<R: Runtime, D: LogDevice>(
    pen: Arc<Mutex<Pen<D>>>,
    mut steps: mpsc::UnboundedReceiver<Step<R>>,
    unwritten: Arc<AtomicUsize>,
) {
    let mut waiting = Vec::with_capacity(CYCLE_STEPS_MAX);
    while steps.recv_many(&mut waiting, CYCLE_STEPS_MAX).await > 0 {
        let mut rest = waiting.drain(..).peekable();
        while rest.peek().is_some() {
            let before = rest.len();
            let cycle = gather(&mut rest);
            let taken = before - rest.len();
            if !pen.lock().write(cycle) {
                return;
            }
            unwritten.fetch_sub(taken, Ordering::Release);
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
