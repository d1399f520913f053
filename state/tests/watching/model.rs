//! All of history, kept plainly.

use std::collections::BTreeMap;
use std::sync::Arc;

use hither_protocol::message::Filter;
use hither_protocol::{Entry, Event, Key, KeyRange, Previous, Revision};
use hither_state::{Change, Delta};

/// Every event there ever was, with what was there before it.
#[derive(Default)]
pub(crate) struct Model {
    events: Vec<Seen>,
}

struct Seen {
    revision: Revision,
    event: Event,
    /// The keys that it concerns.
    keys: Vec<Key>,
}

impl Model {
    pub(crate) fn record(&mut self, delta: &Delta) {
        let revision = delta.revision;
        for change in &delta.changes {
            let (event, keys) = match change {
                Change::Put { entry, previous, .. } => {
                    let previous = previous
                        .clone()
                        .map_or(Previous::None, |previous| Previous::Entry(Box::new(Arc::unwrap_or_clone(previous))));
                    (Event::Put { entry: entry.clone(), previous }, vec![entry.key.clone()])
                }
                Change::Delete { previous, .. } => {
                    let key = previous.key.clone();
                    let previous = Previous::Entry(Box::new(Entry::clone(previous)));
                    (Event::Delete { key: key.clone(), revision, previous }, vec![key])
                }
                Change::Liveness { lease, state, keys, .. } => {
                    (Event::Liveness { lease: *lease, state: *state, revision }, keys.clone())
                }
                _ => continue,
            };
            self.events.push(Seen { revision, event, keys });
        }
    }

    /// The events that a watch of `range` with this filter must see in `(after, to]`.
    pub(crate) fn events(&self, range: &KeyRange, filter: Filter, after: Revision, to: Revision) -> Vec<&Event> {
        let passes = |event: &Event| match event {
            Event::Put { .. } => filter.puts,
            Event::Delete { .. } => filter.deletes,
            Event::Liveness { .. } => filter.liveness,
        };
        let seen = self.events.iter().filter(|seen| after < seen.revision && seen.revision <= to);
        let seen =
            seen.filter(|seen| passes(&seen.event) && seen.keys.iter().any(|key| range.contains(key.as_bytes())));
        seen.map(|seen| &seen.event).collect()
    }

    /// What the range held at a revision.
    pub(crate) fn state(&self, range: &KeyRange, at: Revision) -> BTreeMap<Key, Entry> {
        let mut state = BTreeMap::new();
        for seen in self.events.iter().take_while(|seen| seen.revision <= at) {
            match &seen.event {
                Event::Put { entry, .. } if range.contains(entry.key.as_bytes()) => {
                    state.insert(entry.key.clone(), entry.clone());
                }
                Event::Delete { key, .. } => drop(state.remove(key)),
                _ => {}
            }
        }
        state
    }
}
