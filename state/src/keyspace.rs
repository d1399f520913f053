//! The keys of one namespace, in memory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table;
use hither_protocol::{Entry, Key, KeyRange, LeaseId, Revision, Version};
use slab::Slab;

/// Entries in slots, found by key through a hash index (reads and writes of one key) and an order of keys (ranges),
/// which only creation and deletion touch.
#[derive(Debug, Default)]
pub(crate) struct Keyspace {
    slots: Slab<Entry>,
    /// Never walked, so the order that the hash gives it decides nothing; seeded at random, so that nobody can choose
    /// keys that collide.
    index: HashTable<u32>,
    hasher: RandomState,
    order: BTreeMap<Bytes, u32>,
    /// What pinned readers still see, oldest first for each key.
    past: BTreeMap<Bytes, VecDeque<Past>>,
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    pub(crate) key: &'a Key,
    pub(crate) value: &'a Bytes,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) revision: Revision,
}

/// An entry as it was, until it was replaced or deleted.
#[derive(Debug)]
struct Past {
    entry: Entry,
    replaced: Revision,
}

impl Past {
    fn is_seen_at(&self, revision: Revision) -> bool {
        self.entry.mod_revision <= revision && revision < self.replaced
    }
}

impl Keyspace {
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.past.is_empty()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let found = self.index.find(self.hasher.hash_one(key), |&slot| self.slots[slot as usize].key.as_bytes() == key);
        found.map(|&slot| &self.slots[slot as usize])
    }

    /// Writes a key; returns its entry and the one that it replaced. The bytes of a key that exists are shared, not stored
    /// again.
    pub(crate) fn put(&mut self, write: Write<'_>) -> (Entry, Option<Entry>) {
        let Self { slots, index, hasher, order, .. } = self;
        let Write { key, value, lease, revision } = write;
        let found = index.entry(
            hasher.hash_one(key.as_bytes()),
            |&slot| slots[slot as usize].key == *key,
            |&slot| hasher.hash_one(slots[slot as usize].key.as_bytes()),
        );
        let entry = |key: &Key, create_revision, version| Entry {
            key: key.clone(),
            value: value.clone(),
            create_revision,
            mod_revision: revision,
            version,
            lease,
        };
        match found {
            hash_table::Entry::Occupied(found) => {
                let kept = &mut slots[*found.get() as usize];
                let entry = entry(&kept.key, kept.create_revision, Version(kept.version.0 + 1));
                let previous = std::mem::replace(kept, entry.clone());
                (entry, Some(previous))
            }
            hash_table::Entry::Vacant(vacant) => {
                let entry = entry(key, revision, Version(1));
                vacant.insert(insert_slot(slots, order, entry.clone()));
                (entry, None)
            }
        }
    }

    /// Puts back an entry that was kept elsewhere. Returns whether its key was free.
    pub(crate) fn load(&mut self, entry: Entry) -> bool {
        if self.get(entry.key.as_bytes()).is_some() {
            return false;
        }
        let Self { slots, index, hasher, order, .. } = self;
        let hash = hasher.hash_one(entry.key.as_bytes());
        let slot = insert_slot(slots, order, entry);
        index.insert_unique(hash, slot, |&slot| hasher.hash_one(slots[slot as usize].key.as_bytes()));
        true
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let Self { slots, index, hasher, order, .. } = self;
        let found = index.find_entry(hasher.hash_one(key), |&slot| slots[slot as usize].key.as_bytes() == key).ok()?;
        let (slot, _) = found.remove();
        order.remove(key);
        Some(slots.remove(slot as usize))
    }

    /// Keeps `entry` for readers that pinned a revision before `replaced`.
    pub(crate) fn retain(&mut self, entry: Entry, replaced: Revision) {
        self.past.entry(entry.key.0.clone()).or_default().push_back(Past { entry, replaced });
    }

    /// Forgets the oldest retained entry of `key`.
    pub(crate) fn release(&mut self, key: &Bytes) {
        if let Some(past) = self.past.get_mut(key) {
            past.pop_front();
            if past.is_empty() {
                self.past.remove(key);
            }
        }
    }

    /// The entry of `key` as it was at `revision`, which must be pinned.
    pub(crate) fn get_at(&self, key: &[u8], revision: Revision) -> Option<&Entry> {
        let now = self.get(key).filter(|entry| entry.mod_revision <= revision);
        now.or_else(|| {
            let past = self.past.get(key)?.iter().find(|past| past.is_seen_at(revision))?;
            Some(&past.entry)
        })
    }

    /// The entries of `range` beyond `after`, in order of keys or the reverse, as they are or as they were at a pinned
    /// revision.
    pub(crate) fn walk<'a>(
        &'a self,
        range: &KeyRange,
        after: Option<&Key>,
        reverse: bool,
        at: Option<Revision>,
    ) -> Box<dyn Iterator<Item = &'a Entry> + 'a> {
        let Some(bounds) = bounds(range, after, reverse) else { return Box::new(std::iter::empty()) };
        let now = self.order.range::<Bytes, _>(bounds.clone()).map(|(_, &slot)| &self.slots[slot as usize]);
        let Some(revision) = at else {
            return if reverse { Box::new(now.rev()) } else { Box::new(now) };
        };
        let now = now.filter(move |entry| entry.mod_revision <= revision);
        let past = self.past.range::<Bytes, _>(bounds);
        let past = past
            .filter_map(move |(_, past)| past.iter().find(|past| past.is_seen_at(revision)).map(|past| &past.entry));
        if reverse {
            Box::new(merge(now.rev(), past.rev(), Ordering::Greater))
        } else {
            Box::new(merge(now, past, Ordering::Less))
        }
    }

    /// Every entry, in order of keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.order.values().map(|&slot| &self.slots[slot as usize])
    }
}

fn insert_slot(slots: &mut Slab<Entry>, order: &mut BTreeMap<Bytes, u32>, entry: Entry) -> u32 {
    let key = entry.key.0.clone();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each key counts 256 bytes: the limit comes before 2^32 of them"
    )]
    let slot = slots.insert(entry) as u32;
    order.insert(key, slot);
    slot
}

/// The bounds of what is left of `range`; none if nothing can be.
fn bounds(range: &KeyRange, after: Option<&Key>, reverse: bool) -> Option<(Bound<Bytes>, Bound<Bytes>)> {
    let (mut start, mut end) = range.bounds();
    if let Some(Key(after)) = after {
        let beyond = Bound::Excluded(after.clone());
        match (&start, &end) {
            (Bound::Included(start) | Bound::Excluded(start), _) if !reverse && after < start => {}
            (_, Bound::Included(end) | Bound::Excluded(end)) if reverse && after > end => {}
            _ if reverse => end = beyond,
            _ => start = beyond,
        }
    }
    // A map panics on bounds that are the wrong way round.
    let empty = match (&start, &end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
        _ => false,
    };
    (!empty).then_some((start, end))
}

/// Two orders of keys as one. A pinned revision sees a key at most once, so no key is in both.
fn merge<'a>(
    left: impl Iterator<Item = &'a Entry>,
    right: impl Iterator<Item = &'a Entry>,
    first: Ordering,
) -> impl Iterator<Item = &'a Entry> {
    let mut left = left.peekable();
    let mut right = right.peekable();
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if a.key.cmp(&b.key) == first => left.next(),
        (Some(_), None) => left.next(),
        _ => right.next(),
    })
}
