//! What one watcher's application was told, compared with history, update by update.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hither::{Entry, Event, Filter, Key, KeyRange, Mode, Previous, Revision, Start, Update, UpdateKind};

use crate::finding::Kind;
use crate::history::History;

/// What is watched, and how.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) range: KeyRange,
    pub(crate) start: Start,
    pub(crate) mode: Mode,
    pub(crate) filter: Filter,
    pub(crate) previous: bool,
}

/// What was counted of one watch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    pub(crate) updates: u64,
    pub(crate) events: u64,
    pub(crate) snapshots: u64,
    pub(crate) resets: u64,
    /// Updates in which changes to one key were folded.
    pub(crate) folded: u64,
    /// Events about the standing of leases.
    pub(crate) liveness: u64,
    /// Updates that had a revision of several events.
    pub(crate) transactions: u64,
    /// Events whose entry before was forgotten: history from disk.
    pub(crate) forgotten: u64,
}

/// What is wrong with an update.
pub(crate) type Flaw = (Kind, String);

/// The judge of one watch, from its opening.
#[derive(Debug)]
pub(crate) struct Judge {
    spec: Spec,
    /// It is owed a snapshot first.
    owed: bool,
    /// The revision up to which the application was told everything.
    position: Revision,
    /// What the application knows, if it applied every event to a map.
    known: BTreeMap<Key, Entry>,
    /// The keys that the client knows of: also those that a reset found and the filter kept from the application, whose
    /// deletion a later reset tells.
    found: BTreeSet<Key>,
    pub(crate) judged: Judged,
}

impl Judge {
    /// A watch was opened and says that it begins at `revision`.
    pub(crate) fn opened(spec: Spec, revision: Revision) -> Result<Self, Flaw> {
        let owed = spec.start == Start::Snapshot;
        let position = match spec.start {
            Start::Snapshot => Revision::ZERO,
            Start::Now => revision,
            // A beat may have told already that nothing happened for a while: no event may be missing from there on.
            Start::After(asked) if asked <= revision => asked,
            Start::After(asked) => {
                return Err((Kind::Difference, format!("asked to go on after {asked}, it begins at {revision}")));
            }
        };
        Ok(Self { spec, owed, position, known: BTreeMap::new(), found: BTreeSet::new(), judged: Judged::default() })
    }

    pub(crate) fn position(&self) -> Revision {
        self.position
    }

    /// Judges an update. `history` reaches to its revision.
    pub(crate) fn judge(&mut self, history: &History, update: &Update) -> Result<(), Flaw> {
        if !update.events.is_sorted_by_key(Event::revision) {
            return Err((Kind::Order, format!("revisions go back: {}", show(&update.events))));
        }
        if let Some(event) = update.events.iter().find(|event| event.revision() > update.revision) {
            return Err((
                Kind::Phantom,
                format!("{} is from after the update's own revision {}", line(event), update.revision),
            ));
        }
        match update.kind {
            UpdateKind::Snapshot => self.snapshot(history, update)?,
            UpdateKind::Changes => self.changes(history, update)?,
            UpdateKind::Reset => self.reset(history, update)?,
        }
        self.position = update.revision;
        let counted = &mut self.judged;
        counted.updates += 1;
        counted.events += update.events.len() as u64;
        counted.folded += u64::from(update.kind == UpdateKind::Changes && update.folded);
        counted.liveness += update.events.iter().filter(|event| matches!(event, Event::Liveness { .. })).count() as u64;
        counted.forgotten +=
            update.events.iter().filter(|event| before(event) == Some(&Previous::Forgotten)).count() as u64;
        counted.transactions +=
            u64::from(update.events.windows(2).any(|pair| pair[0].revision() == pair[1].revision()));
        Ok(())
    }

    /// The last revision that this watch has yet to be told of; none if it knows everything.
    pub(crate) fn owes(&self, history: &History) -> Option<Revision> {
        if self.owed {
            return Some(history.head());
        }
        let Spec { range, filter, .. } = &self.spec;
        history.events(range, *filter, self.position, history.head()).next_back().map(Event::revision)
    }

    /// Compares what the application knows with a list of all keys that was read when everything had been told.
    pub(crate) fn conclude(&self, list: &BTreeMap<Key, Entry>) -> Result<(), Flaw> {
        if self.spec.filter != Filter::default() && !self.spec.filter.liveness {
            // Told of half of what happens, it knows half of what there is.
            return Ok(());
        }
        let whole = self.spec.start == Start::Snapshot;
        let begun = match self.spec.start {
            Start::After(revision) => revision,
            Start::Now | Start::Snapshot => Revision::ZERO,
        };
        let in_range = |entry: &&Entry| self.spec.range.contains(entry.key.as_bytes());
        for entry in list.values().filter(in_range) {
            let known = self.known.get(&entry.key);
            // One that began without a snapshot knows what changed since.
            let must = whole || entry.mod_revision > begun && self.spec.start != Start::Now;
            if known.is_none() && !must {
                continue;
            }
            if known != Some(entry) {
                return Err((Kind::Difference, format!("in the end it knows {known:?}, the list has {entry:?}")));
            }
        }
        match self.known.keys().find(|key| !list.contains_key(key)) {
            Some(key) => Err((Kind::Difference, format!("in the end it knows {key}, which is not in the list"))),
            None => Ok(()),
        }
    }

    fn snapshot(&mut self, history: &History, update: &Update) -> Result<(), Flaw> {
        if !self.owed {
            return Err((Kind::Difference, "a second snapshot, or one that was not asked for".to_owned()));
        }
        self.owed = false;
        self.judged.snapshots += 1;
        self.known.clear();
        for event in &update.events {
            let Event::Put { entry, .. } = event else {
                return Err((Kind::Difference, format!("a snapshot has {}", line(event))));
            };
            self.found.insert(entry.key.clone());
            if self.known.insert(entry.key.clone(), entry.clone()).is_some() {
                return Err((Kind::Doubled, format!("a snapshot has {} twice", entry.key)));
            }
        }
        self.knows_all(history, update.revision)
    }

    fn changes(&mut self, history: &History, update: &Update) -> Result<(), Flaw> {
        if self.owed {
            return Err((Kind::Order, "changes before the snapshot".to_owned()));
        }
        let Some(first) = update.events.first() else {
            return Err((Kind::Phantom, format!("changes that change nothing, at {}", update.revision)));
        };
        if first.revision() <= self.position {
            return Err((Kind::Doubled, format!("{} again: everything up to {} was told", line(first), self.position)));
        }
        if update.folded && self.spec.mode == Mode::Every {
            return Err((Kind::Missing, "changes are folded, though every one was asked for".to_owned()));
        }
        let Spec { range, filter, .. } = &self.spec;
        let mut expected: Vec<&Event> = history.events(range, *filter, self.position, update.revision).collect();
        if update.folded {
            expected = last_of_each(&expected);
        }
        compare(&update.events, &expected)?;
        for (told, expected) in update.events.iter().zip(&expected) {
            self.previous(told, expected, update.folded)?;
        }
        self.apply(&update.events);
        if self.is_whole() {
            // Each key was told as it is: this also holds what was known before against history.
            self.knows_all(history, update.revision)?;
        }
        Ok(())
    }

    /// The difference must be the right one: nothing that is known already, nothing missing, and every deletion of a
    /// key that the application was told of.
    fn reset(&mut self, history: &History, update: &Update) -> Result<(), Flaw> {
        if self.owed {
            return Err((Kind::Difference, "a reset before the snapshot".to_owned()));
        }
        if update.revision < self.position {
            return Err((Kind::Order, format!("a reset to {} after {}", update.revision, self.position)));
        }
        self.judged.resets += 1;
        let now = history.state_at(&self.spec.range, update.revision);
        let filter = self.spec.filter;
        let whole = self.spec.start == Start::Snapshot;
        let is_new = |entry: &Entry| match self.known.get(&entry.key) {
            Some(known) => known.mod_revision != entry.mod_revision,
            None => whole || entry.mod_revision > self.position,
        };
        let puts: BTreeMap<&Key, &Entry> =
            now.iter().filter(|(_, entry)| filter.puts && is_new(entry)).map(|(key, entry)| (*key, *entry)).collect();
        let deletes: Vec<&Key> = self.found.iter().filter(|key| filter.deletes && !now.contains_key(key)).collect();
        let (mut put, mut deleted) = (BTreeMap::new(), Vec::new());
        for event in &update.events {
            match event {
                Event::Put { entry, .. } => {
                    if put.insert(&entry.key, entry).is_some() {
                        return Err((Kind::Doubled, format!("a reset has {} twice", entry.key)));
                    }
                }
                Event::Delete { key, revision, .. } => {
                    if *revision != update.revision {
                        return Err((Kind::Difference, format!("a reset to {} has {}", update.revision, line(event))));
                    }
                    deleted.push(key);
                }
                Event::Liveness { .. } => return Err((Kind::Difference, format!("a reset has {}", line(event)))),
            }
        }
        let to = update.revision;
        if let Some((key, entry)) = puts.iter().find(|(key, entry)| put.get(**key) != Some(*entry)) {
            let told = put.get(*key);
            return Err((Kind::Difference, format!("a reset to {to} says {told:?} of {key}, which is {entry:?}")));
        }
        if let Some(key) = put.keys().find(|key| !puts.contains_key(**key)) {
            let (known, now) = (self.known.get(*key), now.get(*key));
            return Err((
                Kind::Difference,
                format!("a reset to {to} puts {key}: {known:?} was known, {now:?} is there"),
            ));
        }
        deleted.sort_unstable();
        if deleted != deletes {
            let what = format!("a reset to {to} deletes {deleted:?}; what is known and gone is {deletes:?}");
            return Err((Kind::Difference, what));
        }
        self.apply(&update.events);
        self.found = now.into_keys().cloned().collect();
        if self.is_whole() { self.knows_all(history, update.revision) } else { Ok(()) }
    }

    /// Whether the application knows the whole range.
    fn is_whole(&self) -> bool {
        self.spec.start == Start::Snapshot && self.spec.filter.puts && self.spec.filter.deletes
    }

    /// What the application knows must be what there was at `revision`.
    fn knows_all(&self, history: &History, revision: Revision) -> Result<(), Flaw> {
        let state = history.state_at(&self.spec.range, revision);
        if state.len() == self.known.len() && state.iter().all(|(key, entry)| self.known.get(*key) == Some(*entry)) {
            return Ok(());
        }
        let differs = state.iter().find(|(key, entry)| self.known.get(**key) != Some(**entry));
        let what = match differs {
            Some((key, entry)) => format!("{key} is {entry:?} at {revision}, told was {:?}", self.known.get(*key)),
            None => {
                let more = self.known.keys().find(|key| !state.contains_key(key));
                format!("at {revision} there is no {more:?}, but the application was told that there is")
            }
        };
        Err((Kind::Difference, what))
    }

    fn previous(&self, told: &Event, expected: &Event, folded: bool) -> Result<(), Flaw> {
        let (Some(told_before), Some(before)) = (before(told), before(expected)) else { return Ok(()) };
        let right = match told_before {
            Previous::NotAsked => !self.spec.previous,
            _ if !self.spec.previous => false,
            // Folded, it is what was there before the first of them, which the application knows.
            told if folded && self.is_whole() => {
                let known = expected.key().and_then(|key| self.known.get(key));
                match told {
                    Previous::Entry(told) => known == Some(told),
                    Previous::None => known.is_none(),
                    Previous::NotAsked | Previous::Forgotten => true,
                }
            }
            _ if folded => true,
            // History was read from disk, where it is not kept.
            Previous::Forgotten => *before != Previous::None,
            told => told == before || *before == Previous::Forgotten,
        };
        if right {
            return Ok(());
        }
        Err((Kind::Phantom, format!("the entry before {} is told as {told_before:?}, it was {before:?}", line(told))))
    }

    fn apply(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Put { entry, .. } => {
                    self.found.insert(entry.key.clone());
                    self.known.insert(entry.key.clone(), entry.clone());
                }
                Event::Delete { key, .. } => {
                    self.found.remove(key);
                    self.known.remove(key);
                }
                Event::Liveness { .. } => {}
            }
        }
    }
}

/// Of the events about one key or one lease, the last; in order.
fn last_of_each<'a>(events: &[&'a Event]) -> Vec<&'a Event> {
    let about = |event: &'a Event| match event {
        Event::Liveness { lease, .. } => (None, Some(*lease)),
        event => (event.key(), None),
    };
    let last: BTreeMap<_, _> = events.iter().enumerate().map(|(place, event)| (about(event), place)).collect();
    let is_last = |(place, event): (usize, &&'a Event)| (last.get(&about(event)) == Some(&place)).then_some(*event);
    events.iter().enumerate().filter_map(is_last).collect()
}

/// Both lists must be the same, the entries before the events aside.
fn compare(told: &[Event], expected: &[&Event]) -> Result<(), Flaw> {
    let differs = |(told, expected): (&Event, &&Event)| !is_same(told, expected);
    let place = told.iter().zip(expected).position(differs).unwrap_or_else(|| told.len().min(expected.len()));
    let (Some(got), wanted) = (told.get(place), expected.get(place)) else {
        return match expected.get(place) {
            Some(missing) => Err(lacks(missing, told, expected)),
            None => Ok(()),
        };
    };
    if told[..place].iter().any(|before| is_same(before, got)) {
        return Err((Kind::Doubled, format!("{} came twice in one update", line(got))));
    }
    match wanted {
        Some(missing) if !told.iter().any(|event| is_same(event, missing)) => Err(lacks(missing, told, expected)),
        _ if !expected.iter().any(|event| is_same(got, event)) => {
            let there = expected.iter().filter(|event| event.revision() == got.revision()).map(|event| line(event));
            let there = there.collect::<Vec<_>>().join(", ");
            Err((Kind::Phantom, format!("{} was told; history has [{there}] at that revision", line(got))))
        }
        _ => Err((Kind::Order, format!("{} came too early", line(got)))),
    }
}

fn lacks(missing: &Event, told: &[Event], expected: &[&Event]) -> Flaw {
    let revision = missing.revision();
    let of = expected.iter().filter(|event| event.revision() == revision).count();
    let torn = of > 1 && told.iter().any(|event| event.revision() == revision);
    let torn = if torn { format!(", torn out of a revision of {of}") } else { String::new() };
    (Kind::Missing, format!("{} was never told{torn}", line(missing)))
}

fn is_same(one: &Event, other: &Event) -> bool {
    match (one, other) {
        (Event::Put { entry: one, .. }, Event::Put { entry: other, .. }) => one == other,
        (Event::Delete { key: one, revision: at, .. }, Event::Delete { key: other, revision, .. }) => {
            one == other && at == revision
        }
        (Event::Liveness { .. }, Event::Liveness { .. }) => one == other,
        _ => false,
    }
}

fn before(event: &Event) -> Option<&Previous> {
    match event {
        Event::Put { previous, .. } | Event::Delete { previous, .. } => Some(previous),
        Event::Liveness { .. } => None,
    }
}

/// An event in a few words.
pub(crate) fn line(event: &Event) -> String {
    match event {
        Event::Put { entry, .. } => {
            let value = entry.value.iter().take_while(|byte| **byte != b' ').copied().collect::<Vec<u8>>();
            format!("{} put {} = {}", entry.mod_revision, entry.key, value.escape_ascii())
        }
        Event::Delete { key, revision, .. } => format!("{revision} delete {key}"),
        Event::Liveness { lease, state, revision } => format!("{revision} lease {lease} is {}", state.as_str()),
    }
}

/// Events in a few words each, no more than fit a page.
pub(crate) fn show(events: &[Event]) -> String {
    const SHOWN: usize = 12;
    let mut text = events.iter().take(SHOWN).map(line).collect::<Vec<_>>().join("; ");
    if events.len() > SHOWN {
        // Writing to a string does not fail.
        let _ = write!(text, "; and {} more", events.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests;
