//! What memory holds of the log: its ends, the vote, and its newest entries.

use std::collections::VecDeque;

use super::types::{Entry, LogId, Payload, Vote};

/// Bytes of entries kept beyond those not yet written: apply and replication read the newest ones, each at its own pace.
const BYTES_MAX: usize = 16 << 20;

/// Bytes of entries kept once nothing is appended any more, or once they were read and nobody else reads them.
const REST_BYTES_MAX: usize = 64 << 10;

/// Bytes of entries between two marks of the log's weight.
const MARK_BYTES: u64 = 1 << 20;

/// What an entry costs beside its commands.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// The log as raft sees it, whether or not the disk has it yet.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// The newest entries, without a gap up to `last`; perhaps none.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The index of the first entry, if there are any.
    first: u64,
    /// The last entry; the last purged one if there are none.
    pub(crate) last: Option<LogId>,
    /// The last entry that was dropped from the front.
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    /// The last entry that the device has, of those of this epoch.
    written: Option<u64>,
    /// The index after the last entry that was read.
    read: u64,
    /// Whether no other node reads the log: what was read is not read again.
    pub(crate) is_alone: bool,
    /// Bytes of entries appended since the log was opened, truncated or not.
    appended: u64,
    /// Some indexes, and the bytes that were appended before them.
    marks: VecDeque<(u64, u64)>,
    /// Counts truncations: what the writer reports of entries that were truncated meanwhile is not believed.
    pub(crate) epoch: u64,
}

/// Where the entries of a range are.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// On disk, from the first index up to but not including the second.
    pub(crate) disk: Option<(u64, u64)>,
    /// In memory, after those on disk.
    pub(crate) memory: Vec<Entry>,
}

impl Ring {
    /// The log as the disk has it: the index of its first entry, its last entry, and the last purged one.
    pub(crate) fn recovered(first: u64, last: Option<LogId>, purged: Option<LogId>) -> Self {
        let written = last.map(|last| last.index);
        Self { first, last: last.max(purged), purged, written, ..Self::default() }
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        if self.last == self.purged {
            self.first = entry.log_id.index;
        }
        let cost = cost(&entry);
        if self.marks.back().is_none_or(|(_, before)| self.appended - before >= MARK_BYTES) {
            self.marks.push_back((entry.log_id.index, self.appended));
        }
        self.appended += cost as u64;
        self.bytes += cost;
        self.last = Some(entry.log_id);
        self.entries.push_back(entry);
    }

    /// Forgets what is after `last`.
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |last| last.index + 1);
        if keep >= self.end() {
            return;
        }
        let kept = self.entries.partition_point(|entry| entry.log_id.index < keep);
        self.bytes -= self.entries.drain(kept..).map(|entry| cost(&entry)).sum::<usize>();
        self.read = self.read.min(keep);
        self.marks.truncate(self.marks.partition_point(|(index, _)| *index < keep));
        self.last = last;
        self.written = self.written.min(last.map(|last| last.index));
        self.epoch += 1;
    }

    /// Forgets what is up to `purged`.
    pub(crate) fn purge(&mut self, purged: LogId) {
        let gone = self.entries.partition_point(|entry| entry.log_id.index <= purged.index);
        self.bytes -= self.entries.drain(..gone).map(|entry| cost(&entry)).sum::<usize>();
        self.marks.drain(..self.marks.partition_point(|(index, _)| *index <= purged.index));
        self.purged = Some(purged);
        self.first = self.first.max(purged.index + 1);
        // A log that a snapshot overtook begins anew after it.
        if self.last.is_none_or(|last| last.index <= purged.index) {
            self.last = Some(purged);
        }
    }

    /// The device has everything up to `index`, if nothing was truncated since `epoch`.
    pub(crate) fn wrote(&mut self, epoch: u64, index: u64) {
        if epoch == self.epoch {
            self.written = self.written.max(Some(index));
        }
        self.keep(BYTES_MAX, u64::MAX);
        if self.is_alone {
            // What stays a while comes to lie between what stays for good, and leaves holes there.
            self.keep(REST_BYTES_MAX, self.read);
        }
    }

    /// A burst is over: whoever is still behind reads from the disk.
    pub(crate) fn rest(&mut self) {
        self.keep(REST_BYTES_MAX, u64::MAX);
        self.entries.shrink_to(2 * self.entries.len());
    }

    /// Drops the oldest entries before `end` that the disk has, down to so many bytes.
    fn keep(&mut self, bytes_max: usize, end: u64) {
        while self.bytes > bytes_max {
            match self.entries.front().filter(|entry| entry.log_id.index < end) {
                Some(entry) if Some(entry.log_id.index) <= self.written => self.bytes -= cost(entry),
                _ => break,
            }
            self.entries.pop_front();
        }
    }

    /// Bytes of entries appended since the log was opened.
    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    /// The last entry that may go if about so many bytes and no more than so many entries are kept.
    pub(crate) fn surplus(&self, bytes_kept: u64, entries_kept: u64) -> Option<u64> {
        let heavy = self.marks.iter().rev().find(|(_, before)| self.appended - before >= bytes_kept);
        let heavy = heavy.and_then(|(index, _)| index.checked_sub(1));
        let many = self.end().checked_sub(entries_kept + 1);
        heavy.max(many).filter(|&surplus| surplus >= self.first)
    }

    /// The index of the first entry, if there are any.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    /// The entries from `start` up to but not including `end`, as far as the log has them, of which those in memory stop
    /// before `bytes_max`, after at least one.
    pub(crate) fn find(&mut self, start: u64, end: u64, bytes_max: usize) -> Found {
        let (start, end) = (start.max(self.first()), end.min(self.end()));
        if start >= end {
            return Found::default();
        }
        let memory = self.end() - self.entries.len() as u64;
        let disk = (start < memory).then_some((start, end.min(memory)));
        let mut bytes = 0;
        let skip = usize::try_from(start.saturating_sub(memory)).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip).take_while(|entry| {
            let first = bytes == 0;
            bytes += cost(entry);
            entry.log_id.index < end && (first || bytes <= bytes_max)
        });
        let memory: Vec<Entry> = entries.cloned().collect();
        // What lies behind a part on the disk may not be handed out, and is asked for again.
        if let (None, Some(last)) = (disk, memory.last()) {
            self.read = self.read.max(last.log_id.index + 1);
        }
        Found { disk, memory }
    }
}

fn cost(entry: &Entry) -> usize {
    let commands = if let Payload::Normal(commands) = &entry.payload { commands.encoded().len() } else { 0 };
    ENTRY_OVERHEAD_BYTES + commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Commands, LeaderId};

    fn id(term: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: 1 }, index }
    }

    fn entry(term: u64, index: u64, bytes: usize) -> Entry {
        Entry { log_id: id(term, index), payload: Payload::Normal(Commands::read(vec![0; bytes].into())) }
    }

    fn indexes(found: &Found) -> Vec<u64> {
        found.memory.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn an_entry_stays_in_memory_until_the_disk_has_it() {
        let mut ring = Ring::default();
        for index in 0..4 {
            ring.append(entry(1, index, BYTES_MAX / 2));
        }
        ring.wrote(0, 1);
        let found = ring.find(0, 9, usize::MAX);
        assert_eq!((found.disk, indexes(&found)), (Some((0, 2)), vec![2, 3]));
        ring.wrote(0, 3);
        assert_eq!(ring.find(2, 9, usize::MAX).disk, Some((2, 3)), "of what is written, as much as there is room for");
    }

    #[test]
    fn what_nobody_has_read_yet_stays_in_memory_while_there_is_room() {
        let mut ring = Ring { is_alone: true, ..Ring::default() };
        (0..10).for_each(|index| ring.append(entry(1, index, REST_BYTES_MAX)));
        ring.wrote(0, 9);
        assert_eq!(indexes(&ring.find(0, 5, usize::MAX)), [0, 1, 2, 3, 4]);
        ring.wrote(0, 9);
        assert_eq!(ring.find(0, 10, usize::MAX).disk, Some((0, 5)));
        ring.wrote(0, 9);
        assert_eq!(ring.find(5, 10, usize::MAX).disk, None, "what came behind a part on the disk was not read by that");
    }

    #[test]
    fn of_what_was_read_a_log_that_no_other_node_reads_keeps_little() {
        for (is_alone, kept) in [(true, 9), (false, 0)] {
            // Other nodes read at a pace of their own.
            let mut ring = Ring { is_alone, ..Ring::default() };
            (0..10).for_each(|index| ring.append(entry(1, index, REST_BYTES_MAX / 2)));
            assert_eq!(indexes(&ring.find(0, 10, usize::MAX)).len(), 10, "nobody has read them yet");
            ring.wrote(0, 9);
            let disk = ring.find(0, 10, usize::MAX).disk.map_or(0, |(_, end)| end);
            assert_eq!(disk, kept);
        }
    }

    #[test]
    fn a_log_at_rest_keeps_little_and_nothing_that_the_disk_does_not_have() {
        let mut ring = Ring::default();
        (0..100).for_each(|index| ring.append(entry(1, index, REST_BYTES_MAX / 20)));
        ring.wrote(0, 49);
        ring.rest();
        assert_eq!(ring.find(0, 100, usize::MAX).disk, Some((0, 50)));
        ring.wrote(0, 99);
        assert_eq!(ring.find(0, 100, usize::MAX).disk, Some((0, 50)), "while it is in use it keeps more");
        ring.rest();
        assert_eq!(ring.find(0, 100, usize::MAX).disk, Some((0, 81)));
    }

    #[test]
    fn what_was_written_before_a_truncation_does_not_count_after_it() {
        let mut ring = Ring::default();
        (0..4).for_each(|index| ring.append(entry(1, index, BYTES_MAX)));
        let epoch = ring.epoch;
        ring.truncate_after(Some(id(1, 1)));
        ring.append(entry(2, 2, BYTES_MAX));
        ring.wrote(epoch, 3);
        assert_eq!(indexes(&ring.find(0, 9, usize::MAX)), [0, 1, 2]);
        ring.wrote(ring.epoch, 2);
        assert_eq!(ring.find(2, 9, usize::MAX).disk, Some((2, 3)));
    }

    #[test]
    fn a_read_stops_at_its_bytes_but_never_before_one_entry() {
        let mut ring = Ring::default();
        (0..4).for_each(|index| ring.append(entry(1, index, 1000)));
        assert_eq!(indexes(&ring.find(1, 4, 1)), [1]);
        assert_eq!(indexes(&ring.find(1, 4, 2200)), [1, 2]);
    }

    #[test]
    fn the_surplus_leaves_what_is_to_be_kept() {
        let mut ring = Ring::default();
        (0..10).for_each(|index| ring.append(entry(1, index, MARK_BYTES as usize)));
        assert_eq!(ring.surplus(3 * MARK_BYTES, 100), Some(6));
        assert_eq!(ring.surplus(u64::MAX, 4), Some(5));
        assert_eq!(ring.surplus(u64::MAX, 100), None);
        ring.purge(id(1, 6));
        assert_eq!(ring.surplus(3 * MARK_BYTES, 100), None);
    }

    #[test]
    fn purging_past_the_end_leaves_an_empty_log_that_begins_after_it() {
        let mut ring = Ring::default();
        (0..4).for_each(|index| ring.append(entry(1, index, 1)));
        ring.purge(id(2, 9));
        assert_eq!((ring.first(), ring.end(), ring.last), (10, 10, Some(id(2, 9))));
        assert!(ring.find(0, 99, usize::MAX).memory.is_empty());
    }
}
