//! Contradictions between history and ledger are found.

use std::time::{Duration, Instant};

use hither::{ErrorCode, KeyRange, Version};

use super::*;
use crate::history::tests::{delete, history};
use crate::ledger::{Asked, Denied, Held, Opening, value};

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

fn asked(place: usize, key: &str, outcome: Outcome) -> Op {
    let puts = vec![(key.into(), value(OpId::at(place), 0, 0))];
    op(Plan::Write { when: None, puts, deletes: Vec::new(), lease: None }, outcome)
}

fn deletes(range: KeyRange, outcome: Outcome) -> Op {
    op(Plan::Delete(range), outcome)
}

const fn op(plan: Plan, outcome: Outcome) -> Op {
    Op { plan, outcome, asked: None, answered: None }
}

fn found(events: Vec<Event>, ops: Vec<Op>) -> Option<Kind> {
    judged(events, Record { ops, ..Record::default() })
}

fn judged(events: Vec<Event>, record: Record) -> Option<Kind> {
    writes(&history(events), &record).err().map(|finding| finding.kind)
}

/// `asked` at this second, when this revision had been acknowledged; answered half a second later.
fn timed(op: Op, begun: Instant, second: u64, after: u64) -> Op {
    let at = begun + Duration::from_secs(second);
    let asked = Some(Asked { at, after: Revision(after) });
    Op { asked, answered: Some(at + Duration::from_millis(500)), ..op }
}

#[test]
fn each_acknowledged_write_is_there_once_and_nothing_else_is() {
    let done = |revision| Outcome::Done(Revision(revision));
    let events = || vec![put(0, "a", 1, 1, 1), put(1, "b", 2, 1, 2)];
    assert_eq!(found(events(), vec![asked(0, "a", done(1)), asked(1, "b", Outcome::Unknown)]), None);
    assert_eq!(
        found(events(), vec![asked(0, "a", done(1)), asked(1, "b", Outcome::Refused(ErrorCode::Timeout))]),
        Some(Kind::Lost)
    );
    assert_eq!(found(events(), vec![asked(0, "a", done(1)), asked(1, "c", done(2))]), Some(Kind::Lost), "another key");
    assert_eq!(found(events(), vec![asked(0, "a", done(1))]), Some(Kind::Phantom), "never asked for");
    let ops = vec![asked(0, "a", done(1)), asked(1, "b", done(2)), asked(2, "c", done(3))];
    assert_eq!(found(events(), ops), Some(Kind::Lost), "not there");
    let again = || vec![put(0, "a", 1, 1, 1), put(0, "a", 2, 2, 1)];
    for outcome in [done(1), done(2), Outcome::Unknown] {
        assert_eq!(found(again(), vec![asked(0, "a", outcome)]), Some(Kind::Twice), "{outcome:?}");
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
    assert_eq!(found(events(), ops(vec![everything(), one("a")])), None, "the first must not take what only it can be");
    assert_eq!(found(events(), ops(vec![everything()])), Some(Kind::Phantom));
    assert_eq!(found(events(), ops(vec![one("a"), one("a")])), Some(Kind::Phantom));
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
    let record =
        |leases, kept| Record { ops: vec![op(plan.clone(), Outcome::Unknown)], leases, kept, ..Record::default() };
    let sent = Instant::now();
    let held = |ttl| record(BTreeMap::from([(LeaseId(7), Held { ttl, sent })]), BTreeMap::new());
    assert!(writes(&history(leased()), &held(Duration::ZERO)).is_ok_and(|found| found.expiries == 1));
    assert_eq!(judged(leased(), held(Duration::from_secs(60))), Some(Kind::Early));

    let kept = |lost| record(BTreeMap::new(), BTreeMap::from([(LeaseId(7), lost)]));
    assert!(writes(&history(leased()), &kept(Some(sent))).is_ok_and(|found| found.lost == 1));
    assert_eq!(judged(leased(), kept(None)), Some(Kind::Early), "its client keeps it still");
    let late = sent + Duration::from_secs(60);
    assert_eq!(judged(leased(), kept(Some(late))), Some(Kind::Early), "its client learns of it later");
}

/// `a` is there from 1 to 3, and once more from 5 on; its lease is 7 then.
fn comes_and_goes() -> Vec<Event> {
    let mut again = put(3, "a", 5, 1, 5);
    if let Event::Put { entry, .. } = &mut again {
        entry.lease = Some(LeaseId(7));
    }
    vec![put(0, "a", 1, 1, 1), put(1, "b", 2, 1, 2), put(2, "b", 3, 2, 2), delete("a", 4), again]
}

#[test]
fn a_request_that_changed_nothing_had_nothing_to_change_at_the_revision_that_it_was_told() {
    let told = |plan: Plan, at| {
        let done = |revision| Outcome::Done(Revision(revision));
        let write = |place, key: &str, lease| {
            let puts = vec![(key.into(), value(OpId::at(place), 0, 0))];
            Plan::Write { when: None, puts, deletes: Vec::new(), lease }
        };
        let mut ops: Vec<Op> = ["a", "b", "b"]
            .into_iter()
            .enumerate()
            .map(|(at, key)| op(write(at, key, None), done(at as u64 + 1)))
            .collect();
        ops.push(op(write(3, "a", Some(LeaseId(7))), done(5)));
        ops.push(deletes(KeyRange::One("a".into()), done(4)));
        ops.push(op(plan, Outcome::Nothing(Revision(at))));
        found(comes_and_goes(), ops)
    };
    let deletion = |range: KeyRange| Plan::Delete(range);
    assert_eq!(told(deletion(KeyRange::One("a".into())), 4), None);
    assert_eq!(told(deletion(KeyRange::One("a".into())), 3), Some(Kind::Lost), "it was there");
    assert_eq!(told(deletion(KeyRange::prefix("a")), 5), Some(Kind::Lost), "it is there again");
    assert_eq!(told(deletion(KeyRange::prefix("c")), 5), None);

    let put = vec![("c".into(), value(OpId::at(5), 0, 0))];
    let write = |when| Plan::Write { when, puts: put.clone(), deletes: Vec::new(), lease: None };
    let when = |value| write(Some(Condition { key: "b".into(), value }));
    let second = || Some(value(OpId::at(2), 0, 0));
    assert_eq!(told(when(second()), 2), None);
    assert_eq!(told(when(second()), 3), Some(Kind::Lost), "its condition held");
    assert_eq!(told(when(None), 3), None);
    assert_eq!(told(when(None), 1), Some(Kind::Lost), "it was not there yet, as its condition says");
    assert_eq!(told(write(None), 3), Some(Kind::Lost), "it has no condition");

    assert_eq!(told(Plan::Revoke(LeaseId(7)), 4), None);
    assert_eq!(told(Plan::Revoke(LeaseId(7)), 5), Some(Kind::Lost), "the lease had a key");
}

#[test]
fn an_answer_is_of_a_revision_between_asking_and_answering() {
    let begun = Instant::now();
    // Three writes, a second apart; the second of them knew this revision when it was asked for.
    let writes = |after| {
        let write = |place, key: &str, after| {
            timed(asked(place, key, Outcome::Done(Revision(place as u64 + 1))), begun, place as u64, after)
        };
        vec![write(0, "a", 0), write(1, "b", after), write(2, "c", 1)]
    };
    let events = || vec![put(0, "a", 1, 1, 1), put(1, "b", 2, 1, 2), put(2, "c", 3, 1, 3)];
    assert_eq!(found(events(), writes(1)), None);
    assert_eq!(found(events(), writes(2)), Some(Kind::Lost), "the revision was acknowledged before");

    // Beside the second.
    let nothing = |at, after| {
        let op = deletes(KeyRange::One("d".into()), Outcome::Nothing(Revision(at)));
        found(events(), writes(1).into_iter().chain([timed(op, begun, 1, after)]).collect())
    };
    assert_eq!(nothing(2, 2), None, "it took no revision of its own");
    assert_eq!(nothing(1, 2), Some(Kind::Lost), "that state was gone when it was asked for");
    assert_eq!(nothing(3, 1), Some(Kind::Phantom), "nobody had asked for that revision when it was answered");
}

#[test]
fn a_watch_from_now_on_does_not_begin_later() {
    let begun = Instant::now();
    let opened = |revision, second| {
        let write = |place, key: &str| {
            timed(asked(place, key, Outcome::Done(Revision(place as u64 + 1))), begun, 2 * place as u64, place as u64)
        };
        let told = begun + Duration::from_secs(second);
        let openings = vec![Opening { who: "a watcher".to_owned(), revision: Revision(revision), told }];
        let record = Record { ops: vec![write(0, "a"), write(1, "b")], openings, ..Record::default() };
        judged(vec![put(0, "a", 1, 1, 1), put(1, "b", 2, 1, 2)], record)
    };
    assert_eq!(opened(1, 1), None);
    assert_eq!(opened(2, 1), Some(Kind::Phantom), "it will not be told of 2, which came afterwards");
    assert_eq!(opened(2, 3), None);
    assert_eq!(opened(3, 3), Some(Kind::Phantom), "there never was such a revision");
}

#[test]
fn a_refusal_has_a_reason() {
    let sent = Instant::now();
    let ttl = Duration::from_secs(10);
    let write = |lease, code| {
        let puts = vec![("a".into(), value(OpId::at(0), 0, 0))];
        op(Plan::Write { when: None, puts, deletes: Vec::new(), lease }, Outcome::Refused(code))
    };
    let record = |ops| Record { ops, leases: BTreeMap::from([(LeaseId(7), Held { ttl, sent })]), ..Record::default() };
    let told = |op: Op, second| judged(Vec::new(), record(vec![timed(op, sent, second, 0)]));

    for code in [ErrorCode::Timeout, ErrorCode::Unavailable, ErrorCode::ServerBusy] {
        assert_eq!(told(write(None, code), 1), None, "{code}");
    }
    for code in [ErrorCode::InvalidArgument, ErrorCode::PermissionDenied, ErrorCode::QuotaExceeded, ErrorCode::Internal]
    {
        assert_eq!(told(write(None, code), 1), Some(Kind::Refused), "{code}");
    }

    let leased = || write(Some(LeaseId(7)), ErrorCode::LeaseNotFound);
    assert_eq!(told(leased(), 12), None, "it had ended");
    assert_eq!(told(leased(), 5), Some(Kind::Early), "it cannot have ended");
    assert_eq!(told(write(None, ErrorCode::LeaseNotFound), 12), Some(Kind::Refused), "no lease was named");
    assert_eq!(told(op(Plan::Revoke(LeaseId(7)), Outcome::Refused(ErrorCode::LeaseNotFound)), 5), Some(Kind::Early));

    let revoke = |second| timed(op(Plan::Revoke(LeaseId(7)), Outcome::Unknown), sent, second, 0);
    let with_revoke = |second| judged(Vec::new(), record(vec![timed(leased(), sent, 5, 0), revoke(second)]));
    assert_eq!(with_revoke(4), None, "it may have been revoked");
    assert_eq!(with_revoke(6), Some(Kind::Early), "it was revoked only afterwards");

    let denied = |lease, code, seconds| {
        let at = sent + Duration::from_secs(seconds);
        judged(Vec::new(), Record { denied: vec![Denied { lease, code, at }], ..record(Vec::new()) })
    };
    assert_eq!(denied(Some(LeaseId(7)), ErrorCode::LeaseNotFound, 12), None);
    assert_eq!(denied(Some(LeaseId(7)), ErrorCode::LeaseNotFound, 5), Some(Kind::Early));
    assert_eq!(denied(None, ErrorCode::LeaseNotFound, 5), Some(Kind::Refused));
}
