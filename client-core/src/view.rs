//! What the application knows through one watch, so that a reset can be told as the exact difference.

use std::collections::BTreeMap;

use hither_protocol::message::{Filter, ResetPage};
use hither_protocol::{Entry, Event, Key, Previous, Revision};

/// The keys that the application was told of, or a reset found, and that exist as far as it knows, each with the revision it
/// knows. For a watch that others may join, their entries too.
///
/// Bounded: beyond `keys_max` it forgets everything and says so (a reset is then told as a new snapshot); beyond
/// `bytes_max` it forgets the entries (others then no longer join).
#[derive(Clone, Debug)]
pub(crate) struct View {
    keys: BTreeMap<Key, Known>,
    keys_max: usize,
    bytes: usize,
    bytes_max: usize,
    overflowed: bool,
    entries: bool,
}

#[derive(Clone, Debug)]
struct Known {
    revision: Revision,
    entry: Option<Box<Entry>>,
}

impl View {
    /// `entries`: whether to keep them for others to join.
    pub(crate) const fn new(keys_max: usize, bytes_max: usize, entries: bool) -> Self {
        Self { keys: BTreeMap::new(), keys_max, bytes: 0, bytes_max, overflowed: false, entries }
    }

    /// Whether it no longer knows what the application knows.
    pub(crate) const fn is_lost(&self) -> bool {
        self.overflowed
    }

    /// Whether it can tell the whole state to another watch.
    pub(crate) const fn is_complete(&self) -> bool {
        self.entries && !self.overflowed
    }

    /// Whether the application was told of all these keys.
    pub(crate) fn knows(&self, keys: &[Key]) -> bool {
        keys.iter().all(|key| self.keys.contains_key(key))
    }

    /// Keeps entries no longer.
    pub(crate) fn drop_entries(&mut self) {
        self.entries = false;
        self.bytes = 0;
        for known in self.keys.values_mut() {
            known.entry = None;
        }
    }

    /// The state is exactly this.
    pub(crate) fn replace(&mut self, entries: &[Entry]) {
        self.keys.clear();
        self.bytes = 0;
        self.overflowed = false;
        for entry in entries {
            self.put(entry);
        }
    }

    /// These events were told.
    pub(crate) fn apply(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Put { entry, .. } => self.put(entry),
                Event::Delete { key, .. } => self.delete(key),
                Event::Liveness { .. } => {}
            }
        }
    }

    /// The state as a snapshot tells it: in order of `mod_revision`, then of keys.
    pub(crate) fn snapshot(&self) -> Vec<Event> {
        let mut entries: Vec<Entry> = self.keys.values().filter_map(|known| known.entry.as_deref().cloned()).collect();
        entries.sort_by(|a, b| (a.mod_revision, &a.key).cmp(&(b.mod_revision, &b.key)));
        entries.into_iter().map(told).collect()
    }

    /// What a reset changes for the application. `asked`: whether it wants the entries before each event.
    pub(crate) fn difference(&self, reset: &ResetPage, filter: Filter, asked: bool) -> Vec<Event> {
        let previous = |known: Option<&Known>| match (asked, known) {
            (false, _) => Previous::NotAsked,
            (true, None) => Previous::None,
            (true, Some(Known { entry: Some(entry), .. })) => Previous::Entry(entry.clone()),
            (true, Some(_)) => Previous::Forgotten,
        };
        let mut exists: Vec<&Key> =
            reset.unchanged.iter().chain(reset.changed.iter().map(|entry| &entry.key)).collect();
        exists.sort_unstable();
        let mut events = Vec::new();
        for entry in reset.changed.iter().filter(|_| filter.puts) {
            let known = self.keys.get(&entry.key);
            if known.is_none_or(|known| known.revision != entry.mod_revision) {
                events.push(Event::Put { entry: entry.clone(), previous: previous(known) });
            }
        }
        #[cfg(feature = "planted")]
        if hither_protocol::planted::strikes(hither_protocol::planted::Bug::ResetWithoutDeletes) {
            return events;
        }
        for (key, known) in self.keys.iter().filter(|_| filter.deletes) {
            if exists.binary_search(&key).is_err() {
                let (key, previous) = (key.clone(), previous(Some(known)));
                events.push(Event::Delete { key, revision: reset.revision, previous });
            }
        }
        events
    }

    /// After a reset all keys that are there are known, also those that the application was never told of: a beat may have
    /// vouched for the time in which they came, of which the filter let nothing through. Those that are gone are forgotten,
    /// also if it did not want to hear of deletions.
    pub(crate) fn reset(&mut self, reset: &ResetPage) {
        let mut exists: Vec<&Key> =
            reset.unchanged.iter().chain(reset.changed.iter().map(|entry| &entry.key)).collect();
        exists.sort_unstable();
        let gone: Vec<Key> = self.keys.keys().filter(|key| exists.binary_search(key).is_err()).cloned().collect();
        for key in gone {
            self.delete(&key);
        }
        for entry in &reset.changed {
            self.put(entry);
        }
        for key in &reset.unchanged {
            self.find(key);
        }
    }

    /// A key is there, with whatever revision.
    fn find(&mut self, key: &Key) {
        if !self.overflowed && !self.keys.contains_key(key) {
            self.keys.insert(key.clone(), Known { revision: Revision::ZERO, entry: None });
            self.bound_keys();
        }
    }

    fn put(&mut self, entry: &Entry) {
        if self.overflowed {
            return;
        }
        let known = Known { revision: entry.mod_revision, entry: self.entries.then(|| Box::new(entry.clone())) };
        if self.entries {
            self.bytes += entry.value.len() + entry.key.0.len();
        }
        // A key that is known already keeps its place, and the new event its key.
        let before = match self.keys.get_mut(&entry.key) {
            Some(place) => Some(std::mem::replace(place, known)),
            None => self.keys.insert(entry.key.clone(), known),
        };
        self.forget_bytes(before.and_then(|known| known.entry));
        if self.bytes > self.bytes_max {
            self.drop_entries();
        }
        self.bound_keys();
    }

    fn bound_keys(&mut self) {
        if self.keys.len() > self.keys_max {
            self.overflowed = true;
            self.keys.clear();
            self.bytes = 0;
        }
    }

    fn delete(&mut self, key: &Key) {
        let before = self.keys.remove(key);
        self.forget_bytes(before.and_then(|known| known.entry));
    }

    fn forget_bytes(&mut self, entry: Option<Box<Entry>>) {
        if let Some(entry) = entry {
            self.bytes = self.bytes.saturating_sub(entry.value.len() + entry.key.0.len());
        }
    }
}

/// An entry as a snapshot tells it.
pub(crate) fn told(entry: Entry) -> Event {
    Event::Put { entry, previous: Previous::NotAsked }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hither_protocol::{ClusterId, Lineage, Version};

    fn entry(key: &str, revision: u64) -> Entry {
        Entry {
            key: key.into(),
            value: format!("{key}@{revision}").into(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: Version(1),
            lease: None,
        }
    }

    fn reset(revision: u64, unchanged: &[&str], changed: &[Entry]) -> ResetPage {
        ResetPage {
            revision: Revision(revision),
            base: Revision(0),
            lineage: Lineage { cluster: ClusterId([0; 16]), incarnation: 1 },
            unchanged: unchanged.iter().map(|key| Key::from(*key)).collect(),
            changed: changed.to_vec(),
        }
    }

    fn shown(events: &[Event]) -> Vec<String> {
        let show = |event: &Event| match event {
            Event::Put { entry, .. } => format!("put {}@{}", entry.key, entry.mod_revision),
            Event::Delete { key, revision, .. } => format!("delete {key}@{revision}"),
            Event::Liveness { .. } => "liveness".to_owned(),
        };
        events.iter().map(show).collect()
    }

    #[test]
    fn a_reset_is_told_as_what_changed_for_the_application() {
        let mut view = View::new(100, 1_000, false);
        view.replace(&[entry("a", 1), entry("b", 2), entry("c", 3)]);
        let page = reset(9, &["a"], &[entry("c", 3), entry("d", 7), entry("b", 8)]);
        assert_eq!(shown(&view.difference(&page, Filter::default(), false)), ["put d@7", "put b@8"]);
        let page = reset(9, &["a"], &[entry("d", 7)]);
        let events = view.difference(&page, Filter::default(), true);
        assert_eq!(shown(&events), ["put d@7", "delete b@9", "delete c@9"]);
        assert!(matches!(&events[0], Event::Put { previous: Previous::None, .. }));
        assert!(matches!(&events[1], Event::Delete { previous: Previous::Forgotten, .. }));
        view.reset(&page);
        assert_eq!(shown(&view.difference(&page, Filter::default(), false)), [""; 0]);
    }

    #[test]
    fn a_key_that_a_reset_found_is_told_as_deleted_by_the_next() {
        let mut view = View::new(100, 1_000, false);
        view.apply(&[Event::Delete { key: "b".into(), revision: Revision(3), previous: Previous::NotAsked }]);
        // Put again, which the filter kept back, and a beat said that nothing was missing.
        view.reset(&reset(9, &["b"], &[entry("d", 7)]));
        let events = view.difference(&reset(12, &["d"], &[]), Filter { puts: false, ..Filter::default() }, true);
        assert_eq!(shown(&events), ["delete b@12"]);
        assert!(matches!(&events[0], Event::Delete { previous: Previous::Forgotten, .. }));
    }

    #[test]
    fn it_is_bounded_and_says_when_it_forgot() {
        let mut view = View::new(2, 12, true);
        view.replace(&[entry("a", 1), entry("b", 2)]);
        assert!(view.is_complete());
        view.apply(&[told(entry("a", 30_000_000))]);
        assert!(!view.is_complete() && !view.is_lost());
        view.apply(&[told(entry("c", 4))]);
        assert!(view.is_lost());
        view.replace(&[entry("a", 5)]);
        assert!(!view.is_lost());
    }

    #[test]
    fn a_snapshot_of_it_is_in_order_of_revisions() {
        let mut view = View::new(100, 1_000, true);
        view.replace(&[entry("a", 5), entry("b", 2)]);
        view.apply(&[
            told(entry("c", 6)),
            Event::Delete { key: "b".into(), revision: Revision(7), previous: Previous::NotAsked },
        ]);
        assert_eq!(shown(&view.snapshot()), ["put a@5", "put c@6"]);
    }
}
