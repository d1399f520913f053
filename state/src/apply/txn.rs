//! Transactions.

use std::cmp::Ordering;

use bytes::Bytes;
use hither_protocol::message::{
    Compare, GetReply, Projection, Put, RangeReply, Relation, Txn, TxnOp, TxnReply, TxnResult,
};
use hither_protocol::{Entry, ErrorCode, Key, KeyRange, Refusal};

use super::kv::{answer_bytes, check_answer, sum_answer};
use super::{Step, refuse};
use crate::range::project;

/// Most keys that the ranges of one transaction may pass over, counted ones among them: some milliseconds in which nothing
/// else is applied.
const TXN_KEYS_MAX: usize = 100_000;
/// What a result takes in an answer beside the entries in it.
const RESULT_ENVELOPE_BYTES: usize = 64;

impl Step<'_> {
    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnReply, Refusal> {
        let succeeded = txn.when.iter().all(|compare| self.holds(compare));
        // Not at random: a log that is carried out again must come to the same.
        #[cfg(feature = "planted")]
        let succeeded = succeeded
            && !(!txn.when.is_empty()
                && self.revision.0 % 8 == 0
                && hither_protocol::planted::strikes(hither_protocol::planted::Bug::ConditionMissed));
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        self.check_puts(puts(branch))?;
        self.check_walk(branch)?;
        // Not the sum of all first: each may pass over as many keys as an answer holds.
        branch.iter().try_fold(0, |bytes, op| {
            let bytes = bytes + self.result_bytes(op, branch);
            check_answer(bytes).map(|()| bytes)
        })?;
        let results = branch.iter().map(|op| self.run(op)).collect();
        Ok(TxnReply { revision: self.reached(), succeeded, results, results_forgotten: false })
    }

    fn run(&mut self, op: &TxnOp) -> TxnResult {
        match op {
            TxnOp::Get(key) => TxnResult::Get(GetReply { entry: self.entry(key).cloned() }),
            TxnOp::Range { range, limit, reverse, projection } => {
                TxnResult::Range(self.read(range, *limit, *reverse, *projection))
            }
            TxnOp::Put(put) => TxnResult::Put(self.write(put)),
            TxnOp::Delete(delete) => TxnResult::Delete(self.erase(delete)),
        }
    }

    fn read(&self, range: &KeyRange, limit: u64, reverse: bool, projection: Projection) -> RangeReply {
        let mut reply = RangeReply { entries: Vec::new(), count: 0, more: false };
        for entry in self.state.store.walk(self.namespace, range, reverse) {
            if limit == 0 || reply.count < limit {
                reply.entries.extend(project(entry, projection));
            }
            reply.count += 1;
        }
        reply.more = projection != Projection::CountOnly && limit != 0 && reply.count > limit;
        reply
    }

    /// Whether the ranges that a branch reads are small enough for a step that nothing interrupts.
    fn check_walk(&self, branch: &[TxnOp]) -> Result<(), Refusal> {
        let mut left = TXN_KEYS_MAX;
        for op in branch {
            let TxnOp::Range { range, .. } = op else { continue };
            let keys = self.state.store.walk(self.namespace, range, false).take(left + 1).count();
            let Some(rest) = left.checked_sub(keys) else {
                return refuse(
                    ErrorCode::InvalidArgument,
                    format!(
                        "the ranges of the transaction hold more than {TXN_KEYS_MAX} keys: read or count them outside of it"
                    ),
                );
            };
            left = rest;
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Value(key, relation, value) => match self.entry(key) {
                Some(entry) => relate(entry.value.cmp(value), *relation),
                None => *relation == Relation::NotEqual,
            },
            Compare::Version(key, relation, version) => {
                relate(self.number(key, |entry| entry.version.0).cmp(&version.0), *relation)
            }
            Compare::CreateRevision(key, relation, revision) => {
                relate(self.number(key, |entry| entry.create_revision.0).cmp(&revision.0), *relation)
            }
            Compare::ModRevision(key, relation, revision) => {
                relate(self.number(key, |entry| entry.mod_revision.0).cmp(&revision.0), *relation)
            }
            Compare::Exists(key) => self.entry(key).is_some(),
            Compare::Absent(key) => self.entry(key).is_none(),
            Compare::RangeEmpty(range) => self.state.store.walk(self.namespace, range, false).next().is_none(),
            Compare::Lease(key, lease) => self.entry(key).is_some_and(|entry| entry.lease == *lease),
        }
    }

    fn number(&self, key: &Key, of: impl Fn(&Entry) -> u64) -> u64 {
        self.entry(key).map_or(0, of)
    }

    /// What the result of `op` can take in the answer at most, whatever the operations of its branch before it do.
    fn result_bytes(&self, op: &TxnOp, branch: &[TxnOp]) -> usize {
        let entry_bytes = |key: &Key| self.entry(key).map_or(0, |entry| answer_bytes(&entry.key, &entry.value));
        let entries = match op {
            TxnOp::Get(key) => {
                let written = puts(branch).find(|put| put.key == *key).map_or(0, |put| answer_bytes(key, &put.value));
                entry_bytes(key).max(written)
            }
            TxnOp::Range { projection: Projection::CountOnly, .. } => 0,
            TxnOp::Range { range, limit, reverse, projection } => {
                // A deletion before it may move other entries into its page: then any of the range may be in it.
                let deletes = branch.iter().any(|op| matches!(op, TxnOp::Delete(_)));
                let page =
                    if *limit == 0 || deletes { usize::MAX } else { usize::try_from(*limit).unwrap_or(usize::MAX) };
                let walk = self.state.store.walk(self.namespace, range, *reverse).take(page);
                let written = puts(branch).filter(|put| range.contains(put.key.as_bytes()));
                sum_answer(walk.map(|entry| shown_bytes(&entry.key, &entry.value, *projection)))
                    + sum_answer(written.map(|put| shown_bytes(&put.key, &put.value, *projection)))
            }
            TxnOp::Put(put) if put.previous => entry_bytes(&put.key),
            TxnOp::Delete(delete) if delete.previous => self.range_bytes(&delete.range),
            TxnOp::Put(_) | TxnOp::Delete(_) => 0,
        };
        entries + RESULT_ENVELOPE_BYTES
    }
}

fn puts(branch: &[TxnOp]) -> impl Iterator<Item = &Put> + Clone {
    branch.iter().filter_map(|op| match op {
        TxnOp::Put(put) => Some(put),
        TxnOp::Get(_) | TxnOp::Range { .. } | TxnOp::Delete(_) => None,
    })
}

fn shown_bytes(key: &Key, value: &Bytes, projection: Projection) -> usize {
    if projection == Projection::KeysOnly { answer_bytes(key, &Bytes::new()) } else { answer_bytes(key, value) }
}

fn relate(ordering: Ordering, relation: Relation) -> bool {
    match relation {
        Relation::Equal => ordering.is_eq(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Less => ordering.is_lt(),
        Relation::Greater => ordering.is_gt(),
    }
}
