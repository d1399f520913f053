//! A hash of all rows that does not depend on their order, kept as they change.
//!
//! The sum of the hashes of the rows: adding and removing one costs as much as hashing it. It shows replicas that have
//! drifted apart and images that lost a row; it does not defend against someone who chooses rows to deceive it.

use bytes::{Bytes, BytesMut};
use hither_protocol::{Entry, LeaseId, Namespace, SequenceNumber, SessionId};
use xxhash_rust::xxh3::xxh3_128;

use super::row;
use crate::{LeaseRecord, SessionRecord};

/// The hash of a state.
#[derive(Debug, Default)]
pub(crate) struct Hash {
    sum: u128,
    /// Reused for each row.
    scratch: BytesMut,
}

impl Hash {
    pub(crate) const fn value(&self) -> u128 {
        self.sum
    }

    pub(crate) fn add_entry(&mut self, namespace: &Namespace, entry: &Entry) {
        let hash = self.entry(namespace, entry);
        self.sum = self.sum.wrapping_add(hash);
    }

    pub(crate) fn remove_entry(&mut self, namespace: &Namespace, entry: &Entry) {
        let hash = self.entry(namespace, entry);
        self.sum = self.sum.wrapping_sub(hash);
    }

    pub(crate) fn add_lease(&mut self, lease: LeaseId, record: &LeaseRecord) {
        let hash = self.lease(lease, record);
        self.sum = self.sum.wrapping_add(hash);
    }

    pub(crate) fn remove_lease(&mut self, lease: LeaseId, record: &LeaseRecord) {
        let hash = self.lease(lease, record);
        self.sum = self.sum.wrapping_sub(hash);
    }

    pub(crate) fn add_session(&mut self, session: SessionId, record: &SessionRecord) {
        let hash = self.session(session, record);
        self.sum = self.sum.wrapping_add(hash);
    }

    pub(crate) fn remove_session(&mut self, session: SessionId, record: &SessionRecord) {
        let hash = self.session(session, record);
        self.sum = self.sum.wrapping_sub(hash);
    }

    /// The number up to which a session has acknowledged moves on. It is a row of its own, since it moves often.
    pub(crate) fn acknowledge(&mut self, session: SessionId, from: SequenceNumber, to: SequenceNumber) {
        let before = self.acknowledged(session, from);
        let after = self.acknowledged(session, to);
        self.sum = self.sum.wrapping_sub(before).wrapping_add(after);
    }

    pub(crate) fn add_outcome(&mut self, session: SessionId, sequence: SequenceNumber, outcome: &Bytes) {
        let hash = self.outcome(session, sequence, outcome);
        self.sum = self.sum.wrapping_add(hash);
    }

    pub(crate) fn remove_outcome(&mut self, session: SessionId, sequence: SequenceNumber, outcome: &Bytes) {
        let hash = self.outcome(session, sequence, outcome);
        self.sum = self.sum.wrapping_sub(hash);
    }

    fn entry(&mut self, namespace: &Namespace, entry: &Entry) -> u128 {
        self.row(Kind::Entry, entry.key.as_bytes().len(), |out| {
            row::put_entry_key(out, namespace, &entry.key);
            row::put_entry_value(out, entry);
        })
    }

    fn lease(&mut self, lease: LeaseId, record: &LeaseRecord) -> u128 {
        self.row(Kind::Lease, 0, |out| {
            out.extend_from_slice(&lease.0.to_be_bytes());
            row::put_lease_value(out, record);
        })
    }

    fn session(&mut self, session: SessionId, record: &SessionRecord) -> u128 {
        self.row(Kind::Session, 0, |out| {
            out.extend_from_slice(&session.0.to_be_bytes());
            row::put_session_value(out, record);
        })
    }

    fn acknowledged(&mut self, session: SessionId, sequence: SequenceNumber) -> u128 {
        if sequence == SequenceNumber(0) {
            // Nothing was acknowledged: there is no row.
            return 0;
        }
        self.row(Kind::Acknowledged, 0, |out| {
            out.extend_from_slice(&session.0.to_be_bytes());
            out.extend_from_slice(&sequence.0.to_be_bytes());
        })
    }

    fn outcome(&mut self, session: SessionId, sequence: SequenceNumber, outcome: &Bytes) -> u128 {
        self.row(Kind::Outcome, 0, |out| {
            row::put_outcome_key(out, session, sequence);
            row::put_outcome_value(out, sequence, outcome);
        })
    }

    /// Hashes one row. Its kind, and the length of what has no other end, stand before it, so that rows of two kinds, or
    /// a byte that moves from key to value, are not the same.
    fn row(&mut self, kind: Kind, length: usize, write: impl FnOnce(&mut BytesMut)) -> u128 {
        self.scratch.clear();
        self.scratch.extend_from_slice(&((length as u64) << 8 | kind as u64).to_le_bytes());
        write(&mut self.scratch);
        xxh3_128(&self.scratch)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Entry = 1,
    Lease = 2,
    Session = 3,
    Acknowledged = 4,
    Outcome = 5,
}
