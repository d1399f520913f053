//! What one revision changed, each event encoded at most once for all its watchers.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::encode_body;
use hither_protocol::message::Filter;
use hither_protocol::{
    Entry, Event, Key, KeyRange, LeaseId, LeaseState, Moment, Namespace, Previous, Revision, Version,
};

use super::event::EventRef;
use crate::{Change, Delta};

/// Bytes that a record costs beside its event: itself and the allocations behind it.
const RECORD_OVERHEAD_BYTES: usize = 256;

/// Room for what an event has beside its key and value: lengths, revisions, version, lease.
const NUMBERS_BYTES: usize = 64;

/// The events of one revision.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) revision: Revision,
    /// When this node got it, for the age of history.
    pub(super) recorded: Moment,
    pub(super) records: Records,
    /// What keeping it costs.
    pub(super) bytes: usize,
}

/// The events of a revision. Nearly every one changes one key, and keeps its event in the same piece of memory.
#[derive(Debug)]
pub(super) enum Records {
    One(Record),
    Many(Box<[Record]>),
}

impl FromIterator<Record> for Records {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut records = records.into_iter();
        let Some(first) = records.next() else { return Self::Many(Box::default()) };
        match records.next() {
            None => Self::One(first),
            Some(second) => Self::Many([first, second].into_iter().chain(records).collect()),
        }
    }
}

impl Deref for Records {
    type Target = [Record];

    fn deref(&self) -> &[Record] {
        match self {
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }
}

/// One event and who it concerns.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) namespace: Namespace,
    pub(super) subject: Subject,
    /// The event as the wire has it, without the entry before; once somebody who watches has asked for it. Until then its key
    /// and its value are those of the state, and history costs little beside it.
    body: OnceLock<Bytes>,
}

/// What an event is about.
#[derive(Debug)]
pub(super) enum Subject {
    Put(Entry, Before),
    Delete(Key, Revision, Before),
    /// The standing of a lease, and its keys.
    Liveness(LeaseId, LeaseState, Revision, Vec<Key>),
}

/// What an event is about, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About<'a> {
    Key(&'a Key),
    Lease(LeaseId),
}

/// The entry before an event.
#[derive(Debug)]
pub(super) enum Before {
    None,
    Entry(Arc<Entry>),
    /// There was one, but this history was read from disk.
    Forgotten,
}

impl Block {
    /// The events of a delta; none if it has none.
    pub(super) fn of(delta: &Delta, now: Moment) -> Option<Self> {
        let records: Records = delta.changes.iter().filter_map(|change| Record::of(change, delta.revision)).collect();
        (!records.is_empty()).then(|| Self::new(delta.revision, now, records))
    }

    pub(super) fn new(revision: Revision, recorded: Moment, records: Records) -> Self {
        let bytes = records.iter().map(Record::cost).sum();
        Self { revision, recorded, records, bytes }
    }
}

impl Record {
    fn of(change: &Change, revision: Revision) -> Option<Self> {
        let before = |entry: &Arc<Entry>| Before::Entry(entry.clone());
        let (namespace, subject) = match change {
            Change::Put { namespace, entry, previous } => {
                (namespace, Subject::Put(entry.clone(), previous.as_ref().map_or(Before::None, before)))
            }
            Change::Delete { namespace, previous } => {
                (namespace, Subject::Delete(previous.key.clone(), revision, before(previous)))
            }
            Change::Liveness { lease, state, namespace, keys } => {
                (namespace, Subject::Liveness(*lease, *state, revision, keys.clone()))
            }
            _ => return None,
        };
        Some(Self { namespace: namespace.clone(), subject, body: OnceLock::new() })
    }

    /// The record of an event that was read from disk. `keys` are those of the lease whose standing the event is.
    pub(super) fn stored(namespace: Namespace, event: Event, keys: Vec<Key>) -> Self {
        let subject = match event {
            Event::Put { entry, .. } => {
                let before = if entry.version == Version(1) { Before::None } else { Before::Forgotten };
                Subject::Put(entry, before)
            }
            Event::Delete { key, revision, .. } => Subject::Delete(key, revision, Before::Forgotten),
            Event::Liveness { lease, state, revision } => Subject::Liveness(lease, state, revision, keys),
        };
        Self { namespace, subject, body: OnceLock::new() }
    }

    fn body(&self) -> &Bytes {
        self.body.get_or_init(|| {
            // Kept as long as history is: what was grown by doubling would be half air.
            let mut body = BytesMut::with_capacity(self.body_bytes());
            encode_body(&mut body, &self.subject.event());
            body.freeze()
        })
    }

    /// No less than the event has as the wire has it, and little more.
    pub(super) fn body_bytes(&self) -> usize {
        let payload = match &self.subject {
            Subject::Put(entry, _) => entry.key.as_bytes().len() + entry.value.len(),
            Subject::Delete(key, ..) => key.as_bytes().len(),
            Subject::Liveness(..) => 0,
        };
        payload + NUMBERS_BYTES
    }

    /// The event as a watch gets it.
    pub(super) fn encoded(&self, previous: bool, bytes_max: usize) -> Bytes {
        match &self.subject {
            Subject::Put(_, before) | Subject::Delete(.., before) if previous => self.encoded_after(before, bytes_max),
            _ => self.body().clone(),
        }
    }

    /// The event with the entry before it. One that does not fit into `bytes_max` beside the event is said to be
    /// forgotten.
    pub(super) fn encoded_after(&self, before: &Before, bytes_max: usize) -> Bytes {
        // The entry before is the last field of an event, and "not asked", variant 0, its last byte.
        let whole = self.body();
        let Some((_, event)) = whole.split_last() else { return whole.clone() };
        let mut body = BytesMut::with_capacity(whole.len() + before.cost());
        body.extend_from_slice(event);
        encode_body(&mut body, &before.previous());
        if body.len() > bytes_max {
            body.truncate(event.len());
            encode_body(&mut body, &Previous::Forgotten);
        }
        body.freeze()
    }

    /// The entry before the event; none for the standing of a lease.
    pub(super) const fn before(&self) -> Option<&Before> {
        match &self.subject {
            Subject::Put(_, before) | Subject::Delete(.., before) => Some(before),
            Subject::Liveness(..) => None,
        }
    }

    /// What the event is about: of two events about the same, the later is the newer state.
    pub(super) fn about(&self) -> About<'_> {
        match &self.subject {
            Subject::Put(Entry { key, .. }, _) | Subject::Delete(key, ..) => About::Key(key),
            Subject::Liveness(lease, ..) => About::Lease(*lease),
        }
    }

    /// The keys that the event concerns.
    pub(super) fn keys(&self) -> &[Key] {
        match &self.subject {
            Subject::Put(Entry { key, .. }, _) | Subject::Delete(key, ..) => std::slice::from_ref(key),
            Subject::Liveness(.., keys) => keys,
        }
    }

    /// Whether a watch of `range` with this filter sees it.
    pub(super) fn is_for(&self, namespace: &Namespace, range: &KeyRange, filter: Filter) -> bool {
        self.passes(filter)
            && self.namespace == *namespace
            && self.keys().iter().any(|key| range.contains(key.as_bytes()))
    }

    pub(super) const fn passes(&self, filter: Filter) -> bool {
        match self.subject {
            Subject::Put(..) => filter.puts,
            Subject::Delete(..) => filter.deletes,
            Subject::Liveness(..) => filter.liveness,
        }
    }

    fn cost(&self) -> usize {
        let subject = match &self.subject {
            Subject::Put(_, before) | Subject::Delete(.., before) => before.cost(),
            Subject::Liveness(.., keys) => keys.iter().map(|key| size_of::<Key>() + key.as_bytes().len()).sum(),
        };
        // Counted as if it were watched: keys are shared with the state, and values until they are overwritten.
        RECORD_OVERHEAD_BYTES + subject + self.body_bytes()
    }
}

impl Subject {
    /// Without the entry before it.
    const fn event(&self) -> EventRef<'_> {
        match self {
            Self::Put(entry, _) => EventRef::put(entry),
            Self::Delete(key, revision, _) => EventRef::delete(key, *revision),
            Self::Liveness(lease, state, revision, _) => EventRef::liveness(*lease, *state, *revision),
        }
    }
}

impl Before {
    fn previous(&self) -> Previous {
        match self {
            Self::None => Previous::None,
            Self::Entry(entry) => Previous::Entry(Box::new(Entry::clone(entry))),
            Self::Forgotten => Previous::Forgotten,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Entry(entry) => size_of::<Entry>() + entry.key.as_bytes().len() + entry.value.len(),
            Self::None | Self::Forgotten => 0,
        }
    }
}
