//! Registrations on one clock, against a store played by the test.

use std::collections::BTreeMap;
use std::time::Duration;

use hither_client_core::{Declarations, Error, Instance, Need, RegistryNote as Note, Tie};
use hither_protocol::message::{Compare, DeleteReply, GetReply, PutReply, Relation, Txn, TxnOp, TxnReply, TxnResult};
use hither_protocol::{Entry, ErrorCode, Key, KeyRange, LeaseId, Moment, Revision, Version};

const TTL: Duration = Duration::from_secs(10);

/// A store that runs the transactions of registrations.
#[derive(Default)]
struct Store {
    entries: BTreeMap<Key, Entry>,
    revision: u64,
    leases: Vec<LeaseId>,
}

impl Store {
    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.entries.contains_key(key),
            Compare::Lease(key, lease) => self.entries.get(key).is_some_and(|entry| entry.lease == *lease),
            Compare::CreateRevision(key, Relation::Equal, revision) => {
                self.entries.get(key).is_some_and(|entry| entry.create_revision == *revision)
            }
            other => panic!("no registration compares {other:?}"),
        }
    }

    fn run(&mut self, txn: &Txn) -> Result<TxnReply, Error> {
        let succeeded = txn.when.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let leases = ops.iter().filter_map(|op| if let TxnOp::Put(put) = op { put.lease } else { None });
        if let Some(gone) = leases.into_iter().find(|lease| !self.leases.contains(lease)) {
            return Err(Error::new(ErrorCode::LeaseNotFound, gone.to_string()));
        }
        let revision = Revision(self.revision + 1);
        let mut results = Vec::new();
        for op in ops {
            results.push(match op {
                TxnOp::Get(key) => TxnResult::Get(GetReply { entry: self.entries.get(key).cloned() }),
                TxnOp::Put(put) => {
                    let previous = self.entries.get(&put.key).cloned();
                    let create_revision = previous.as_ref().map_or(revision, |entry| entry.create_revision);
                    let (key, value, lease) = (put.key.clone(), put.value.clone(), put.lease);
                    let entry =
                        Entry { key, value, lease, create_revision, mod_revision: revision, version: Version(1) };
                    self.entries.insert(put.key.clone(), entry);
                    self.revision = revision.0;
                    TxnResult::Put(PutReply { revision, previous })
                }
                TxnOp::Delete(delete) => {
                    let KeyRange::One(key) = &delete.range else { panic!("one key at a time") };
                    let deleted = u64::from(self.entries.remove(key).is_some());
                    self.revision = revision.0;
                    TxnResult::Delete(DeleteReply { revision, deleted, previous: vec![] })
                }
                TxnOp::Range { .. } => panic!("no registration reads a range"),
            });
        }
        Ok(TxnReply { revision: Revision(self.revision), succeeded, results, results_forgotten: false })
    }

    fn grant(&mut self) -> LeaseId {
        let lease = LeaseId(100 + u64::try_from(self.leases.len()).expect("few"));
        self.leases.push(lease);
        lease
    }

    /// A lease ends, and its keys with it.
    fn end(&mut self, lease: LeaseId) {
        self.entries.retain(|_, entry| entry.lease != Some(lease));
        self.leases.retain(|other| *other != lease);
    }
}

/// A process and its store.
struct World {
    declarations: Declarations,
    store: Store,
    now: Moment,
    notes: Vec<Note>,
    txns: Vec<Txn>,
    /// The keys that were there after each transaction.
    seen: Vec<usize>,
    /// Every call fails with this.
    fault: Option<Error>,
    /// Calls take effect all the same.
    silently: bool,
}

impl World {
    fn new() -> Self {
        Self {
            declarations: Declarations::new((Duration::from_millis(50), Duration::from_secs(10)), 1),
            store: Store::default(),
            now: Moment(1_000_000_000),
            notes: Vec::new(),
            txns: Vec::new(),
            seen: Vec::new(),
            fault: None,
            silently: false,
        }
    }

    fn pump(&mut self) {
        for _ in 0..1_000 {
            while let Some(note) = self.declarations.poll_note() {
                self.notes.push(note);
            }
            let Some(need) = self.declarations.poll_need(self.now) else { return };
            let now = self.now;
            match need {
                Need::Grant { ttl } => {
                    let outcome = self.fault.clone().map_or_else(|| Ok(self.store.grant()), Err);
                    self.declarations.handle_granted(now, ttl, outcome);
                }
                Need::GrantTombstones { ttl } => {
                    assert!(ttl >= Duration::from_secs(600));
                    let outcome = self.fault.clone().map_or_else(|| Ok(self.store.grant()), Err);
                    self.declarations.handle_tombstones(now, outcome);
                }
                Need::Run { id, txn } => {
                    let outcome = match self.fault.clone() {
                        Some(error) => {
                            if self.silently {
                                self.store.run(&txn).expect("it takes effect");
                            }
                            Err(error)
                        }
                        None => self.store.run(&txn),
                    };
                    self.txns.push(txn);
                    self.seen.push(self.there().len());
                    self.declarations.handle_answer(now, id, outcome);
                }
                Need::Release { lease } => self.store.end(lease),
            }
        }
        panic!("it never rests");
    }

    fn sleep(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.declarations.poll_timeout(self.now).filter(|at| *at <= until) {
            self.now = at;
            self.pump();
        }
        self.now = until;
        self.pump();
    }

    fn register(&mut self, member: u64, id: &str) -> Result<bool, Error> {
        self.declarations.handle_register(self.now, member, member, Instance::new("api", id), Tie::Kept(TTL));
        self.pump();
        self.outcome(member)
    }

    fn withdraw(&mut self, member: u64, op: u64) -> Result<bool, Error> {
        self.declarations.handle_withdraw(self.now, member, Some(op), Some("then".to_owned()));
        self.pump();
        self.outcome(op)
    }

    fn outcome(&mut self, wanted: u64) -> Result<bool, Error> {
        let told = self.notes.iter().find_map(|note| match note {
            Note::Done { op, outcome } if *op == wanted => Some(outcome.clone()),
            _ => None,
        });
        told.expect("an outcome")
    }

    fn there(&self) -> Vec<String> {
        self.store.entries.keys().map(ToString::to_string).filter(|key| key.starts_with("services/")).collect()
    }

    fn entry(&self, id: &str) -> &Entry {
        self.store.entries.get(&Instance::key_of("api", id)).expect("it is there")
    }

    fn lose(&mut self, lease: LeaseId) {
        self.declarations.handle_lost(lease);
        self.pump();
    }
}

fn unavailable() -> Error {
    Error::new(ErrorCode::Unavailable, "nobody is there")
}

#[test]
fn registrations_of_one_time_to_live_share_a_lease() {
    let mut world = World::new();
    assert!(world.register(1, "a").expect("registered"));
    assert!(world.register(2, "b").expect("registered"));
    assert_eq!(world.store.leases.len(), 1);
    let epoch = world.entry("a").create_revision;
    assert!(matches!(&world.notes[0], Note::Declared { member: 1, instance, .. } if instance.epoch == epoch));
    assert!(world.withdraw(1, 10).expect("withdrawn"));
    assert_eq!(world.there(), ["services/api/b"]);
    assert!(world.withdraw(2, 11).expect("withdrawn"));
    assert!(world.declarations.is_empty());
    assert!(!world.store.leases.contains(&LeaseId(100)), "a lease that nothing hangs on is let go of");
}

#[test]
fn whatever_was_lost_is_declared_again_in_one_transaction() {
    let mut world = World::new();
    for member in 1..=50 {
        world.register(member, &format!("n{member}")).expect("registered");
    }
    let before = world.entry("n1").create_revision;
    world.store.end(LeaseId(100));
    let txns = world.txns.len();
    world.lose(LeaseId(100));
    assert_eq!((world.txns.len() - txns, world.there().len()), (1, 50));
    assert!(world.entry("n1").create_revision > before, "it is another registration under the same id");
    let lost = world.notes.iter().filter(|note| matches!(note, Note::Lost { error: None, .. })).count();
    assert_eq!(lost, 50);
    assert!(matches!(world.notes.last(), Some(Note::Declared { .. })));
}

#[test]
fn large_records_do_not_make_a_transaction_that_no_frame_holds() {
    let mut world = World::new();
    for member in 1..=40 {
        let mut instance = Instance::new("api", format!("n{member}"));
        instance.metadata = (0..15).map(|number| (number.to_string(), "v".repeat(4_000))).collect();
        world.declarations.handle_register(world.now, member, member, instance, Tie::Kept(TTL));
    }
    world.pump();
    assert_eq!(world.there().len(), 40);
    let bytes = |txn: &Txn| {
        let values = txn.then.iter().map(|op| if let TxnOp::Put(put) = op { put.value.len() } else { 0 });
        values.sum::<usize>()
    };
    assert!(world.txns.iter().all(|txn| bytes(txn) <= 1024 * 1024) && world.txns.len() < 5, "{}", world.txns.len());
}

#[test]
fn what_the_server_still_has_moves_to_the_new_lease_without_a_gap() {
    let mut world = World::new();
    world.register(1, "a").expect("registered");
    world.register(2, "b").expect("registered");
    let (seen, epoch) = (world.seen.len(), world.entry("a").create_revision);
    // The client gave the lease up, the server has not.
    world.lose(LeaseId(100));
    assert!(world.seen[seen..].iter().all(|count| *count == 2), "{:?}", world.seen);
    assert_eq!((world.entry("a").lease, world.entry("a").create_revision), (Some(LeaseId(101)), epoch));
    assert!(!world.store.leases.contains(&LeaseId(100)), "the old lease goes when nothing hangs on it");
    assert_eq!(world.there().len(), 2);
}

#[test]
fn while_nobody_answers_it_is_tried_again_and_the_application_knows() {
    let mut world = World::new();
    world.register(1, "a").expect("registered");
    world.store.end(LeaseId(100));
    world.fault = Some(unavailable());
    world.lose(LeaseId(100));
    world.sleep(Duration::from_secs(60));
    assert!(world.there().is_empty());
    let tries = world.notes.iter().filter(|note| matches!(note, Note::Lost { error: Some(_), .. })).count();
    assert!((4..200).contains(&tries), "{tries} attempts in a minute");
    world.fault = None;
    world.sleep(Duration::from_secs(10));
    assert_eq!(world.there(), ["services/api/a"]);
}

#[test]
fn a_registration_that_was_replaced_changes_nothing_any_more() {
    let mut world = World::new();
    let mut other = World::new();
    world.register(1, "a").expect("registered");
    world.store.end(LeaseId(100));
    std::mem::swap(&mut world.store, &mut other.store);
    other.store.leases = vec![LeaseId(1); 7];
    other.register(1, "a").expect("registered by another process");
    std::mem::swap(&mut world.store, &mut other.store);
    let theirs = world.entry("a").clone();

    world.declarations.handle_update(1, 20, Instance { zone: "z".into(), ..Instance::new("api", "a") });
    world.pump();
    assert_eq!(world.outcome(20).expect_err("refused").code(), ErrorCode::Conflict);
    assert_eq!(*world.entry("a"), theirs);

    let mut late = World::new();
    std::mem::swap(&mut world.store, &mut late.store);
    late.store.entries.clear();
    late.register(1, "a").expect("registered");
    late.store.entries.insert(theirs.key.clone(), theirs.clone());
    assert_eq!(late.withdraw(1, 30).expect_err("refused").code(), ErrorCode::Conflict);
    assert_eq!(*late.entry("a"), theirs);
    assert!(late.declarations.is_empty());

    late.register(2, "b").expect("registered");
    let lease = late.entry("b").lease.expect("a lease");
    late.store.end(lease);
    let theirs = Entry { key: Instance::key_of("api", "b"), ..theirs };
    late.store.entries.insert(theirs.key.clone(), theirs.clone());
    late.lose(lease);
    assert_eq!(*late.entry("b"), theirs, "it is not taken back");
    assert!(matches!(late.notes.last(), Some(Note::Gone { member: 2, error: Some(_), .. })));
}

#[test]
fn a_first_attempt_that_may_have_worked_is_told_and_taken_back() {
    let mut world = World::new();
    world.register(1, "a").expect("registered");
    world.fault = Some(Error::unknown(ErrorCode::Timeout, "no answer"));
    world.silently = true;
    assert_eq!(world.register(2, "b").expect_err("unknown").code(), ErrorCode::Timeout);
    world.fault = None;
    world.sleep(Duration::from_secs(30));
    assert_eq!(world.there(), ["services/api/a"], "nobody looks after what nobody knows of");
}

#[test]
fn a_change_while_it_is_lost_is_part_of_what_is_declared_again() {
    let mut world = World::new();
    world.register(1, "a").expect("registered");
    world.fault = Some(unavailable());
    world.store.end(LeaseId(100));
    world.lose(LeaseId(100));
    world.declarations.handle_update(1, 20, Instance { zone: "z".into(), ..Instance::new("api", "a") });
    world.pump();
    world.fault = None;
    world.sleep(Duration::from_secs(10));
    assert!(world.outcome(20).expect("done"));
    let record = Instance::from_json(&world.entry("a").value).expect("a record");
    assert_eq!(record.zone, "z");
}

#[test]
fn who_stops_leaves_behind_when_and_one_lease_serves_all_who_stop() {
    let mut world = World::new();
    for (member, id) in [(1, "a"), (2, "b")] {
        world.register(member, id).expect("registered");
    }
    world.declarations.handle_close(world.now, "2026-01-01T00:00:00Z");
    world.pump();
    assert!(world.declarations.is_empty() && world.there().is_empty());
    let stopped = world.store.entries.get(&Instance::tombstone_of("api", "a")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&stopped.value).expect("JSON");
    assert_eq!((record["id"].as_str(), record["stopped_at"].as_str()), (Some("a"), Some("2026-01-01T00:00:00Z")));
    assert_eq!(world.store.leases.len(), 1, "that of what was left behind");
    world.store.entries.clear();
    world.register(3, "c").expect("registered");
    world.store.entries.clear();
    assert!(!world.withdraw(3, 30).expect("it was gone already"));
}

#[test]
fn of_two_registrations_of_one_id_in_a_process_the_later_holds() {
    let mut world = World::new();
    world.register(1, "a").expect("registered");
    world.register(2, "a").expect("registered again");
    assert!(world.notes.iter().any(|note| matches!(note, Note::Gone { member: 1, error: Some(_), .. })));
    assert!(world.withdraw(1, 10).is_err());
    assert_eq!(world.there(), ["services/api/a"]);
    // Let go of and registered anew before the first went: what goes is not the new one.
    world.declarations.handle_withdraw(world.now, 2, None, Some("then".to_owned()));
    assert!(world.register(3, "a").expect("registered"));
    assert_eq!(world.there(), ["services/api/a"]);
    assert!(world.withdraw(3, 30).expect("withdrawn"));
    assert!(world.there().is_empty());
}

#[test]
fn what_hangs_on_the_callers_lease_or_on_nothing_is_not_declared_again() {
    let mut world = World::new();
    let lease = world.store.grant();
    for (member, tie) in [(1, Tie::Given(lease)), (2, Tie::Free)] {
        let instance = Instance::new("api", format!("n{member}"));
        world.declarations.handle_register(world.now, member, member, instance, tie);
        world.pump();
        assert!(world.outcome(member).expect("registered"));
    }
    assert_eq!(world.entry("n1").lease, Some(lease));
    world.declarations.handle_close(world.now, "then");
    world.pump();
    assert_eq!(world.there().len(), 2, "they stay");
    let given = Tie::Given(LeaseId(7));
    world.declarations.handle_register(world.now, 3, 3, Instance::new("api", "c"), given);
    world.pump();
    assert_eq!(world.outcome(3).expect_err("no such lease").code(), ErrorCode::LeaseNotFound);
}
