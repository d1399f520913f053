//! All of history, as one reader saw it that was never behind a fault: every revision, with every event in it.
//!
//! It is not believed: each event must follow from the state before it (versions, previous entries, nothing deleted
//! that was not there), no revision may be missing, and in the end every acknowledged write must be in it at its
//! revision ([`verdict`](crate::verdict)).

use std::collections::BTreeMap;
use std::time::Instant;

use hither::{Entry, Event, Filter, Key, KeyRange, LeaseId, Previous, Revision, Update, UpdateKind, Version};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use crate::finding::{Finding, Kind};

const READER: &str = "the reference reader";

/// History as far as it is known, for many to read while it grows.
#[derive(Debug)]
pub(crate) struct Truth {
    history: RwLock<History>,
    head: watch::Sender<Revision>,
}

impl Truth {
    pub(crate) fn new() -> Self {
        Self { history: RwLock::default(), head: watch::Sender::new(Revision::ZERO) }
    }

    /// Takes what the reference reader was told next.
    pub(crate) fn take(&self, update: &Update, at: Instant) -> Result<(), Finding> {
        let mut history = self.history.write();
        history.take(update, at)?;
        self.head.send_replace(history.head());
        Ok(())
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, History> {
        self.history.read()
    }

    pub(crate) fn head(&self) -> Revision {
        *self.head.borrow()
    }

    /// Waits until everything up to `revision` is known.
    pub(crate) async fn reached(&self, revision: Revision) {
        // The sender is as old as this future.
        let _ = self.head.subscribe().wait_for(|head| *head >= revision).await;
    }
}

/// One revision.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) events: Vec<Event>,
    /// When the reader was told: never before it was decided.
    pub(crate) at: Instant,
    /// The keys of each lease whose standing changed in it.
    leases: BTreeMap<LeaseId, Vec<Key>>,
}

/// Every revision since the reader began.
#[derive(Debug, Default)]
pub(crate) struct History {
    begun: bool,
    base: Revision,
    steps: Vec<Step>,
    state: BTreeMap<Key, Entry>,
    /// Each key's entries, by the revision from which they held.
    keys: BTreeMap<Key, Vec<(Revision, Option<Entry>)>>,
}

impl History {
    /// The last revision that is known.
    pub(crate) fn head(&self) -> Revision {
        Revision(self.base.0 + self.steps.len() as u64)
    }

    /// What there was before the first revision that is known.
    pub(crate) fn base(&self) -> Revision {
        self.base
    }

    /// The newest state.
    pub(crate) fn state(&self) -> &BTreeMap<Key, Entry> {
        &self.state
    }

    /// What happened at a revision; none if it is not known.
    pub(crate) fn step(&self, revision: Revision) -> Option<&Step> {
        self.steps.get(usize::try_from(revision.0.checked_sub(self.base.0 + 1)?).ok()?)
    }

    /// Every revision that is known.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Revision, &Step)> {
        (self.base.0 + 1..).map(Revision).zip(&self.steps)
    }

    /// The events in `(after, to]` that a watch of this range with this filter must see.
    pub(crate) fn events<'a>(
        &'a self,
        range: &'a KeyRange,
        filter: Filter,
        after: Revision,
        to: Revision,
    ) -> impl DoubleEndedIterator<Item = &'a Event> {
        let place = |revision: Revision| (revision.0.saturating_sub(self.base.0) as usize).min(self.steps.len());
        let steps = &self.steps[place(after)..place(to).max(place(after))];
        steps.iter().flat_map(move |step| step.events.iter().filter(move |event| step.matches(event, range, filter)))
    }

    /// The entry of a key at a revision.
    pub(crate) fn entry(&self, key: &Key, at: Revision) -> Option<&Entry> {
        let entries = self.keys.get(key)?;
        let place = entries.partition_point(|(from, _)| *from <= at).checked_sub(1)?;
        entries[place].1.as_ref()
    }

    /// The entries of a range at a revision.
    pub(crate) fn state_at(&self, range: &KeyRange, at: Revision) -> BTreeMap<&Key, &Entry> {
        let keys = self.keys.keys().filter(|key| range.contains(key.as_bytes()));
        keys.filter_map(|key| Some((key, self.entry(key, at)?))).collect()
    }

    fn take(&mut self, update: &Update, at: Instant) -> Result<(), Finding> {
        let wrong = |kind, what: String| Err(Finding::new(kind, READER, what));
        match update.kind {
            UpdateKind::Snapshot if !self.begun => {
                self.begun = true;
                self.base = update.revision;
                for event in &update.events {
                    self.record(event);
                }
                return Ok(());
            }
            UpdateKind::Changes if self.begun => {}
            kind => {
                let (told, head) = (kind.as_str(), self.head());
                return wrong(
                    Kind::Difference,
                    format!("was told a {told} at {}, and knew all up to {head}", update.revision),
                );
            }
        }
        for event in &update.events {
            let revision = event.revision();
            let head = self.head();
            if revision > head.next() {
                return wrong(
                    Kind::Missing,
                    format!("nothing was told of {}: after {head} came {event:?}", head.next()),
                );
            }
            if revision < head {
                return wrong(Kind::Doubled, format!("after {head} came {event:?}"));
            }
            if revision == head && self.steps.last().is_some_and(|step| step.events.contains(event)) {
                return wrong(Kind::Doubled, format!("came twice: {event:?}"));
            }
            let before = event.key().and_then(|key| self.state.get(key));
            if let Some((kind, flaw)) = flaw(event, before) {
                return wrong(kind, format!("{flaw}: {event:?} where there was {before:?}"));
            }
            if revision == head.next() {
                self.steps.push(Step { events: Vec::new(), at, leases: BTreeMap::new() });
            }
            let leased = match event {
                Event::Liveness { lease, .. } => {
                    let of = |entry: &&Entry| entry.lease == Some(*lease);
                    Some((*lease, self.state.values().filter(of).map(|entry| entry.key.clone()).collect::<Vec<_>>()))
                }
                _ => None,
            };
            if leased.as_ref().is_some_and(|(_, keys)| keys.is_empty()) {
                return wrong(Kind::Phantom, format!("a lease without keys takes no revision: {event:?}"));
            }
            if let Some(step) = self.steps.last_mut() {
                step.events.push(event.clone());
                step.leases.extend(leased);
            }
            self.record(event);
        }
        if self.head() != update.revision {
            return wrong(
                Kind::Missing,
                format!("was told up to {}, but nothing of {}", update.revision, self.head().next()),
            );
        }
        Ok(())
    }

    fn record(&mut self, event: &Event) {
        let (key, entry) = match event {
            Event::Put { entry, .. } => (&entry.key, Some(entry.clone())),
            Event::Delete { key, .. } => (key, None),
            Event::Liveness { .. } => return,
        };
        match &entry {
            Some(entry) => drop(self.state.insert(key.clone(), entry.clone())),
            None => drop(self.state.remove(key)),
        }
        self.keys.entry(key.clone()).or_default().push((event.revision(), entry));
    }
}

impl Step {
    fn matches(&self, event: &Event, range: &KeyRange, filter: Filter) -> bool {
        match event {
            Event::Put { entry, .. } => filter.puts && range.contains(entry.key.as_bytes()),
            Event::Delete { key, .. } => filter.deletes && range.contains(key.as_bytes()),
            Event::Liveness { lease, .. } => {
                let keys = self.leases.get(lease).into_iter().flatten();
                filter.liveness && keys.into_iter().any(|key| range.contains(key.as_bytes()))
            }
        }
    }
}

/// Why an event cannot follow what was there.
fn flaw(event: &Event, before: Option<&Entry>) -> Option<(Kind, &'static str)> {
    match (event, before) {
        (Event::Put { entry, previous }, Some(before)) => {
            if entry.create_revision == entry.mod_revision {
                return Some((Kind::Missing, "a key is created that exists: its deletion was not told"));
            }
            if entry.version != Version(before.version.0 + 1) {
                return Some((Kind::Missing, "a version is skipped: a write was not told"));
            }
            if entry.create_revision != before.create_revision {
                return Some((Kind::Missing, "another creation than the one that was told"));
            }
            is_another(previous, before).then_some((Kind::Phantom, "the entry before it is another one"))
        }
        (Event::Put { entry, previous }, None) => {
            if entry.create_revision != entry.mod_revision || entry.version != Version(1) {
                return Some((Kind::Missing, "a key is written whose creation was not told"));
            }
            matches!(previous, Previous::Entry(_)).then_some((Kind::Phantom, "there was nothing before it"))
        }
        (Event::Delete { .. }, None) => Some((Kind::Missing, "a key is deleted whose creation was not told")),
        (Event::Delete { previous, .. }, Some(before)) => {
            is_another(previous, before).then_some((Kind::Phantom, "the entry before it is another one"))
        }
        (Event::Liveness { .. }, _) => None,
    }
}

/// Whether the entry before an event is told to be another than it was. What was read from disk has forgotten it.
fn is_another(told: &Previous, before: &Entry) -> bool {
    match told {
        Previous::Entry(told) => **told != *before,
        Previous::None => true,
        Previous::NotAsked | Previous::Forgotten => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn put(key: &str, revision: u64, create: u64, version: u64) -> Event {
        let entry = Entry {
            key: key.into(),
            value: format!("{key}@{revision}").into(),
            create_revision: Revision(create),
            mod_revision: Revision(revision),
            version: Version(version),
            lease: None,
        };
        Event::Put { entry, previous: Previous::NotAsked }
    }

    pub(crate) fn delete(key: &str, revision: u64) -> Event {
        Event::Delete { key: key.into(), revision: Revision(revision), previous: Previous::NotAsked }
    }

    pub(crate) fn update(kind: UpdateKind, revision: u64, events: Vec<Event>) -> Update {
        Update { revision: Revision(revision), kind, events, folded: false }
    }

    /// A history of these events, from nothing.
    pub(crate) fn history(events: Vec<Event>) -> History {
        let mut history = History::default();
        history.take(&update(UpdateKind::Snapshot, 0, Vec::new()), Instant::now()).expect("it begins");
        for event in events {
            let revision = event.revision().0;
            history.take(&update(UpdateKind::Changes, revision, vec![event]), Instant::now()).expect("it follows");
        }
        history
    }

    fn refused(events: Vec<Event>) -> Kind {
        let mut history = history(vec![put("a", 1, 1, 1), put("b", 2, 2, 1)]);
        let last = events.last().expect("one").revision().0;
        history.take(&update(UpdateKind::Changes, last, events), Instant::now()).expect_err("it does not follow").kind
    }

    #[test]
    fn history_knows_every_state_there_was() {
        let history = history(vec![put("a", 1, 1, 1), put("b", 2, 2, 1), delete("a", 3), put("a", 4, 4, 1)]);
        let names =
            |at| history.state_at(&KeyRange::All, Revision(at)).keys().map(ToString::to_string).collect::<String>();
        assert_eq!([0, 1, 2, 3, 4].map(names), ["", "a", "ab", "b", "ab"]);
        assert_eq!(history.entry(&"a".into(), Revision(4)).map(|entry| entry.version), Some(Version(1)));
        let range = KeyRange::prefix("a");
        let seen = history.events(&range, Filter::default(), Revision(1), Revision(3)).count();
        assert_eq!(seen, 1, "the deletion");
    }

    #[test]
    fn history_that_contradicts_itself_is_refused() {
        assert_eq!(refused(vec![put("a", 4, 1, 2)]), Kind::Missing, "3 is not told");
        assert_eq!(refused(vec![put("a", 3, 1, 3)]), Kind::Missing, "a version is skipped");
        assert_eq!(refused(vec![put("a", 3, 3, 1)]), Kind::Missing, "created twice");
        assert_eq!(refused(vec![delete("c", 3)]), Kind::Missing, "never created");
        assert_eq!(refused(vec![put("a", 1, 1, 1)]), Kind::Doubled);
    }
}
