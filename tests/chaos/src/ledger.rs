//! What writers asked for and what they were answered: the other half of the truth, kept apart from any watch.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use hither::{Applied, Error, Key, KeyRange, LeaseId, Revision};
use parking_lot::Mutex;

/// Numbers what was asked for. Each value that is written begins with it, so that a write can be told in history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpId(u64);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op{}", self.0)
    }
}

/// What is to happen, in one revision.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Puts, then deletions of single keys; if the condition holds.
    Write {
        when: Option<Condition>,
        /// Key and value; the lease is that of all of them.
        puts: Vec<(Key, Bytes)>,
        deletes: Vec<Key>,
        lease: Option<LeaseId>,
    },
    /// Deletes what there is.
    Delete(KeyRange),
    /// Ends a lease, and its keys with it.
    Revoke(LeaseId),
}

/// A key has this value; none is that it does not exist.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) key: Key,
    pub(crate) value: Option<Bytes>,
}

/// What came of it, as far as the writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not answered yet; in the end, as good as unknown.
    Pending,
    /// It took effect at this revision.
    Done(Revision),
    /// It was carried out and changed nothing.
    Nothing,
    /// It changed nothing and never will.
    Refused,
    /// It may have taken effect, or may yet.
    Unknown,
}

/// A request and what came of it.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) plan: Plan,
    pub(crate) outcome: Outcome,
}

/// What is known of a lease that only its holder renews.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) ttl: Duration,
    /// When the last sign of life that was acknowledged was sent: it ends a TTL after that at the earliest.
    pub(crate) sent: Instant,
}

/// The record of all writers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ops: Mutex<Vec<Op>>,
    leases: Mutex<BTreeMap<LeaseId, Held>>,
}

impl Ledger {
    /// Something is about to be asked for. `plan` gets its number.
    pub(crate) fn begin(&self, plan: impl FnOnce(OpId) -> Plan) -> (OpId, Plan) {
        let mut ops = self.ops.lock();
        let id = OpId(ops.len() as u64);
        let plan = plan(id);
        ops.push(Op { plan: plan.clone(), outcome: Outcome::Pending });
        (id, plan)
    }

    pub(crate) fn end(&self, id: OpId, outcome: Outcome) {
        if let Some(op) = self.ops.lock().get_mut(id.0 as usize) {
            op.outcome = outcome;
        }
    }

    /// A lease was heard of: the request was sent then and acknowledged.
    pub(crate) fn heard(&self, lease: LeaseId, ttl: Duration, sent: Instant) {
        let mut leases = self.leases.lock();
        let held = leases.entry(lease).or_insert(Held { ttl, sent });
        held.sent = held.sent.max(sent);
    }

    /// Everything, once nobody writes any more.
    pub(crate) fn close(&self) -> (Vec<Op>, BTreeMap<LeaseId, Held>) {
        (std::mem::take(&mut self.ops.lock()), std::mem::take(&mut self.leases.lock()))
    }
}

impl Outcome {
    /// What a call came to. `effect`: the revision, if it changed something.
    pub(crate) fn of<T>(answer: &Result<T, Error>, effect: impl FnOnce(&T) -> Option<Revision>) -> Self {
        match answer {
            Ok(reply) => effect(reply).map_or(Self::Nothing, Self::Done),
            Err(error) if error.applied() == Applied::No => Self::Refused,
            Err(_) => Self::Unknown,
        }
    }
}

/// A value that nobody else writes: the request, the place in it, and padding.
pub(crate) fn value(id: OpId, part: usize, bytes: usize) -> Bytes {
    let mut value = BytesMut::from(format!("{id}.{part} ").as_bytes());
    value.put_bytes(b'.', bytes.saturating_sub(value.len()));
    value.freeze()
}

/// The request that wrote a value.
pub(crate) fn writer_of(value: &[u8]) -> Option<OpId> {
    let text = std::str::from_utf8(value).ok()?;
    let (id, _) = text.strip_prefix("op")?.split_once('.')?;
    id.parse().ok().map(OpId)
}

impl OpId {
    /// Its place in the record.
    pub(crate) const fn place(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn at(place: usize) -> Self {
        Self(place as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_who_wrote_it() {
        let ledger = Ledger::default();
        ledger.begin(|_| Plan::Delete(KeyRange::All));
        let (id, _) = ledger.begin(|_| Plan::Delete(KeyRange::All));
        let value = value(id, 3, 40);
        assert_eq!((writer_of(&value), value.len()), (Some(id), 40));
        assert_eq!(writer_of(b"op"), None);
        assert_eq!(writer_of(b"somebody"), None);
    }
}
