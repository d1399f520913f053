//! What writers asked for and what they were answered: the other half of the truth, kept apart from any watch.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use hither::{Applied, Error, ErrorCode, Key, KeyRange, LeaseId, Revision};
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
    /// It was carried out at this revision and changed nothing.
    Nothing(Revision),
    /// It changed nothing and never will, for this reason.
    Refused(ErrorCode),
    /// It may have taken effect, or may yet.
    Unknown,
}

/// A request and what came of it.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) plan: Plan,
    pub(crate) outcome: Outcome,
    /// None if it was never sent.
    pub(crate) asked: Option<Asked>,
    pub(crate) answered: Option<Instant>,
}

/// What a request comes after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// It was not sent before.
    pub(crate) at: Instant,
    /// The newest revision that was acknowledged by then.
    pub(crate) after: Revision,
}

/// What is known of a lease that only its holder renews.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) ttl: Duration,
    /// When the last sign of life that was acknowledged was sent: it ends a TTL after that at the earliest.
    pub(crate) sent: Instant,
}

/// A request for a lease or a sign of life of it that was refused: no other leaves its trace here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Denied {
    /// None if it was to be granted.
    pub(crate) lease: Option<LeaseId>,
    pub(crate) code: ErrorCode,
    pub(crate) at: Instant,
}

/// A watch that was to begin now, and where it says that it does.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) who: String,
    pub(crate) revision: Revision,
    /// When it had said so.
    pub(crate) told: Instant,
}

/// All that writers know, and what watches were told that leaves no trace in history.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) ops: Vec<Op>,
    pub(crate) leases: BTreeMap<LeaseId, Held>,
    /// When the client that keeps a lease took it as lost, if it has.
    pub(crate) kept: BTreeMap<LeaseId, Option<Instant>>,
    pub(crate) openings: Vec<Opening>,
    pub(crate) denied: Vec<Denied>,
}

/// The record while it is written.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Record>);

impl Ledger {
    /// Something is about to be asked for. `plan` gets its number.
    pub(crate) fn begin(&self, plan: impl FnOnce(OpId) -> Plan) -> (OpId, Plan) {
        let ops = &mut self.0.lock().ops;
        let id = OpId(ops.len() as u64);
        let plan = plan(id);
        ops.push(Op { plan: plan.clone(), outcome: Outcome::Pending, asked: None, answered: None });
        (id, plan)
    }

    /// It is sent, not before `asked`.
    pub(crate) fn ask(&self, id: OpId, asked: Asked) {
        if let Some(op) = self.0.lock().ops.get_mut(id.place()) {
            op.asked = Some(asked);
        }
    }

    /// It was answered, or given up; not after `at`.
    pub(crate) fn end(&self, id: OpId, outcome: Outcome, at: Instant) {
        if let Some(op) = self.0.lock().ops.get_mut(id.place()) {
            (op.outcome, op.answered) = (outcome, Some(at));
        }
    }

    /// A lease was heard of: the request was sent then and acknowledged.
    pub(crate) fn heard(&self, lease: LeaseId, ttl: Duration, sent: Instant) {
        let leases = &mut self.0.lock().leases;
        let held = leases.entry(lease).or_insert(Held { ttl, sent });
        held.sent = held.sent.max(sent);
    }

    /// No lease was granted, or this one not renewed.
    pub(crate) fn denied(&self, lease: Option<LeaseId>, error: &Error, at: Instant) {
        if error.applied() == Applied::No {
            self.0.lock().denied.push(Denied { lease, code: error.code(), at });
        }
    }

    /// A client keeps a lease alive.
    pub(crate) fn kept(&self, lease: LeaseId) {
        self.0.lock().kept.entry(lease).or_default();
    }

    /// The client has taken it as lost.
    pub(crate) fn lost(&self, lease: LeaseId, at: Instant) {
        self.0.lock().kept.insert(lease, Some(at));
    }

    /// A watch from now on has begun.
    pub(crate) fn opened(&self, opening: Opening) {
        self.0.lock().openings.push(opening);
    }

    /// Everything, once nobody writes any more.
    pub(crate) fn close(&self) -> Record {
        std::mem::take(&mut self.0.lock())
    }
}

impl Outcome {
    /// What a call came to. `told`: what its answer says.
    pub(crate) fn of<T>(answer: &Result<T, Error>, told: impl FnOnce(&T) -> Self) -> Self {
        match answer {
            Ok(reply) => told(reply),
            Err(error) if error.applied() == Applied::No => Self::Refused(error.code()),
            Err(_) => Self::Unknown,
        }
    }

    /// It was carried out. `revision`: its own, or the one that was there if it changed nothing.
    pub(crate) const fn at(revision: Revision, changed: bool) -> Self {
        if changed { Self::Done(revision) } else { Self::Nothing(revision) }
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
