//! Sessions: who may retry what, and what the answer was.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hither_protocol::{LeaseId, Namespace, SequenceNumber, SessionId};

use crate::SessionRecord;

/// A client's standing.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) record: SessionRecord,
    /// The outcomes that may still be asked for again, by sequence number. They come nearly in order.
    outcomes: VecDeque<(SequenceNumber, Bytes)>,
    outcomes_bytes: usize,
    /// The leases that end with it, its own aside.
    pub(crate) bound: BTreeSet<LeaseId>,
}

impl Session {
    pub(crate) const fn new(record: SessionRecord) -> Self {
        Self { record, outcomes: VecDeque::new(), outcomes_bytes: 0, bound: BTreeSet::new() }
    }

    /// The outcome of this mutation, if it was executed and is not forgotten.
    pub(crate) fn outcome(&self, sequence: SequenceNumber) -> Option<&Bytes> {
        if self.outcomes.back().is_none_or(|(newest, _)| *newest < sequence) {
            return None;
        }
        let place = self.outcomes.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
        Some(&self.outcomes[place].1)
    }

    pub(crate) fn remember(&mut self, sequence: SequenceNumber, outcome: Bytes) {
        self.outcomes_bytes += outcome.len();
        if self.outcomes.back().is_none_or(|(newest, _)| *newest < sequence) {
            return self.outcomes.push_back((sequence, outcome));
        }
        let place = self.outcomes.partition_point(|(before, _)| *before < sequence);
        self.outcomes.insert(place, (sequence, outcome));
    }

    /// Forgets the oldest outcome if it is no newer than what was acknowledged.
    pub(crate) fn forget_next(&mut self) -> Option<(SequenceNumber, Bytes)> {
        let acknowledged = self.record.acknowledged;
        if self.outcomes.front().is_none_or(|(sequence, _)| *sequence > acknowledged) {
            return None;
        }
        let forgotten = self.outcomes.pop_front()?;
        self.outcomes_bytes -= forgotten.1.len();
        Some(forgotten)
    }

    pub(crate) const fn outcomes_bytes(&self) -> usize {
        self.outcomes_bytes
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &(SequenceNumber, Bytes)> {
        self.outcomes.iter()
    }
}

/// All sessions, by id and by what their client drew.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    by_nonce: BTreeMap<([u8; 16], Namespace, Arc<str>), SessionId>,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    /// The session that this identity opened in this namespace with this nonce.
    pub(crate) fn opened(&self, namespace: &Namespace, principal: &Arc<str>, nonce: [u8; 16]) -> Option<SessionId> {
        self.by_nonce.get(&(nonce, namespace.clone(), principal.clone())).copied()
    }

    pub(crate) fn insert(&mut self, id: SessionId, record: SessionRecord) {
        self.by_nonce.insert((record.nonce, record.namespace.clone(), record.principal.clone()), id);
        self.by_id.insert(id, Session::new(record));
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.by_id.remove(&id)?;
        let record = &session.record;
        self.by_nonce.remove(&(record.nonce, record.namespace.clone(), record.principal.clone()));
        Some(session)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(&id, session)| (id, session))
    }
}

/// A look at a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    /// Its id; its own lease has the same number.
    pub id: SessionId,
    /// What is kept of it.
    pub record: &'a SessionRecord,
    session: &'a Session,
}

impl<'a> SessionView<'a> {
    pub(crate) const fn new(id: SessionId, session: &'a Session) -> Self {
        Self { id, record: &session.record, session }
    }

    /// The leases that end with it: its own and those bound to it.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> + use<'a> {
        std::iter::once(self.id.lease()).chain(self.session.bound.iter().copied())
    }

    /// Outcomes that it remembers.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.session.outcomes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_gone_leaves_nothing() {
        let record = SessionRecord {
            namespace: Namespace::default(),
            principal: "alice".into(),
            nonce: [1; 16],
            acknowledged: SequenceNumber(0),
        };
        let mut sessions = Sessions::default();
        sessions.insert(SessionId(1), record.clone());
        assert_eq!(sessions.opened(&record.namespace, &record.principal, [1; 16]), Some(SessionId(1)));
        sessions.remove(SessionId(1));
        assert!(sessions.by_id.is_empty() && sessions.by_nonce.is_empty());
    }

    #[test]
    fn what_is_forgotten_makes_room() {
        let mut session = Session::new(SessionRecord {
            namespace: Namespace::default(),
            principal: "alice".into(),
            nonce: [1; 16],
            acknowledged: SequenceNumber(0),
        });
        for sequence in [2, 4, 3, 1] {
            session.remember(SequenceNumber(sequence), Bytes::from(vec![0; 10]));
        }
        session.record.acknowledged = SequenceNumber(3);
        let forgotten: Vec<u64> =
            std::iter::from_fn(|| session.forget_next()).map(|(sequence, _)| sequence.0).collect();
        assert_eq!(forgotten, [1, 2, 3]);
        assert_eq!(session.outcomes_bytes(), 10);
    }
}
