//! The change log: every event of the last minutes, in memory, and as rows on disk, so that a watch resumes where it left
//! off, on this node or another, before or after a restart.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use hither_protocol::codec::{decode_first, encode_body};
use hither_protocol::message::Filter;
use hither_protocol::{Event, Key, KeyRange, Moment, Namespace, Revision, UnixMillis};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use super::block::{Block, Record};
use super::event::{EventRef, event};
use crate::device::{RowChange, Space, StateDevice};
use crate::{Change, Delta};

/// The format of a row. A node that reads another one stops: it must never skip what it does not know. Format 1 had a row
/// for each revision.
const ROW_FORMAT: u8 = 2;
/// A row ends when it has this much: writing it costs the disk's tables the same however much is in it.
const ROW_BYTES_MAX: usize = 64 << 10;

/// The events of every revision after the floor.
#[derive(Debug, Default)]
pub struct ChangeLog {
    /// By revision. A block's place in all of history is the bytes before it.
    blocks: VecDeque<(usize, Arc<Block>)>,
    /// Bytes of history since the process began, trimmed or not.
    written: usize,
    floor: Revision,
    head: Revision,
}

/// What happened at one revision. A row's value is its format and some of these, in order.
#[derive(Serialize, Deserialize)]
struct Stored<E> {
    revision: Revision,
    at: UnixMillis,
    /// [`Events`] to be written, [`StoredEvent`]s to be read.
    events: E,
}

#[derive(Deserialize)]
struct StoredEvent {
    namespace: Namespace,
    event: Event,
    /// Those of the lease, where the event is a lease's standing.
    keys: Vec<Key>,
}

/// The events of a delta, written as a list of [`StoredEvent`]s without a copy of their keys and values.
struct Events<'a>(&'a Delta);

impl<'a> Events<'a> {
    /// Namespace, event, keys.
    fn stored(&self) -> impl Iterator<Item = (&'a Namespace, EventRef<'a>, &'a [Key])> + use<'a> {
        let Self(delta) = *self;
        delta.changes.iter().filter_map(|change| {
            let (namespace, event) = event(change, delta.revision)?;
            let keys: &[Key] = if let Change::Liveness { keys, .. } = change { keys } else { &[] };
            Some((namespace, event, keys))
        })
    }
}

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.stored().count()))?;
        self.stored().try_for_each(|stored| list.serialize_element(&stored))?;
        list.end()
    }
}

/// The change of rows that brings the change log on disk from before `delta` to after it.
pub fn history_rows(delta: &Delta, out: &mut Vec<RowChange>) {
    let mut rows = HistoryRows::default();
    rows.take(delta, out);
    rows.finish(out);
}

/// The rows of many deltas, in order: many revisions to a row, whose key is the last of them.
#[derive(Debug, Default)]
pub struct HistoryRows {
    row: BytesMut,
    last: Revision,
}

impl HistoryRows {
    /// Takes the next delta; appends the rows that are complete.
    pub fn take(&mut self, delta: &Delta, out: &mut Vec<RowChange>) {
        let events = Events(delta);
        if events.stored().next().is_some() {
            if self.row.is_empty() {
                self.row.reserve(ROW_BYTES_MAX);
                self.row.put_u8(ROW_FORMAT);
            }
            encode_body(&mut self.row, &Stored { revision: delta.revision, at: delta.at, events });
            self.last = delta.revision;
            if self.row.len() >= ROW_BYTES_MAX {
                self.finish(out);
            }
        }
        for change in &delta.changes {
            if let Change::Floor { revision } = change {
                // A row that has the floor in its middle stays; what is below is passed over when it is read.
                self.finish(out);
                out.push(RowChange::DeleteRange(Space::History, row_key(Revision::ZERO), row_key(revision.next())));
            }
        }
    }

    /// Appends the row that is not complete.
    pub fn finish(&mut self, out: &mut Vec<RowChange>) {
        if !self.row.is_empty() {
            // A copy of its size: what waits to be written is counted by it.
            let row = Bytes::copy_from_slice(&self.row);
            self.row.clear();
            out.push(RowChange::Put(Space::History, row_key(self.last), row));
        }
    }

    /// Bytes of the row that is not complete.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.row.len()
    }
}

fn row_key(revision: Revision) -> Bytes {
    Bytes::copy_from_slice(&revision.0.to_be_bytes())
}

fn read_row(key: &[u8], value: &[u8]) -> io::Result<Vec<Block>> {
    let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("the change log: {reason}"));
    let last = key.try_into().map_err(|_| damaged(format!("the key of a row has {} bytes", key.len())))?;
    let last = Revision(u64::from_be_bytes(last));
    let mut rest = match value.split_first() {
        Some((&ROW_FORMAT, rest)) => rest,
        Some((format, _)) => {
            return Err(damaged(format!("the row of revision {last} is of format {format}, not {ROW_FORMAT}")));
        }
        None => return Err(damaged(format!("the row of revision {last} is empty"))),
    };
    let mut blocks: Vec<Block> = Vec::new();
    while !rest.is_empty() {
        let (stored, after) =
            decode_first::<Stored<Vec<StoredEvent>>>(rest).map_err(|refusal| damaged(refusal.to_string()))?;
        rest = after;
        if blocks.last().is_some_and(|before| before.revision >= stored.revision) {
            return Err(damaged(format!("the row of revision {last} is not in order")));
        }
        let record = |stored: StoredEvent| Record::stored(stored.namespace, stored.event, stored.keys);
        let records = stored.events.into_iter().map(record).collect();
        blocks.push(Block::new(stored.revision, Moment::default(), records));
    }
    if blocks.last().map(|block| block.revision) != Some(last) {
        return Err(damaged(format!("the row of revision {last} does not end with it")));
    }
    Ok(blocks)
}

impl ChangeLog {
    /// A log of nothing yet, after `revision`.
    #[must_use]
    pub fn new(revision: Revision) -> Self {
        Self { floor: revision, head: revision, ..Self::default() }
    }

    /// What is on disk, of a state at `revision` whose floor is `floor`. What the entries were before the events is
    /// forgotten.
    ///
    /// # Errors
    /// `InvalidData` for a damaged row or one from after `revision`; what the device returns.
    pub fn load(device: &dyn StateDevice, floor: Revision, revision: Revision) -> io::Result<Self> {
        let mut log = Self { floor, head: floor, ..Self::default() };
        device.scan(Space::History, &mut |key, value| {
            for block in read_row(key, value)? {
                if block.revision > revision {
                    let reason = format!("the change log is at revision {}, the state at {revision}", block.revision);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                if block.revision > floor {
                    log.append(Arc::new(block));
                }
            }
            Ok(())
        })?;
        log.head = revision;
        Ok(log)
    }

    /// Watches can resume only after this revision or a later one.
    #[must_use]
    pub const fn floor(&self) -> Revision {
        self.floor
    }

    /// Every event up to here is in the log, or was.
    #[must_use]
    pub const fn head(&self) -> Revision {
        self.head
    }

    /// What the log costs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.front().map_or(0, |(before, _)| self.written - before)
    }

    /// Adds the events of a revision after all others.
    pub(super) fn append(&mut self, block: Arc<Block>) {
        debug_assert!(block.revision > self.head, "a revision is published once");
        self.head = block.revision;
        let before = self.written;
        self.written += block.bytes;
        self.blocks.push_back((before, block));
    }

    /// A command without events was applied.
    pub(super) fn advance(&mut self, revision: Revision) {
        self.head = self.head.max(revision);
    }

    /// Forgets everything up to `floor`.
    pub(super) fn raise_floor(&mut self, floor: Revision) {
        self.floor = self.floor.max(floor);
        while self.blocks.front().is_some_and(|(_, block)| block.revision <= self.floor) {
            self.blocks.pop_front();
        }
    }

    /// From now on the age of what was read from disk is counted.
    pub(super) fn stamp(&mut self, now: Moment) {
        for (_, block) in &mut self.blocks {
            if let Some(block) = Arc::get_mut(block) {
                block.recorded = now;
            }
        }
    }

    /// The events after `revision`, in order.
    pub(super) fn after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.range(self.place_after(revision)..).map(|(_, block)| block)
    }

    /// Bytes of the history after `revision`.
    pub(super) fn bytes_after(&self, revision: Revision) -> usize {
        self.blocks.get(self.place_after(revision)).map_or(0, |(before, _)| self.written - before)
    }

    /// Whether nothing in `range` changed after `revision`; looks at no more than `scan_max` events.
    pub(super) fn is_quiet(
        &self,
        revision: Revision,
        namespace: &Namespace,
        range: &KeyRange,
        scan_max: usize,
    ) -> bool {
        let mut records = self.after(revision).flat_map(|block| block.records.iter());
        let entries = Filter { puts: true, deletes: true, liveness: false };
        let quiet = |record: &Record| !record.is_for(namespace, range, entries);
        revision >= self.floor && records.by_ref().take(scan_max).all(quiet) && records.next().is_none()
    }

    /// The floor that leaves no more than `bytes_max` bytes.
    pub(super) fn floor_by_bytes(&self, bytes_max: usize) -> Revision {
        let keep_from = self.written.saturating_sub(bytes_max);
        let kept = self.blocks.partition_point(|&(before, _)| before < keep_from);
        self.last_before(kept)
    }

    /// The floor that leaves nothing recorded before `moment`.
    pub(super) fn floor_by_age(&self, moment: Moment) -> Revision {
        let kept = self.blocks.partition_point(|(_, block)| block.recorded < moment);
        self.last_before(kept)
    }

    /// When the oldest event was recorded.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.blocks.front().map(|(_, block)| block.recorded)
    }

    fn last_before(&self, place: usize) -> Revision {
        place.checked_sub(1).and_then(|last| self.blocks.get(last)).map_or(self.floor, |(_, block)| block.revision)
    }

    fn place_after(&self, revision: Revision) -> usize {
        self.blocks.partition_point(|(_, block)| block.revision <= revision)
    }
}
