//! Raft's log: answers from memory, leaves the disk to the [writer](super::writer).
//!
//! Nothing here waits for a disk but `save_vote`, reads of entries that are no longer in memory, and an entry that is alone
//! where nobody else votes: raft's thread writes that one itself, and applies it (docs/adr/0017). Steps take effect
//! in memory at once and reach the disk in order, so that what is durable is always a prefix of what was done.

use std::fmt::{self, Debug};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::{Stream, StreamExt, stream};
use hither_protocol::NodeId;
use hither_state::device::{LogDevice, LogReader};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::Runtime;
use super::record::{Record, decode_entry, invalid};
use super::ring::Ring;
use super::types::{Entry, LogId, Membership, Payload, TypeConfig, Vote};
use super::writer::{self, Pen, Step};
use crate::engine::{Failing, Stats};
use crate::machine::Machine;

/// Most bytes of entries that are read at once: a message to a peer is no larger.
const READ_BYTES_MAX: usize = 1 << 20;

/// Bytes of an entry with one command of the usual size, or a few small ones.
const SMALL_BYTES: usize = 1 << 10;

/// A handle to the log. Clones are the same log.
pub(crate) struct Log<R: Runtime, D: LogDevice> {
    ring: Arc<Mutex<Ring>>,
    steps: mpsc::UnboundedSender<Step<R>>,
    /// Steps that were sent and are not written.
    unwritten: Arc<AtomicUsize>,
    pen: Arc<Mutex<Pen<D>>>,
    stats: Arc<Stats>,
    reader: D::Reader,
    node: NodeId,
    is_alone: Arc<AtomicBool>,
    machine: Arc<OnceLock<Arc<Machine>>>,
}

impl<R: Runtime, D: LogDevice> Clone for Log<R, D> {
    fn clone(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            steps: self.steps.clone(),
            unwritten: self.unwritten.clone(),
            pen: self.pen.clone(),
            stats: self.stats.clone(),
            reader: self.reader.clone(),
            node: self.node,
            is_alone: self.is_alone.clone(),
            machine: self.machine.clone(),
        }
    }
}

impl<R: Runtime, D: LogDevice> Debug for Log<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl<R: Runtime, D: LogDevice> Log<R, D> {
    /// Opens what the device holds and starts its thread.
    ///
    /// # Errors
    /// Those of the device; `InvalidData` for records of another version.
    pub(crate) fn open(mut device: D, node: NodeId, stats: Arc<Stats>, failing: Failing) -> io::Result<Self> {
        let recovered = device.recover()?;
        let reader = device.reader();
        let purged = recovered.purged.map(|(_, last)| LogId::decode(&last)).transpose()?;
        let last = match recovered.range {
            Some((first, last)) => {
                if purged.is_some_and(|purged| first > purged.index + 1) {
                    return Err(invalid(format!("the log begins at {first}, after {purged:?} was purged")));
                }
                let record = reader.read(last, last + 1, 0)?.pop();
                let record = record.ok_or_else(|| invalid(format!("entry {last} of the log is missing")))?;
                Some(decode_entry(last, record.payload)?.log_id)
            }
            None => None,
        };
        let mut ring = Ring::recovered(recovered.range.map_or(0, |(first, _)| first), last, purged);
        ring.vote = recovered.vote.map(|vote| Vote::decode(&vote)).transpose()?;
        ring.committed = recovered.committed.map(|committed| LogId::decode(&committed)).transpose()?;
        let ring = Arc::new(Mutex::new(ring));
        let (steps, waiting) = mpsc::unbounded_channel();
        let pen = Arc::new(Mutex::new(Pen::new(device, ring.clone(), stats.clone(), failing)));
        let unwritten = Arc::new(AtomicUsize::new(0));
        R::thread(crate::engine::THREAD_LOG, writer::write::<R, D>(pen.clone(), waiting, unwritten.clone()))?;
        Ok(Self { ring, steps, unwritten, pen, stats, reader, node, is_alone: Arc::default(), machine: Arc::default() })
    }

    /// The index of the last entry.
    pub(crate) fn last_index(&self) -> u64 {
        self.ring.lock().end().saturating_sub(1)
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_pristine(&self) -> bool {
        let ring = self.ring.lock();
        ring.last.is_none() && ring.vote.is_none()
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.ring.lock().purged
    }

    /// Whether this node is the only voter, as far as its log goes. It is no longer from the moment that an entry which
    /// says otherwise is in the log, and so before any other node can vote.
    pub(crate) fn is_alone(&self) -> Arc<AtomicBool> {
        self.is_alone.clone()
    }

    /// From now on an entry that is committed by being written is applied at once, before raft has found out: see
    /// [`Self::apply_ahead`].
    pub(crate) fn lead_into(&self, machine: Arc<Machine>) {
        // The first stays: there is one machine to a log.
        let _ = self.machine.set(machine);
    }

    /// These are the voters from now on.
    pub(crate) fn note_voters(&self, membership: &Membership) {
        let is_alone = membership.voter_ids().eq([self.node.0]);
        self.is_alone.store(is_alone, Ordering::Release);
        self.ring.lock().is_alone = membership.nodes().map(|(&node, _)| node).eq([self.node.0]);
    }

    /// Bytes of entries appended since the log was opened.
    pub(crate) fn appended(&self) -> u64 {
        self.ring.lock().appended()
    }

    /// Nothing was appended for a while.
    pub(crate) fn rest(&self) {
        self.ring.lock().rest();
    }

    /// The last entry that may go if about so many bytes and no more than so many entries are kept.
    pub(crate) fn surplus(&self, bytes_kept: u64, entries_kept: u64) -> Option<u64> {
        self.ring.lock().surplus(bytes_kept, entries_kept)
    }

    /// Writes what waits and lets go of the device.
    pub(crate) async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        let committed = self.ring.lock().committed;
        if self.step(Step::Close { committed, closed }).is_ok() {
            // An error is a writer that failed, which has said so elsewhere.
            let _ = wait.await;
        }
    }

    fn step(&self, step: Step<R>) -> io::Result<()> {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        self.steps.send(step).map_err(|_| io::Error::other("the log's writer has stopped"))
    }

    /// Whether raft's own thread should write these entries: there is nothing else for it to do until they are on disk, and
    /// handing them over would cost two wake-ups, as long together as half a write. With others to send them to, or with
    /// more on the way, it has other work.
    fn is_idle(&self, entries: &[Entry]) -> bool {
        #[cfg(feature = "planted")]
        if super::writer::acknowledges_early() {
            // Raft goes on meanwhile, and applies.
            return false;
        }
        let bytes =
            |entry: &Entry| if let Payload::Normal(of) = &entry.payload { of.encoded().len() } else { usize::MAX };
        self.unwritten.load(Ordering::Acquire) == 0
            && self.is_alone.load(Ordering::Acquire)
            && self.stats.entries_in_flight.load(Ordering::Relaxed) == 1
            && matches!(entries, [entry] if bytes(entry) <= SMALL_BYTES)
    }

    /// Applies an entry that the disk has, if that commits it: this node leads, and nobody else votes. Raft comes to the same
    /// a little later, by way of three of its tasks, and watchers need not wait for that.
    fn apply_ahead(&self, entry: &Entry) -> io::Result<()> {
        let vote = self.ring.lock().vote;
        match self.machine.get() {
            Some(machine) if is_leaders(self.node, vote, entry) => machine.apply_ahead(entry),
            _ => Ok(()),
        }
    }

    /// Entries from `start` to before `end`, all that the log has, or up to `bytes_max` but at least one.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let found = self.ring.lock().find(start, end, bytes_max);
        let Some((mut next, disk_end)) = found.disk else { return Ok(found.memory) };
        let mut entries = Vec::new();
        while next < disk_end {
            let records = self.reader.read(next, disk_end, bytes_max.min(READ_BYTES_MAX))?;
            if records.first().is_none_or(|record| record.index != next) {
                let ring = self.ring.lock();
                // It may have been purged or truncated since we looked.
                if next < ring.first() || next >= ring.end() {
                    return Ok(entries);
                }
                return Err(invalid(format!("entry {next} of the log is missing")));
            }
            for record in records {
                entries.push(decode_entry(record.index, record.payload)?);
                next += 1;
            }
            if bytes_max != usize::MAX {
                return Ok(entries);
            }
        }
        entries.extend(found.memory);
        Ok(entries)
    }
}

/// Whether `node` leads, by the vote that its log holds, and the entry is of this leadership.
fn is_leaders(node: NodeId, vote: Option<Vote>, entry: &Entry) -> bool {
    let leader = entry.log_id.leader_id;
    leader.node_id == node.0 && vote.is_some_and(|vote| vote.committed && vote.leader_id == leader)
}

/// The first index of a range, and the one after its last.
fn span(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl<R: Runtime, D: LogDevice> RaftLogReader<TypeConfig<R>> for Log<R, D> {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = span(&range);
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn entries_stream<B>(&mut self, range: B) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = span(&range);
        let log = self.clone();
        stream::unfold(start, move |next| {
            let read = if next < end { log.read(next, end, READ_BYTES_MAX) } else { Ok(Vec::new()) };
            let step = match read {
                Ok(entries) => {
                    let after = entries.last().map(|entry| entry.log_id.index + 1);
                    after.map(|after| (entries.into_iter().map(Ok).collect::<Vec<_>>(), after))
                }
                Err(error) => Some((vec![Err(error)], end)),
            };
            std::future::ready(step)
        })
        .flat_map(stream::iter)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.ring.lock().vote)
    }
}

impl<R: Runtime, D: LogDevice> RaftLogStorage<TypeConfig<R>> for Log<R, D> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig<R>>> {
        let ring = self.ring.lock();
        Ok(LogState { last_purged_log_id: ring.purged, last_log_id: ring.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.ring.lock().vote = Some(*vote);
        let (saved, wait) = oneshot::channel();
        self.step(Step::Vote(*vote, saved))?;
        wait.await.map_err(|_| io::Error::other("the vote could not be written"))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.ring.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.ring.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        for entry in &entries {
            if let Payload::Membership(membership) = &entry.payload {
                self.note_voters(membership);
            }
        }
        let (epoch, committed) = {
            let mut ring = self.ring.lock();
            entries.iter().for_each(|entry| ring.append(entry.clone()));
            (ring.epoch, ring.committed)
        };
        let alone = if self.is_idle(&entries) { entries.first().cloned() } else { None };
        let append = Step::Append { entries, epoch, committed, flushed };
        let Some(entry) = alone else { return self.step(append) };
        // Only raft sends steps, and it is here: if none is unwritten, none comes before this one.
        self.pen.lock().write_one(append)?;
        self.apply_ahead(&entry)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        // Who votes may be what it was before, which is not looked up for a case so rare.
        self.is_alone.store(false, Ordering::Release);
        {
            let mut ring = self.ring.lock();
            ring.is_alone = false;
            ring.truncate_after(last);
        }
        self.step(Step::TruncateAfter(last))
    }

    async fn purge(&mut self, up_to: LogId) -> io::Result<()> {
        self.ring.lock().purge(up_to);
        self.step(Step::Purge(up_to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::LeaderId;

    #[test]
    fn only_the_entries_of_a_leadership_that_lasts_are_its_own() {
        let leader = |term, node_id| LeaderId { term, node_id };
        let vote = |leader_id, committed| Some(Vote { leader_id, committed });
        let entry = |leader_id| Entry { log_id: LogId { leader_id, index: 7 }, payload: Payload::Blank };
        let is_own = |vote, of| is_leaders(NodeId(1), vote, &entry(of));
        assert!(is_own(vote(leader(3, 1), true), leader(3, 1)));
        assert!(!is_own(vote(leader(3, 1), false), leader(3, 1)), "it is a candidate yet");
        assert!(!is_own(vote(leader(4, 1), true), leader(3, 1)), "the entry is of an earlier leadership");
        assert!(!is_own(vote(leader(4, 2), true), leader(4, 2)), "another node leads");
        assert!(!is_own(vote(leader(4, 2), false), leader(3, 1)), "another node was voted for");
        assert!(!is_own(None, leader(3, 1)));
    }
}
