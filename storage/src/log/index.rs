//! Where each record lies.

use std::collections::{BTreeSet, VecDeque};

/// Where a record lies: its length, its checksum and its payload, from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    /// Of the payload.
    pub(super) length: u32,
}

/// The places of all records, and the segments there are. Changed once for each write, after it was written.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The index of the first record, if there are any.
    first: u64,
    places: VecDeque<Place>,
    segments: BTreeSet<u64>,
}

impl Index {
    /// The index after the last record; none if there are no records.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        (!self.places.is_empty()).then(|| (self.first, self.first + self.places.len() as u64))
    }

    /// There is a segment of this number.
    pub(super) fn begin(&mut self, segment: u64) {
        self.segments.insert(segment);
    }

    /// `first` follows the last record, if there are any.
    pub(super) fn append(&mut self, first: u64, places: impl IntoIterator<Item = Place>) {
        if self.places.is_empty() {
            self.first = first;
        }
        self.places.extend(places);
    }

    /// Records from `next` on are gone.
    pub(super) fn truncate(&mut self, next: u64) {
        self.places.truncate(usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX));
    }

    /// Records before `purged` are gone.
    pub(super) fn purge(&mut self, purged: u64) {
        let gone = usize::try_from(purged.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.places.len());
        self.places.drain(..gone);
        self.first += gone as u64;
    }

    /// The segments before `current` that no record lies in. They are forgotten.
    pub(super) fn take_dead(&mut self, current: u64) -> Vec<u64> {
        let live = self.places.front().map_or(current, |place| place.segment.min(current));
        let rest = self.segments.split_off(&live);
        std::mem::replace(&mut self.segments, rest).into_iter().collect()
    }

    /// The records from `first` to before `end`, as many as are there, of which those after the first have no more than
    /// `bytes_max` bytes of payload with it: their indexes and their places.
    pub(super) fn find(&self, first: u64, end: u64, bytes_max: usize) -> Vec<(u64, Place)> {
        let Some((low, high)) = self.range() else { return Vec::new() };
        let (first, end) = (first.max(low), end.min(high));
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in first..end {
            // Both are within the records that are there, which are in memory.
            let place = self.places[usize::try_from(index - self.first).unwrap_or(usize::MAX)];
            bytes += place.length as usize;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((index, place));
        }
        found
    }
}
