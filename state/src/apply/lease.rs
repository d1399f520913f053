//! Granting and ending leases, and what the leader says of their holders.

use hither_protocol::message::{LeaseGrantReply, LeaseKind, LeaseRevokeReply, Reply};
use hither_protocol::{ErrorCode, LeaseId, LeaseState, Namespace, Refusal, SessionId};

use super::{Step, refuse};
use crate::keyset::KeySet;
use crate::lease::Lease;
use crate::{Change, LeaseRecord};

impl Step<'_> {
    pub(super) fn grant(&mut self, ttl_ms: u64, kind: LeaseKind) -> Result<LeaseGrantReply, Refusal> {
        let session = match kind {
            LeaseKind::Ttl => None,
            LeaseKind::Bound => match self.command.retry {
                Some(token) => Some(token.session),
                None => return refuse(ErrorCode::InvalidArgument, "a bound lease needs a session"),
            },
        };
        self.check_room_for_lease()?;
        let id = LeaseId(self.position.unique());
        self.insert_lease(id, ttl_ms, kind, session);
        if let Some(session) = session.and_then(|session| self.state.sessions.get_mut(session)) {
            session.bound.insert(id);
        }
        Ok(LeaseGrantReply { lease: id, ttl_ms, epoch: 1 })
    }

    pub(super) fn check_room_for_lease(&self) -> Result<(), Refusal> {
        let limit = self.state.limits.leases_max;
        if (self.state.leases.len() as u64) < limit {
            return Ok(());
        }
        refuse(ErrorCode::QuotaExceeded, format!("there are {limit} leases, the most that there may be: revoke some"))
    }

    /// Keeps a new lease, alive and of the first epoch.
    pub(super) fn insert_lease(&mut self, id: LeaseId, ttl_ms: u64, kind: LeaseKind, session: Option<SessionId>) {
        let record = LeaseRecord {
            namespace: self.namespace.clone(),
            owner: self.command.principal.clone(),
            ttl_ms,
            kind,
            state: LeaseState::Alive,
            epoch: 1,
            session,
            granted_at: self.command.at,
        };
        self.state.hash.add_lease(id, &record);
        self.changes.push(Change::Lease { lease: id, record: Some(record.clone()) });
        self.state.leases.insert(id, Lease { record, keys: KeySet::default() });
    }

    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<LeaseRevokeReply, Refusal> {
        match self.state.leases.get(id) {
            Some(lease) if lease.record.namespace != *self.namespace => return lease_not_found(id),
            None => return lease_not_found(id),
            Some(lease) if lease.record.session.is_some_and(|session| session.lease() == id) => {
                return refuse(
                    ErrorCode::InvalidArgument,
                    format!("lease {id} is what session {id} lives by: close the session instead"),
                );
            }
            Some(_) => {}
        }
        let deleted = self.end_lease(id);
        Ok(LeaseRevokeReply { revision: self.reached(), deleted })
    }

    /// Ends a lease and deletes its keys; returns how many. What is not there has ended already.
    pub(super) fn end_lease(&mut self, id: LeaseId) -> u64 {
        let Some(lease) = self.state.leases.remove(id) else { return 0 };
        let Lease { record, keys } = lease;
        self.state.hash.remove_lease(id, &record);
        for key in keys.iter() {
            self.remove(&record.namespace, key);
        }
        if let Some(session) = record.session.and_then(|session| self.state.sessions.get_mut(session)) {
            session.bound.remove(&id);
        }
        self.changes.push(Change::Lease { lease: id, record: None });
        keys.len() as u64
    }

    pub(super) fn mark_suspect(&mut self, leases: &[(LeaseId, u64)]) -> Reply {
        for &(id, epoch) in leases {
            self.mark(id, epoch, LeaseState::Alive, |record| record.state = LeaseState::Suspect);
        }
        self.done(0)
    }

    pub(super) fn mark_alive(&mut self, leases: &[(LeaseId, u64)]) -> Reply {
        for &(id, epoch) in leases {
            self.mark(id, epoch, LeaseState::Suspect, |record| {
                record.state = LeaseState::Alive;
                record.epoch += 1;
            });
        }
        self.done(0)
    }

    /// Changes the standing of a lease that is still as the leader saw it.
    fn mark(&mut self, id: LeaseId, epoch: u64, seen: LeaseState, change: impl FnOnce(&mut LeaseRecord)) {
        let Some(Lease { record, keys }) = self.state.leases.get_mut(id) else { return };
        if record.epoch != epoch || record.state != seen {
            return;
        }
        self.state.hash.remove_lease(id, record);
        change(record);
        self.state.hash.add_lease(id, record);
        self.changes.push(Change::Lease { lease: id, record: Some(record.clone()) });
        if keys.len() == 0 {
            // No watcher can see it, so it takes no revision.
            return;
        }
        let (namespace, state): (Namespace, _) = (record.namespace.clone(), record.state);
        self.changes.push(Change::Liveness { lease: id, state, namespace, keys: keys.iter().cloned().collect() });
        self.moved = true;
    }

    /// Ends leases whose time is over, if they are still as the leader saw them, all in one revision.
    pub(super) fn expire(&mut self, leases: &[(LeaseId, u64)]) -> Reply {
        let mut deleted = 0;
        for &(id, epoch) in leases {
            let Some(Lease { record, .. }) = self.state.leases.get(id).filter(|lease| lease.record.epoch == epoch)
            else {
                continue;
            };
            deleted += match record.session {
                Some(session) if session.lease() == id => self.end_session(session),
                _ => self.end_lease(id),
            };
        }
        self.done(deleted)
    }
}

fn lease_not_found<T>(id: LeaseId) -> Result<T, Refusal> {
    refuse(ErrorCode::LeaseNotFound, format!("lease {id} does not exist in this namespace, or no longer does"))
}
