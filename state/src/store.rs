//! Every key of every namespace, what it costs, and what pinned readers still see of the past.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hither_protocol::{Entry, KeyRange, Namespace, Revision};

use crate::keyspace::{Keyspace, Write};
use crate::limits::KEY_OVERHEAD_BYTES;
use crate::pins::{Pin, Pins};
use crate::range::{RangePage, RangeQuery, project};

/// Most entries that are forgotten at once when a pin goes: a millisecond or two.
const RELEASED_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Store {
    spaces: BTreeMap<Namespace, Keyspace>,
    keys: u64,
    bytes: u64,
    pins: Pins,
    /// What is retained for pins, in the order in which it was replaced, so that the oldest goes first.
    retained: VecDeque<(Revision, Namespace, Bytes)>,
}

/// What keeping an entry costs.
pub(crate) fn cost(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + KEY_OVERHEAD_BYTES
}

impl Store {
    pub(crate) const fn keys(&self) -> u64 {
        self.keys
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn pin(&self, revision: Revision) -> Pin {
        self.pins.pin(revision)
    }

    pub(crate) fn get(&self, namespace: &Namespace, key: &[u8]) -> Option<&Entry> {
        self.spaces.get(namespace)?.get(key)
    }

    pub(crate) fn get_at(&self, namespace: &Namespace, key: &[u8], revision: Revision) -> Option<&Entry> {
        self.spaces.get(namespace)?.get_at(key, revision)
    }

    /// Writes a key; returns its entry and the one that it replaced.
    pub(crate) fn put(&mut self, namespace: &Namespace, write: Write<'_>) -> (Entry, Option<Entry>) {
        let (entry, previous) = self.space(namespace).put(write);
        self.bytes += cost(entry.key.as_bytes(), &entry.value);
        match &previous {
            None => self.keys += 1,
            Some(previous) => {
                self.bytes -= cost(previous.key.as_bytes(), &previous.value);
                self.retain(namespace, previous, entry.mod_revision);
            }
        }
        (entry, previous)
    }

    /// Puts back an entry that was kept elsewhere. Returns whether its key was free.
    pub(crate) fn load(&mut self, namespace: &Namespace, entry: Entry) -> bool {
        self.bytes += cost(entry.key.as_bytes(), &entry.value);
        self.keys += 1;
        self.space(namespace).load(entry)
    }

    fn space(&mut self, namespace: &Namespace) -> &mut Keyspace {
        // Not `entry`, which would clone the name each time for the sake of the first.
        if !self.spaces.contains_key(namespace) {
            self.spaces.insert(namespace.clone(), Keyspace::default());
        }
        self.spaces.get_mut(namespace).unwrap_or_else(|| unreachable!("inserted above"))
    }

    /// Removes a key and returns its entry.
    pub(crate) fn remove(&mut self, namespace: &Namespace, key: &[u8], revision: Revision) -> Option<Entry> {
        let space = self.spaces.get_mut(namespace)?;
        let previous = space.remove(key)?;
        self.keys -= 1;
        self.bytes -= cost(key, &previous.value);
        self.retain(namespace, &previous, revision);
        self.drop_if_empty(namespace);
        Some(previous)
    }

    fn retain(&mut self, namespace: &Namespace, previous: &Entry, replaced: Revision) {
        if self.pins.see(previous.mod_revision)
            && let Some(space) = self.spaces.get_mut(namespace)
        {
            space.retain(previous.clone(), replaced);
            self.retained.push_back((replaced, namespace.clone(), previous.key.0.clone()));
        }
    }

    pub(crate) fn retained(&self) -> usize {
        self.retained.len()
    }

    /// Forgets what no pin sees any more; of very much of it a part, and the rest after the next commands, since nobody else
    /// gets at the state meanwhile.
    pub(crate) fn release(&mut self) {
        for _ in 0..RELEASED_MAX {
            if !self.retained.front().is_some_and(|(replaced, ..)| self.pins.are_past(*replaced)) {
                return;
            }
            let Some((_, namespace, key)) = self.retained.pop_front() else { return };
            if let Some(space) = self.spaces.get_mut(&namespace) {
                space.release(&key);
            }
            self.drop_if_empty(&namespace);
        }
    }

    fn drop_if_empty(&mut self, namespace: &Namespace) {
        if self.spaces.get(namespace).is_some_and(Keyspace::is_empty) {
            self.spaces.remove(namespace);
        }
    }

    /// The entries of a range as they are now.
    pub(crate) fn walk<'a>(
        &'a self,
        namespace: &Namespace,
        range: &KeyRange,
        reverse: bool,
    ) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let space = self.spaces.get(namespace);
        space.map(|space| space.walk(range, None, reverse, None)).into_iter().flatten()
    }

    /// A page of a range. `revision` is the present one.
    pub(crate) fn range(&self, namespace: &Namespace, query: &RangeQuery<'_>, revision: Revision) -> RangePage {
        let at = query.pin.map(Pin::revision);
        let mut page = RangePage { revision: at.unwrap_or(revision), ..RangePage::default() };
        let Some(space) = self.spaces.get(namespace) else { return page };
        // The present needs no look at the past.
        let at = at.filter(|&at| at != revision);
        let mut last = None;
        let page_max = query.page_max();
        for entry in space.walk(query.range, query.after.as_ref(), query.reverse, at) {
            if page.count as usize == page_max {
                page.next = last.map(|last: &Entry| last.key.clone());
                break;
            }
            page.count += 1;
            last = Some(entry);
            if let Some(entry) = project(entry, query.projection) {
                page.entries.push(entry);
            }
        }
        page
    }

    /// Every entry, in order of namespaces and keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Namespace, &Entry)> {
        self.spaces.iter().flat_map(|(namespace, space)| space.iter().map(move |entry| (namespace, entry)))
    }
}

#[cfg(test)]
mod tests {
    use hither_protocol::Key;

    use super::*;

    fn put(store: &mut Store, namespace: &Namespace, key: &str, revision: u64) -> Entry {
        let (key, value) = (Key::from(key), Bytes::from_static(b"value"));
        store.put(namespace, Write { key: &key, value: &value, lease: None, revision: Revision(revision) }).0
    }

    #[test]
    fn a_namespace_without_keys_leaves_nothing_once_no_pin_sees_one() {
        let namespace = Namespace::default();
        let mut store = Store::default();
        put(&mut store, &namespace, "a", 1);
        store.remove(&namespace, b"a", Revision(2));
        assert!(store.spaces.is_empty());

        put(&mut store, &namespace, "a", 3);
        let pin = store.pin(Revision(3));
        store.remove(&namespace, b"a", Revision(4));
        store.release();
        assert!(store.get_at(&namespace, b"a", pin.revision()).is_some());
        drop(pin);
        store.release();
        assert!(store.spaces.is_empty());
        assert_eq!((store.keys(), store.bytes()), (0, 0));
    }

    #[test]
    fn a_key_that_is_written_again_is_stored_once() {
        let namespace = Namespace::default();
        let mut store = Store::default();
        let first = put(&mut store, &namespace, "a", 1);
        let second = put(&mut store, &namespace, "a", 2);
        assert_eq!(first.key.as_bytes().as_ptr(), second.key.as_bytes().as_ptr());
    }
}
