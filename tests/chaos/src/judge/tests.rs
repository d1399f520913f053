//! The judge sees what it must.

use super::*;
use crate::history::tests::{delete, history, put, update};

fn spec(start: Start, mode: Mode) -> Spec {
    Spec { range: KeyRange::All, start, mode, filter: Filter::default(), previous: false }
}

/// Six revisions about two keys.
fn events() -> Vec<Event> {
    vec![put("a", 1, 1, 1), put("b", 2, 2, 1), put("a", 3, 1, 2), delete("b", 4), put("a", 5, 1, 3), put("b", 6, 6, 1)]
}

fn after(revision: u64, mode: Mode) -> Judge {
    Judge::opened(spec(Start::After(Revision(revision)), mode), Revision(revision)).expect("as asked")
}

fn found(judge: &mut Judge, update: &Update) -> Option<Kind> {
    judge.judge(&history(events()), update).err().map(|(kind, _)| kind)
}

fn changes(to: u64, events: Vec<Event>) -> Update {
    update(UpdateKind::Changes, to, events)
}

#[test]
fn what_is_exact_passes() {
    let mut judge = Judge::opened(spec(Start::Snapshot, Mode::Every), Revision(2)).expect("opened");
    let history = history(events());
    let snapshot = update(UpdateKind::Snapshot, 2, events()[..2].to_vec());
    judge.judge(&history, &snapshot).expect("the state at 2");
    judge.judge(&history, &changes(4, events()[2..4].to_vec())).expect("3 and 4");
    assert_eq!(judge.owes(&history), Some(Revision(6)));
    let reset = update(UpdateKind::Reset, 6, events()[4..].to_vec());
    judge.judge(&history, &reset).expect("the difference");
    assert_eq!(judge.owes(&history), None);
    assert_eq!((judge.judged.snapshots, judge.judged.resets, judge.judged.events), (1, 1, 6));
}

#[test]
fn a_dropped_a_doubled_and_an_invented_event_are_found() {
    let rest = events()[2..].to_vec();
    let mut dropped = rest.clone();
    dropped.remove(1);
    assert_eq!(found(&mut after(2, Mode::Every), &changes(6, dropped)), Some(Kind::Missing));
    let mut doubled = rest.clone();
    doubled.insert(1, rest[0].clone());
    assert_eq!(found(&mut after(2, Mode::Every), &changes(6, doubled)), Some(Kind::Doubled));
    assert_eq!(found(&mut after(3, Mode::Every), &changes(6, rest.clone())), Some(Kind::Doubled), "known before");
    let mut invented = rest.clone();
    invented.push(put("c", 6, 6, 1));
    assert_eq!(found(&mut after(2, Mode::Every), &changes(6, invented)), Some(Kind::Phantom));
    let mut cut = rest.clone();
    cut.pop();
    assert_eq!(found(&mut after(2, Mode::Every), &changes(6, cut)), Some(Kind::Missing), "the last");
    assert_eq!(found(&mut after(2, Mode::Every), &changes(6, rest)), None);
}

#[test]
fn the_latest_is_the_last_of_each_key_and_nothing_else() {
    let folded = |events: Vec<Event>| Update { folded: true, ..changes(6, events) };
    let last = vec![put("a", 5, 1, 3), put("b", 6, 6, 1)];
    assert_eq!(found(&mut after(2, Mode::Latest), &folded(last.clone())), None);
    assert_eq!(found(&mut after(2, Mode::Every), &folded(last.clone())), Some(Kind::Missing));
    let stale = vec![put("a", 3, 1, 2), put("b", 6, 6, 1)];
    assert_eq!(found(&mut after(2, Mode::Latest), &folded(stale)), Some(Kind::Missing));
    assert_eq!(found(&mut after(2, Mode::Latest), &folded(last[..1].to_vec())), Some(Kind::Missing));
}

#[test]
fn a_reset_must_be_the_difference() {
    // It was told of both keys; at 4, b is gone.
    let knows = || {
        let mut judge = after(0, Mode::Every);
        assert_eq!(found(&mut judge, &changes(2, events()[..2].to_vec())), None);
        judge
    };
    let reset = |events: Vec<Event>| update(UpdateKind::Reset, 4, events);
    assert_eq!(found(&mut knows(), &reset(vec![put("a", 3, 1, 2), delete("b", 4)])), None);
    assert_eq!(found(&mut knows(), &reset(vec![put("a", 3, 1, 2)])), Some(Kind::Difference), "b is gone");
    assert_eq!(found(&mut knows(), &reset(vec![delete("b", 4)])), Some(Kind::Difference), "a was written");
    let known = vec![put("a", 1, 1, 1), delete("b", 4)];
    assert_eq!(found(&mut knows(), &reset(known)), Some(Kind::Difference), "a is another by now");
}

#[test]
fn a_watch_begins_where_it_was_asked_to() {
    let spec = spec(Start::After(Revision(3)), Mode::Every);
    assert!(matches!(Judge::opened(spec, Revision(2)), Err((Kind::Difference, _))));
    let snapshot = update(UpdateKind::Snapshot, 2, Vec::new());
    assert_eq!(found(&mut after(2, Mode::Every), &snapshot), Some(Kind::Difference), "not asked for");
}
