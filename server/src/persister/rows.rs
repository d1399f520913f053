//! What waits to be written: changes, and the rows that they become.

use std::hash::{BuildHasher, RandomState};

use hashbrown::{HashMap, HashTable, hash_table};
use hither_protocol::SessionId;
use hither_state::device::RowChange;
use hither_state::image::{self, Place};
use hither_state::watch::HistoryRows;
use hither_state::{Change, Delta};

/// Changes and places for which memory is kept from one write to the next.
const ROWS_KEPT: usize = 4_096;

/// Changes that wait to be written. They become rows when they are, since most of them are overtaken by a later one of the
/// same place before that.
#[derive(Default)]
pub(super) struct Rows {
    /// None where the end of a session has overtaken it.
    changes: Vec<Option<Change>>,
    /// Where the change of each place stands. A change and its place would be two copies of a key.
    places: HashTable<usize>,
    /// Where the changes stand that end with a session.
    sessions: HashMap<SessionId, Vec<usize>, RandomState>,
    /// Seeded at random, so that nobody can choose keys that collide.
    hasher: RandomState,
    history: HistoryRows,
    /// The rows of the history, in order; none depends on those of another space.
    histories: Vec<RowChange>,
    pub(super) bytes: usize,
}

impl Rows {
    pub(super) fn take(&mut self, delta: Delta) {
        let (rows, open) = (self.histories.len(), self.history.bytes());
        self.history.take(&delta, &mut self.histories);
        let complete: usize = self.histories[rows..].iter().map(cost).sum();
        self.bytes = (self.bytes + complete + self.history.bytes()).saturating_sub(open);
        delta.changes.into_iter().for_each(|change| self.add(change));
    }

    fn add(&mut self, mut change: Change) {
        if let Change::Put { previous, .. } = &mut change {
            // No row has it, and waiting would keep it in memory.
            *previous = None;
        }
        if let Change::Session { session, record: None } = &change {
            // All its rows are deleted; what came before must not come after.
            let Self { changes, places, hasher, sessions, .. } = self;
            for at in sessions.remove(session).into_iter().flatten() {
                let place = place_at(changes, at).map(|place| hasher.hash_one(place));
                if let Some(Ok(found)) = place.map(|hash| places.find_entry(hash, |&other| other == at)) {
                    found.remove();
                }
                changes[at] = None;
            }
        }
        self.bytes += weight(&change);
        if let Some(place) = Place::of(&change) {
            let session = place.session();
            let Self { changes, places, hasher, sessions, .. } = self;
            let found = places.entry(
                hasher.hash_one(place),
                |&at| place_at(changes, at) == Some(place),
                |&at| hasher.hash_one(place_at(changes, at).unwrap_or(place)),
            );
            match found {
                // What lies between them is of other rows, so that it may stand where the earlier one stood.
                hash_table::Entry::Occupied(earlier) => {
                    if let Some(overtaken) = changes[*earlier.get()].replace(change) {
                        self.bytes -= weight(&overtaken);
                    }
                    return;
                }
                hash_table::Entry::Vacant(new) => new.insert(changes.len()),
            };
            if let Some(session) = session {
                sessions.entry(session).or_default().push(changes.len());
            }
        }
        self.changes.push(Some(change));
    }

    /// What is to be written; after it there is nothing.
    pub(super) fn drain(&mut self) -> Vec<RowChange> {
        let mut rows = Vec::with_capacity(self.places.len() + self.histories.len());
        self.changes.drain(..).flatten().for_each(|change| image::rows_of(&change, &mut rows));
        self.history.finish(&mut self.histories);
        rows.append(&mut self.histories);
        self.places.clear();
        self.sessions.clear();
        self.bytes = 0;
        self.changes.shrink_to(ROWS_KEPT);
        // It is empty: nothing is hashed anew.
        self.places.shrink_to(ROWS_KEPT, |_| 0);
        self.sessions.shrink_to(ROWS_KEPT);
        rows
    }
}

/// The place of a change that stands there.
fn place_at(changes: &[Option<Change>], at: usize) -> Option<Place<'_>> {
    changes[at].as_ref().and_then(Place::of)
}

/// About what a change takes in memory and in a row.
fn weight(change: &Change) -> usize {
    const ENVELOPE: usize = 64;
    ENVELOPE
        + match change {
            Change::Put { entry, .. } => entry.key.as_bytes().len() + entry.value.len(),
            Change::Delete { previous, .. } => previous.key.as_bytes().len(),
            Change::Outcome { outcome, .. } => outcome.len(),
            _ => 0,
        }
}

pub(super) fn cost(change: &RowChange) -> usize {
    match change {
        RowChange::Put(_, key, value) => key.len() + value.len(),
        RowChange::Delete(_, key) => key.len(),
        RowChange::DeleteRange(_, from, to) => from.len() + to.len(),
    }
}

#[cfg(test)]
mod tests {
    use hither_protocol::{Entry, Namespace, Revision, SequenceNumber, SessionId, Version};
    use hither_state::device::Space;

    use super::*;

    fn put(key: &'static str, revision: u64) -> Change {
        let (revision, version) = (Revision(revision), Version(1));
        let entry = Entry {
            key: key.into(),
            value: "v".into(),
            create_revision: revision,
            mod_revision: revision,
            version,
            lease: None,
        };
        Change::Put { namespace: Namespace::default(), entry, previous: None }
    }

    fn outcome(session: u64, sequence: u64) -> Change {
        Change::Outcome { session: SessionId(session), sequence: SequenceNumber(sequence), outcome: "o".into() }
    }

    fn rows(changes: Vec<Change>) -> Rows {
        let mut rows = Rows::default();
        for (revision, change) in (1..).zip(changes) {
            rows.take(Delta { revision: Revision(revision), changes: vec![change], ..Delta::default() });
        }
        rows
    }

    fn spaces(changes: &[RowChange]) -> Vec<(Space, bool)> {
        let space = |change: &RowChange| match change {
            RowChange::Put(space, ..) => (*space, true),
            RowChange::Delete(space, _) | RowChange::DeleteRange(space, ..) => (*space, false),
        };
        changes.iter().map(space).collect()
    }

    #[test]
    fn a_key_is_written_once_a_round_and_as_it_was_last() {
        let mut two = rows(vec![put("a", 1), put("b", 2), put("a", 3)]);
        let once = weight(&put("a", 1)) * 2 + two.history.bytes();
        assert_eq!(two.bytes, once, "what was overtaken no longer counts");
        let written = two.drain();
        let mut expected = Vec::new();
        image::rows_of(&put("a", 3), &mut expected);
        image::rows_of(&put("b", 2), &mut expected);
        assert_eq!(written[..2], expected);
        assert_eq!(spaces(&written[2..]), [(Space::History, true)], "all three revisions are in one row");
    }

    #[test]
    fn what_a_session_remembered_is_not_written_after_its_end() {
        let end = Change::Session { session: SessionId(1), record: None };
        let window = hither_protocol::limits::SESSION_WINDOW;
        let written = rows(vec![outcome(1, 1), outcome(2, 1), end, outcome(2, 1 + window)]).drain();
        assert_eq!(spaces(&written), [(Space::Session, true), (Space::Session, false)]);
        let mut expected = Vec::new();
        image::rows_of(&outcome(2, 1 + window), &mut expected);
        assert_eq!(written[..1], expected, "of outcomes that share a row the last one is written");
    }
}
