//! The state against a plain model: maps, clones, and no thought of speed.

#![expect(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;
mod model;

use std::collections::BTreeMap;

use hither_protocol::{Entry, Key, KeyRange, Namespace};
use hither_state::{Change, Pin, RangeQuery, State};
use proptest::prelude::*;

use crate::common::{LIMITS, deeds, log};
use crate::model::Model;

type Keys = BTreeMap<(Namespace, Key), Entry>;

/// All keys of a namespace, read a page of one at a time.
fn read(state: &State, namespace: &Namespace, range: &KeyRange, reverse: bool, pin: Option<&Pin>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let page = state.range(namespace, &RangeQuery { after, limit: 1, reverse, pin, ..RangeQuery::new(range) });
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return entries;
        }
    }
}

fn namespaces() -> [Namespace; 2] {
    ["prod", "test"].map(|name| name.parse().unwrap())
}

fn of<'a>(keys: &'a Keys, namespace: &'a Namespace) -> impl Iterator<Item = &'a Entry> {
    keys.iter().filter(move |((of, _), _)| of == namespace).map(|(_, entry)| entry)
}

proptest! {
    #[test]
    fn the_state_does_what_the_model_does(deeds in deeds(80)) {
        let mut state = State::new(LIMITS);
        let mut model = Model::default();
        for (position, command) in log(&deeds) {
            let applied = state.apply(position, &command);
            let expected = model.apply(position, &command);
            match (&applied.outcome, &expected) {
                (Ok(reply), Ok(expected)) => prop_assert_eq!(reply, expected, "{:?}", command),
                // The words of a refusal are the state's own.
                (Err(refusal), Err(code)) => prop_assert_eq!(&refusal.code, code, "{:?}", command),
                (got, expected) => prop_assert!(false, "{:?}: {:?} instead of {:?}", command, got, expected),
            }
            prop_assert_eq!(state.revision(), model.revision);
            prop_assert_eq!(applied.delta.revision, model.revision);
            for namespace in namespaces() {
                let expected: Vec<Entry> = of(&model.keys, &namespace).cloned().collect();
                prop_assert_eq!(read(&state, &namespace, &KeyRange::All, false, None), expected);
            }
            let leases: Vec<_> = state
                .leases(None)
                .map(|lease| (lease.id, lease.record.state, lease.record.epoch, lease.record.session))
                .collect();
            prop_assert_eq!(leases, model.lease_list());
            for lease in state.leases(None) {
                let keys = lease.keys().cloned().collect::<Vec<_>>();
                prop_assert_eq!(keys, model.keys_of(lease.id));
            }
            for (id, bound, remembered) in model.session_list() {
                let session = state.session(id).unwrap();
                prop_assert_eq!(session.leases().collect::<Vec<_>>(), bound);
                prop_assert_eq!(session.remembered(), remembered);
            }
            prop_assert_eq!(state.sessions_len(), model.session_list().len());
        }
    }

    #[test]
    fn a_delta_is_all_that_a_command_did_to_keys_and_no_key_twice(deeds in deeds(80)) {
        let mut state = State::new(LIMITS);
        let mut mirror = Keys::new();
        for (position, command) in log(&deeds) {
            let before = state.revision();
            let delta = state.apply(position, &command).delta;
            let mut touched = Vec::new();
            let mut told = false;
            for change in &delta.changes {
                let (namespace, key, now, was) = match change {
                    Change::Put { namespace, entry, previous } => (namespace, &entry.key, Some(entry), previous.as_deref()),
                    Change::Delete { namespace, previous } => (namespace, &previous.key, None, Some(&**previous)),
                    Change::Liveness { keys, .. } => {
                        prop_assert!(!keys.is_empty());
                        told = true;
                        continue;
                    }
                    _ => continue,
                };
                let place = (namespace.clone(), key.clone());
                prop_assert_eq!(mirror.get(&place), was);
                match now {
                    Some(entry) => drop(mirror.insert(place.clone(), entry.clone())),
                    None => drop(mirror.remove(&place)),
                }
                prop_assert!(!touched.contains(&place), "{:?} changed twice", place);
                touched.push(place);
            }
            let moved = told || !touched.is_empty();
            prop_assert_eq!(delta.revision, if moved { before.next() } else { before });
            for namespace in namespaces() {
                let expected: Vec<Entry> = of(&mirror, &namespace).cloned().collect();
                prop_assert_eq!(read(&state, &namespace, &KeyRange::All, false, None), expected);
            }
        }
    }

    #[test]
    fn a_pinned_reader_sees_one_revision_for_ever(deeds in deeds(80), every in 1..9usize, hold in 1..5usize) {
        let ranges = [KeyRange::All, KeyRange::prefix("a"), KeyRange::Span("a/2".into(), "b".into()), KeyRange::One("b".into())];
        let mut state = State::new(LIMITS);
        let mut pins: Vec<(Pin, Keys)> = Vec::new();
        let mut model = Model::default();
        for (number, (position, command)) in log(&deeds).into_iter().enumerate() {
            state.apply(position, &command);
            let _ = model.apply(position, &command);
            if number % every == 0 {
                pins.push((state.pin(), model.keys.clone()));
                // The oldest goes, or one in the middle.
                if pins.len() > hold {
                    pins.remove(number % pins.len());
                }
            }
            for (pin, keys) in &pins {
                for namespace in namespaces() {
                    for range in &ranges {
                        let inside = |entry: &&Entry| range.contains(entry.key.as_bytes());
                        let mut expected: Vec<Entry> = of(keys, &namespace).filter(inside).cloned().collect();
                        prop_assert_eq!(&read(&state, &namespace, range, false, Some(pin)), &expected);
                        expected.reverse();
                        prop_assert_eq!(&read(&state, &namespace, range, true, Some(pin)), &expected);
                    }
                    let entry = state.get_at(&namespace, b"a", pin);
                    prop_assert_eq!(entry.as_ref(), keys.get(&(namespace.clone(), "a".into())));
                }
            }
        }
        drop(pins);
        // One command later, nothing of the past is kept.
        let (position, command) = log(&deeds).pop().unwrap();
        state.apply(position, &command);
        prop_assert_eq!(state.retained(), 0);
    }
}
