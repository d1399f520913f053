//! Lists of what a range held at one moment, in order of `mod_revision`: what snapshots and resets are made of.
//!
//! A list is gathered at a pinned revision, a page at a time, so that nobody holds the state for long, and shared by all
//! watches that ask for the same range before anything in it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hither_protocol::{Entry, Key, KeyRange, Moment, Namespace, Revision};

use super::history::ChangeLog;
use super::spec::HubConfig;
use crate::{Pin, RangePage, RangeQuery, State};

/// Bytes that an entry of a list costs beside its key and value, which it shares with the state as long as they do not
/// change.
const ENTRY_OVERHEAD_BYTES: usize = 192;

/// A list, numbered by the hub. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ListId(u64);

/// A place in a list: after the entry of this revision and number.
pub(super) type Place = (Revision, u64);

/// Every list in use, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lists {
    lists: BTreeMap<ListId, List>,
    /// The newest list of each range. Looked up, never walked.
    newest: HashMap<(Namespace, KeyRange), ListId>,
    /// Those that are not whole.
    partial: BTreeSet<ListId>,
    next: u64,
    bytes: usize,
}

/// The entries of a range at one revision.
#[derive(Debug)]
pub(super) struct List {
    namespace: Namespace,
    range: KeyRange,
    pub(super) revision: Revision,
    /// By `mod_revision`; numbered, since one revision may have written several.
    pub(super) entries: BTreeMap<Place, Entry>,
    /// What is yet to be read of the state.
    rest: Option<Rest>,
    begun: Moment,
    /// When a page was last read into it.
    grown: Moment,
    holders: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Rest {
    pin: Pin,
    /// The last key that was read.
    after: Key,
}

/// How a list stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is whole.
    Whole,
    /// A page was read; there is more.
    Partial,
    /// An older list has to be done first.
    Waits,
    /// It is gone.
    Gone,
}

impl List {
    fn add(&mut self, page: RangePage) -> usize {
        let before = self.bytes;
        for entry in page.entries {
            self.bytes += ENTRY_OVERHEAD_BYTES + entry.key.as_bytes().len() + entry.value.len();
            self.entries.insert((entry.mod_revision, self.entries.len() as u64), entry);
        }
        self.bytes - before
    }
}

impl Lists {
    /// A list of `range` as it is now; none while memory is short.
    pub(super) fn open(
        &mut self,
        state: &State,
        log: &ChangeLog,
        config: &HubConfig,
        (namespace, range): (&Namespace, &KeyRange),
        now: Moment,
    ) -> Option<(ListId, Revision)> {
        let name = (namespace.clone(), range.clone());
        if let Some(&id) = self.newest.get(&name)
            && let Some(list) = self.lists.get_mut(&id)
            && log.is_quiet(list.revision, namespace, range, config.scan_max)
        {
            list.holders += 1;
            return Some((id, list.revision));
        }
        if self.bytes >= config.snapshot_bytes_max {
            self.evict(config, now);
        }
        if self.bytes >= config.snapshot_bytes_max {
            return None;
        }
        let mut page = state.range(namespace, &RangeQuery::new(range));
        let rest = page.next.take().map(|after| Rest { pin: state.pin(), after });
        let revision = page.revision;
        let (namespace, range) = name.clone();
        let mut list = List {
            namespace,
            range,
            revision,
            entries: BTreeMap::new(),
            rest,
            begun: now,
            grown: now,
            holders: 1,
            bytes: 0,
        };
        self.bytes += list.add(page);
        let id = ListId(self.next);
        self.next += 1;
        if list.rest.is_some() {
            self.partial.insert(id);
        }
        self.lists.insert(id, list);
        self.newest.insert(name, id);
        Some((id, revision))
    }

    /// Reads one more page of a list that is not whole.
    pub(super) fn gather(&mut self, id: ListId, state: &State, config: &HubConfig, now: Moment) -> Progress {
        let is_oldest = self.lists.first_key_value().is_some_and(|(&oldest, _)| oldest == id);
        if self.bytes >= config.snapshot_bytes_max
            && !is_oldest
            && self.lists.get(&id).is_some_and(|list| list.rest.is_some())
        {
            self.evict(config, now);
            return if self.lists.contains_key(&id) { Progress::Waits } else { Progress::Gone };
        }
        let Some(list) = self.lists.get_mut(&id) else { return Progress::Gone };
        let Some(Rest { pin, after }) = list.rest.take() else { return Progress::Whole };
        let query = RangeQuery { after: Some(after), pin: Some(&pin), ..RangeQuery::new(&list.range) };
        let mut page = state.range(&list.namespace, &query);
        let next = page.next.take();
        let progress = if next.is_some() { Progress::Partial } else { Progress::Whole };
        if next.is_none() {
            self.partial.remove(&id);
        }
        list.grown = now;
        list.rest = next.map(|after| Rest { pin, after });
        self.bytes += list.add(page);
        progress
    }

    pub(super) fn get(&self, id: ListId) -> Option<&List> {
        self.lists.get(&id)
    }

    /// One watch less reads the list.
    pub(super) fn release(&mut self, id: ListId) {
        if let Some(list) = self.lists.get_mut(&id) {
            list.holders -= 1;
            if list.holders == 0 {
                self.drop_list(id);
            }
        }
    }

    /// Drops lists that nobody goes on with: their pins make the state keep what it would forget.
    pub(super) fn unpin(&mut self, config: &HubConfig, now: Moment) {
        while let Some(&id) = self.partial.first()
            && self.lists.get(&id).is_none_or(|list| now.since(list.grown) > config.snapshot_age_max)
        {
            self.drop_list(id);
        }
    }

    /// The state is another one: nothing that is still to be read can be.
    pub(super) fn clear(&mut self) {
        self.lists.clear();
        self.newest.clear();
        self.partial.clear();
        self.bytes = 0;
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the lists that were kept for too long, oldest first, until there is room.
    fn evict(&mut self, config: &HubConfig, now: Moment) {
        while self.bytes >= config.snapshot_bytes_max
            && let Some((&id, list)) = self.lists.first_key_value()
            && now.since(list.begun) > config.snapshot_age_max
        {
            self.drop_list(id);
        }
    }

    fn drop_list(&mut self, id: ListId) {
        self.partial.remove(&id);
        if let Some(list) = self.lists.remove(&id) {
            self.bytes -= list.bytes;
            let name = (list.namespace, list.range);
            if self.newest.get(&name) == Some(&id) {
                self.newest.remove(&name);
            }
        }
    }
}
