//! What must be true, kept as plainly as possible.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use hither_protocol::{NodeId, Revision};
use hither_server::engine::Engine;

/// What was acknowledged and seen so far.
#[derive(Default)]
pub(crate) struct Model {
    facts: Mutex<Facts>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Facts {
    /// Keys whose put was acknowledged, each written once in its life, and the revision of it.
    acknowledged: BTreeMap<String, Revision>,
    newest: Revision,
    /// The hash of the state after each entry of the log that a replica was seen at.
    hashes: BTreeMap<u64, u128>,
    retries: u64,
    reads: u64,
    crashes: u64,
    partitions: u64,
    /// The most entries that an engine was seen to have applied before raft asked for them.
    ahead: u64,
}

impl Model {
    /// A put of `key` was acknowledged at `revision`.
    pub(crate) fn acknowledge(&self, key: &str, revision: Revision) {
        let mut facts = self.facts.lock().expect("no panic under the lock");
        let before = facts.acknowledged.insert(key.to_owned(), revision);
        assert_eq!(before, None, "{key} was acknowledged twice");
        facts.newest = facts.newest.max(revision);
    }

    /// Every read that begins now must see this.
    pub(crate) fn newest(&self) -> Revision {
        self.facts.lock().expect("no panic under the lock").newest
    }

    pub(crate) fn read(&self) {
        self.facts.lock().expect("no panic under the lock").reads += 1;
    }

    pub(crate) fn retry(&self) {
        self.facts.lock().expect("no panic under the lock").retries += 1;
    }

    pub(crate) fn crash(&self) {
        self.facts.lock().expect("no panic under the lock").crashes += 1;
    }

    pub(crate) fn partition(&self) {
        self.facts.lock().expect("no panic under the lock").partitions += 1;
    }

    /// Looks at a replica: it must be equal to what others were at the same entry.
    pub(crate) fn look(&self, node: NodeId, engine: &Engine) {
        let (applied, _, hash) = engine.machine().fingerprint();
        let mut facts = self.facts.lock().expect("no panic under the lock");
        facts.ahead = facts.ahead.max(engine.stats().entries_applied_ahead);
        match facts.hashes.entry(applied) {
            Entry::Vacant(none) => drop(none.insert(hash)),
            Entry::Occupied(other) => assert_eq!(*other.get(), hash, "node {node} drifted apart at entry {applied}"),
        }
    }

    /// Everything acknowledged is in this replica, written once, at the revision that was answered.
    pub(crate) fn check(&self, node: NodeId, engine: &Engine) {
        let state = engine.machine().state.read();
        let facts = self.facts.lock().expect("no panic under the lock");
        for (key, &revision) in &facts.acknowledged {
            let entry = state.get(&hither_protocol::Namespace::default(), key.as_bytes());
            let entry = entry.unwrap_or_else(|| panic!("node {node} lost {key}, acknowledged at revision {revision}"));
            assert_eq!(entry.version.0, 1, "{key} was written {} times", entry.version);
            assert_eq!(entry.mod_revision, revision, "{key} has another revision than was answered");
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The most entries that an engine had applied before raft asked for them.
    pub(crate) fn ahead(&self) -> u64 {
        self.facts.lock().expect("no panic under the lock").ahead
    }

    /// What happened, in a line.
    pub(crate) fn verdict(&self) -> String {
        let Facts { acknowledged, newest, hashes, retries, reads, crashes, partitions, ahead } =
            &*self.facts.lock().expect("no panic under the lock");
        assert!(acknowledged.len() > 50, "only {} puts were acknowledged", acknowledged.len());
        let last = hashes.last_key_value();
        format!(
            "{} puts and {reads} reads acknowledged, {retries} retried, {crashes} crashes, {partitions} partitions, \
             up to {ahead} applied ahead, revision {newest}, hash {last:x?}",
            acknowledged.len(),
        )
    }
}
