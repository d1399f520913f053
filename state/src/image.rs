//! The durable form of the state: rows of four tables and one meta row.
//!
//! A [`Delta`] becomes the rows that it changes; a device's rows become a [`State`] again. What is read is checked to the
//! last: a row that does not decode, that contradicts another, or that is missing is an error. The rows of
//! [`Space::History`] belong to the watch hub, which writes and loads them itself.

mod hash;
mod load;
mod meta;
mod row;

use bytes::Bytes;
use hither_protocol::limits::SESSION_WINDOW;
use hither_protocol::{Key, Namespace, SessionId};

use crate::device::{RowChange, Space};
use crate::{Change, Delta, State};

pub use load::{Loaded, load};
pub use meta::Meta;

pub(crate) use hash::Hash;

/// Appends the rows of keys, leases and sessions that `delta` changes. What the [`Meta`] row holds is not among them.
pub fn rows(delta: &Delta, out: &mut Vec<RowChange>) {
    delta.changes.iter().for_each(|change| rows_of(change, out));
}

/// What the row of a change is the row of: of two changes with the same place the later one is all that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place<'a> {
    /// A key's.
    Key(&'a Namespace, &'a Key),
    /// Of the outcomes of a session, the row that this one shares with those a window before and after it.
    Outcome(SessionId, u64),
    /// What a session has acknowledged.
    Acknowledged(SessionId),
}

impl<'a> Place<'a> {
    /// That of a change; none if its rows are to be written in their turn.
    #[must_use]
    pub fn of(change: &'a Change) -> Option<Self> {
        match change {
            Change::Put { namespace, entry, .. } => Some(Self::Key(namespace, &entry.key)),
            Change::Delete { namespace, previous } => Some(Self::Key(namespace, &previous.key)),
            Change::Outcome { session, sequence, .. } => Some(Self::Outcome(*session, sequence.0 % SESSION_WINDOW)),
            Change::Acknowledged { session, .. } => Some(Self::Acknowledged(*session)),
            _ => None,
        }
    }

    /// The session whose row it is.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Key(..) => None,
            Self::Outcome(session, _) | Self::Acknowledged(session) => Some(*session),
        }
    }
}

/// Appends the rows of one change.
pub fn rows_of(change: &Change, out: &mut Vec<RowChange>) {
    match change {
        Change::Put { namespace, entry, .. } => {
            out.push(RowChange::Put(Space::Kv, row::entry_key(namespace, &entry.key), row::entry_value(entry)));
        }
        Change::Delete { namespace, previous } => {
            out.push(RowChange::Delete(Space::Kv, row::entry_key(namespace, &previous.key)));
        }
        Change::Lease { lease, record: Some(record) } => {
            out.push(RowChange::Put(Space::Lease, row::lease_key(*lease), row::lease_value(record)));
        }
        Change::Lease { lease, record: None } => {
            out.push(RowChange::Delete(Space::Lease, row::lease_key(*lease)));
        }
        Change::Session { session, record: Some(record) } => {
            out.push(RowChange::Put(Space::Session, row::session_key(*session), row::session_value(record)));
        }
        Change::Session { session, record: None } => {
            let (first, end) = row::session_span(*session);
            out.push(RowChange::DeleteRange(Space::Session, first, end));
        }
        Change::Outcome { session, sequence, outcome } => {
            let (key, value) = (row::outcome_key(*session, *sequence), row::outcome_value(*sequence, outcome));
            out.push(RowChange::Put(Space::Session, key, value));
        }
        Change::Acknowledged { session, up_to } => {
            // The outcomes that it forgets keep their rows until others take their places; loading passes them over.
            let (key, value) = (row::acknowledged_key(*session), row::acknowledged_value(*up_to));
            out.push(RowChange::Put(Space::Session, key, value));
        }
        Change::Liveness { .. } | Change::Floor { .. } | Change::Lineage { .. } | Change::Limits { .. } => {}
    }
}

/// Every row of keys, leases and sessions, in order of space and key: what a device that holds nothing else would hold.
pub fn all_rows(state: &State) -> impl Iterator<Item = (Space, Bytes, Bytes)> {
    let entries = state
        .store
        .iter()
        .map(|(namespace, entry)| (Space::Kv, row::entry_key(namespace, &entry.key), row::entry_value(entry)));
    let leases =
        state.leases.after(None).map(|(id, lease)| (Space::Lease, row::lease_key(id), row::lease_value(&lease.record)));
    let sessions = state.sessions.iter().flat_map(|(id, session)| {
        let record = std::iter::once((row::session_key(id), row::session_value(&session.record)));
        let acknowledged = session.record.acknowledged;
        let acknowledged =
            (acknowledged.0 > 0).then(|| (row::acknowledged_key(id), row::acknowledged_value(acknowledged)));
        let outcome =
            |(sequence, outcome): &_| (row::outcome_key(id, *sequence), row::outcome_value(*sequence, outcome));
        let mut outcomes: Vec<_> = session.outcomes().map(outcome).collect();
        outcomes.sort_unstable();
        record.chain(acknowledged).chain(outcomes).map(|(key, value)| (Space::Session, key, value))
    });
    entries.chain(leases).chain(sessions)
}
