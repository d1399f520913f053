//! Contradictions between history and ledger are found.

use std::time::Duration;

use hither::{KeyRange, Version};

use super::*;
use crate::history::tests::{delete, history};
use crate::ledger::value;

/// What request `op` writes to `key`.
fn put(op: usize, key: &str, revision: u64, version: u64, create: u64) -> Event {
    let entry = Entry {
        key: key.into(),
        value: value(OpId::at(op), 0, 0),
        create_revision: Revision(create),
        mod_revision: Revision(revision),
        version: Version(version),
        lease: None,
    };
    Event::Put { entry, previous: hither::Previous::NotAsked }
}

fn asked(op: usize, key: &str, outcome: Outcome) -> Op {
    let puts = vec![(key.into(), value(OpId::at(op), 0, 0))];
    Op { plan: Plan::Write { when: None, puts, deletes: Vec::new(), lease: None }, outcome }
}

fn deletes(range: KeyRange, outcome: Outcome) -> Op {
    Op { plan: Plan::Delete(range), outcome }
}

fn found(events: Vec<Event>, ops: &[Op]) -> Option<Kind> {
    writes(&history(events), ops, &BTreeMap::new()).err().map(|finding| finding.kind)
}

#[test]
fn each_acknowledged_write_is_there_once_and_nothing_else_is() {
    let done = |revision| Outcome::Done(Revision(revision));
    let events = || vec![put(0, "a", 1, 1, 1), put(1, "b", 2, 1, 2)];
    assert_eq!(found(events(), &[asked(0, "a", done(1)), asked(1, "b", Outcome::Unknown)]), None);
    assert_eq!(found(events(), &[asked(0, "a", done(1)), asked(1, "b", Outcome::Refused)]), Some(Kind::Lost));
    assert_eq!(found(events(), &[asked(0, "a", done(1)), asked(1, "c", done(2))]), Some(Kind::Lost), "another key");
    assert_eq!(found(events(), &[asked(0, "a", done(1))]), Some(Kind::Phantom), "never asked for");
    let ops = [asked(0, "a", done(1)), asked(1, "b", done(2)), asked(2, "c", done(3))];
    assert_eq!(found(events(), &ops), Some(Kind::Lost), "not there");
    let again = || vec![put(0, "a", 1, 1, 1), put(0, "a", 2, 2, 1)];
    for outcome in [done(1), done(2), Outcome::Unknown] {
        assert_eq!(found(again(), &[asked(0, "a", outcome)]), Some(Kind::Twice), "{outcome:?}");
    }
}

#[test]
fn a_deletion_is_explained_by_a_request_that_explains_no_other() {
    let events = || vec![put(0, "a", 1, 1, 1), delete("a", 2), put(1, "b", 3, 1, 3), delete("b", 4)];
    let ops = |rest: Vec<Op>| {
        let written = [asked(0, "a", Outcome::Unknown), asked(1, "b", Outcome::Unknown)];
        written.into_iter().chain(rest).collect::<Vec<_>>()
    };
    let everything = || deletes(KeyRange::All, Outcome::Unknown);
    let one = |key: &str| deletes(KeyRange::One(key.into()), Outcome::Unknown);
    assert_eq!(
        found(events(), &ops(vec![everything(), one("a")])),
        None,
        "the first must not take what only it can be"
    );
    assert_eq!(found(events(), &ops(vec![everything()])), Some(Kind::Phantom));
    assert_eq!(found(events(), &ops(vec![one("a"), one("a")])), Some(Kind::Phantom));
}

#[test]
fn a_lease_lives_its_time() {
    let leased = || {
        let Event::Put { mut entry, previous } = put(0, "a", 1, 1, 1) else { unreachable!("it is a put") };
        entry.lease = Some(LeaseId(7));
        vec![Event::Put { entry, previous }, delete("a", 2)]
    };
    let puts = vec![("a".into(), value(OpId::at(0), 0, 0))];
    let plan = Plan::Write { when: None, puts, deletes: Vec::new(), lease: Some(LeaseId(7)) };
    let ops = [Op { plan, outcome: Outcome::Unknown }];
    let sent = std::time::Instant::now();
    let held = |ttl| BTreeMap::from([(LeaseId(7), Held { ttl, sent })]);
    let history = history(leased());
    assert!(writes(&history, &ops, &held(Duration::ZERO)).is_ok_and(|found| found.expiries == 1));
    let early = writes(&history, &ops, &held(Duration::from_secs(60))).map_err(|finding| finding.kind);
    assert!(matches!(early, Err(Kind::Early)));
}
