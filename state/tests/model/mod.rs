//! What the log means, said as plainly as can be.

use std::collections::BTreeMap;

use hither_protocol::message::{
    Compare, Delete, DeleteReply, GetReply, LeaseGrantReply, LeaseKind, LeaseRevokeReply, Projection, Put, PutReply,
    RangeReply, Relation, Reply, SessionCloseReply, SessionOpenReply, Txn, TxnOp, TxnReply, TxnResult,
};
use hither_protocol::{Entry, ErrorCode, Key, LeaseId, LeaseState, Namespace, Revision, SessionId, Version};
use hither_state::{Action, Command, KEY_OVERHEAD_BYTES, Position};

use crate::common::LIMITS;

#[derive(Clone, Debug)]
struct Lease {
    namespace: Namespace,
    state: LeaseState,
    epoch: u64,
    ttl_ms: u64,
    session: Option<SessionId>,
}

#[derive(Clone, Debug)]
struct Session {
    namespace: Namespace,
    principal: std::sync::Arc<str>,
    nonce: [u8; 16],
    acknowledged: u64,
    outcomes: BTreeMap<u64, Result<Reply, ErrorCode>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) revision: Revision,
    pub(crate) keys: BTreeMap<(Namespace, Key), Entry>,
    leases: BTreeMap<LeaseId, Lease>,
    sessions: BTreeMap<SessionId, Session>,
}

impl Model {
    pub(crate) fn apply(&mut self, position: Position, command: &Command) -> Result<Reply, ErrorCode> {
        let Some(token) = command.retry else { return self.attempt(position, command) };
        let session = self.sessions.get_mut(&token.session).ok_or(ErrorCode::SessionExpired)?;
        if session.principal != command.principal || session.namespace != command.namespace {
            return Err(ErrorCode::PermissionDenied);
        }
        session.acknowledged = session.acknowledged.max(token.acknowledged.0);
        let acknowledged = session.acknowledged;
        session.outcomes.retain(|sequence, _| *sequence > acknowledged);
        if token.sequence.0 <= acknowledged {
            return Err(ErrorCode::Conflict);
        }
        if let Some(outcome) = session.outcomes.get(&token.sequence.0) {
            return outcome.clone();
        }
        let outcome = self.attempt(position, command);
        if let Some(session) = self.sessions.get_mut(&token.session) {
            session.outcomes.insert(token.sequence.0, outcome.clone());
        }
        outcome
    }

    /// On a copy, which is thrown away if the command is refused.
    fn attempt(&mut self, position: Position, command: &Command) -> Result<Reply, ErrorCode> {
        let mut after = self.clone();
        let mut told = false;
        let next = self.revision.next();
        let mut reply = after.execute(position, command, next, &mut told)?;
        let moved = after.keys != self.keys || told;
        after.revision = if moved { next } else { self.revision };
        match &mut reply {
            Reply::Delete(reply) => reply.revision = after.revision,
            Reply::LeaseRevoke(reply) => reply.revision = after.revision,
            Reply::SessionClose(reply) => reply.revision = after.revision,
            Reply::Txn(reply) => reply.revision = after.revision,
            _ => {}
        }
        *self = after;
        Ok(reply)
    }

    fn execute(
        &mut self,
        position: Position,
        command: &Command,
        next: Revision,
        told: &mut bool,
    ) -> Result<Reply, ErrorCode> {
        let namespace = &command.namespace;
        let unknown = Revision::ZERO;
        Ok(match &command.action {
            Action::Put(put) => {
                self.fits(namespace, &[put])?;
                Reply::Put(self.put(namespace, put, next)?)
            }
            Action::Delete(delete) => Reply::Delete(self.delete(namespace, delete)),
            Action::Txn(txn) => Reply::Txn(self.txn(namespace, txn, next)?),
            Action::LeaseGrant { ttl_ms, kind } => {
                let session = match (kind, command.retry) {
                    (LeaseKind::Ttl, _) => None,
                    (LeaseKind::Bound, Some(token)) => Some(token.session),
                    (LeaseKind::Bound, None) => return Err(ErrorCode::InvalidArgument),
                };
                let lease = self.grant(LeaseId(position.unique()), namespace, *ttl_ms, session)?;
                Reply::LeaseGrant(LeaseGrantReply { lease, ttl_ms: *ttl_ms, epoch: 1 })
            }
            Action::LeaseRevoke { lease } => {
                let found = self.leases.get(lease).filter(|lease| lease.namespace == *namespace);
                match found.ok_or(ErrorCode::LeaseNotFound)?.session {
                    Some(session) if session.lease() == *lease => return Err(ErrorCode::InvalidArgument),
                    _ => Reply::LeaseRevoke(LeaseRevokeReply { revision: unknown, deleted: self.end(*lease) }),
                }
            }
            Action::SessionOpen { ttl_ms, nonce } => {
                let mine = |session: &Session| {
                    session.nonce == *nonce && session.principal == command.principal && session.namespace == *namespace
                };
                if let Some((&session, _)) = self.sessions.iter().find(|(_, session)| mine(session)) {
                    let lease = &self.leases[&session.lease()];
                    let (ttl_ms, epoch) = (lease.ttl_ms, lease.epoch);
                    return Ok(Reply::SessionOpen(SessionOpenReply { session, ttl_ms, epoch }));
                }
                let session = SessionId(position.unique());
                self.grant(session.lease(), namespace, *ttl_ms, Some(session))?;
                let kept = Session {
                    namespace: namespace.clone(),
                    principal: command.principal.clone(),
                    nonce: *nonce,
                    acknowledged: 0,
                    outcomes: BTreeMap::new(),
                };
                self.sessions.insert(session, kept);
                Reply::SessionOpen(SessionOpenReply { session, ttl_ms: *ttl_ms, epoch: 1 })
            }
            Action::SessionClose { session } => {
                let deleted = match self.sessions.get(session) {
                    None => 0,
                    Some(kept) if kept.principal != command.principal || kept.namespace != *namespace => {
                        return Err(ErrorCode::PermissionDenied);
                    }
                    Some(_) => self.end(session.lease()),
                };
                Reply::SessionClose(SessionCloseReply { revision: unknown, deleted })
            }
            Action::MarkSuspect { leases } => self.mark(leases, LeaseState::Alive, LeaseState::Suspect, told),
            Action::MarkAlive { leases } => self.mark(leases, LeaseState::Suspect, LeaseState::Alive, told),
            Action::Expire { leases } => {
                let mut deleted = 0;
                for (lease, epoch) in leases {
                    if self.leases.get(lease).is_some_and(|lease| lease.epoch == *epoch) {
                        deleted += self.end(*lease);
                    }
                }
                Reply::LeaseRevoke(LeaseRevokeReply { revision: unknown, deleted })
            }
            Action::SetFloor { .. } | Action::ClusterInit { .. } | Action::SetLimits { .. } => {
                Reply::LeaseRevoke(LeaseRevokeReply { revision: unknown, deleted: 0 })
            }
        })
    }

    /// Whether puts may be done: their leases are there, and they fit or do not grow.
    fn fits(&self, namespace: &Namespace, puts: &[&Put]) -> Result<(), ErrorCode> {
        let missing = |lease: LeaseId| self.leases.get(&lease).is_none_or(|lease| lease.namespace != *namespace);
        if puts.iter().filter_map(|put| put.lease).any(missing) {
            return Err(ErrorCode::LeaseNotFound);
        }
        let size = |key: &Key, value: &[u8]| (key.as_bytes().len() + value.len()) as u64 + KEY_OVERHEAD_BYTES;
        let all: u64 = self.keys.values().map(|entry| size(&entry.key, &entry.value)).sum();
        let added: u64 = puts.iter().map(|put| size(&put.key, &put.value)).sum();
        let replaced = puts.iter().filter_map(|put| self.keys.get(&(namespace.clone(), put.key.clone())));
        let replaced: u64 = replaced.map(|entry| size(&entry.key, &entry.value)).sum();
        if added > replaced && all + added - replaced > LIMITS.state_bytes_max {
            return Err(ErrorCode::QuotaExceeded);
        }
        Ok(())
    }

    fn put(&mut self, namespace: &Namespace, put: &Put, next: Revision) -> Result<PutReply, ErrorCode> {
        let place = (namespace.clone(), put.key.clone());
        let previous = self.keys.get(&place).cloned();
        let entry = Entry {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: previous.as_ref().map_or(next, |previous| previous.create_revision),
            mod_revision: next,
            version: Version(previous.as_ref().map_or(0, |previous| previous.version.0) + 1),
            lease: put.lease,
        };
        self.keys.insert(place, entry);
        Ok(PutReply { revision: next, previous: previous.filter(|_| put.previous) })
    }

    fn delete(&mut self, namespace: &Namespace, delete: &Delete) -> DeleteReply {
        let gone: Vec<Entry> = self.list(namespace, &delete.range).cloned().collect();
        for entry in &gone {
            self.keys.remove(&(namespace.clone(), entry.key.clone()));
        }
        let deleted = gone.len() as u64;
        DeleteReply { revision: Revision::ZERO, deleted, previous: if delete.previous { gone } else { Vec::new() } }
    }

    fn list<'a>(
        &'a self,
        namespace: &'a Namespace,
        range: &'a hither_protocol::KeyRange,
    ) -> impl DoubleEndedIterator<Item = &'a Entry> {
        let inside =
            move |((of, key), _): &(&(Namespace, Key), &Entry)| of == namespace && range.contains(key.as_bytes());
        self.keys.iter().filter(inside).map(|(_, entry)| entry)
    }

    fn txn(&mut self, namespace: &Namespace, txn: &Txn, next: Revision) -> Result<TxnReply, ErrorCode> {
        let succeeded = txn.when.iter().all(|compare| self.holds(namespace, compare));
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        let puts: Vec<&Put> =
            branch.iter().filter_map(|op| if let TxnOp::Put(put) = op { Some(put) } else { None }).collect();
        self.fits(namespace, &puts)?;
        let start = self.revision;
        let mut moved = false;
        let mut results = Vec::new();
        for op in branch {
            results.push(match op {
                TxnOp::Get(key) => {
                    TxnResult::Get(GetReply { entry: self.keys.get(&(namespace.clone(), key.clone())).cloned() })
                }
                TxnOp::Range { range, limit, reverse, projection } => {
                    let mut entries: Vec<Entry> = self.list(namespace, range).cloned().collect();
                    let count = entries.len() as u64;
                    if *reverse {
                        entries.reverse();
                    }
                    let mut more = false;
                    if *limit > 0 && count > *limit {
                        entries.truncate(*limit as usize);
                        more = true;
                    }
                    match projection {
                        Projection::Entries => {}
                        Projection::KeysOnly => entries.iter_mut().for_each(|entry| entry.value.clear()),
                        Projection::CountOnly => (entries, more) = (Vec::new(), false),
                    }
                    TxnResult::Range(RangeReply { entries, count, more })
                }
                TxnOp::Put(put) => {
                    moved = true;
                    TxnResult::Put(self.put(namespace, put, next)?)
                }
                TxnOp::Delete(delete) => {
                    let mut reply = self.delete(namespace, delete);
                    moved |= reply.deleted > 0;
                    // What an operation says is what holds when it is done.
                    reply.revision = if moved { next } else { start };
                    TxnResult::Delete(reply)
                }
            });
        }
        Ok(TxnReply { revision: Revision::ZERO, succeeded, results, results_forgotten: false })
    }

    fn holds(&self, namespace: &Namespace, compare: &Compare) -> bool {
        let entry = |key: &Key| self.keys.get(&(namespace.clone(), key.clone()));
        fn relate<T: Ord>(left: &T, relation: Relation, right: &T) -> bool {
            match relation {
                Relation::Equal => left == right,
                Relation::NotEqual => left != right,
                Relation::Less => left < right,
                Relation::Greater => left > right,
            }
        }
        let number = |key: &Key, of: fn(&Entry) -> u64| entry(key).map_or(0, of);
        match compare {
            Compare::Value(key, Relation::NotEqual, value) => entry(key).is_none_or(|entry| entry.value != *value),
            Compare::Value(key, relation, value) => {
                entry(key).is_some_and(|entry| relate(&entry.value, *relation, value))
            }
            Compare::Version(key, relation, version) => {
                relate(&number(key, |entry| entry.version.0), *relation, &version.0)
            }
            Compare::CreateRevision(key, relation, revision) => {
                relate(&number(key, |entry| entry.create_revision.0), *relation, &revision.0)
            }
            Compare::ModRevision(key, relation, revision) => {
                relate(&number(key, |entry| entry.mod_revision.0), *relation, &revision.0)
            }
            Compare::Exists(key) => entry(key).is_some(),
            Compare::Absent(key) => entry(key).is_none(),
            Compare::RangeEmpty(range) => self.list(namespace, range).next().is_none(),
            Compare::Lease(key, lease) => entry(key).is_some_and(|entry| entry.lease == *lease),
        }
    }

    fn grant(
        &mut self,
        id: LeaseId,
        namespace: &Namespace,
        ttl_ms: u64,
        session: Option<SessionId>,
    ) -> Result<LeaseId, ErrorCode> {
        if self.leases.len() as u64 >= LIMITS.leases_max {
            return Err(ErrorCode::QuotaExceeded);
        }
        let lease = Lease { namespace: namespace.clone(), state: LeaseState::Alive, epoch: 1, ttl_ms, session };
        self.leases.insert(id, lease);
        Ok(id)
    }

    /// Ends a lease; if it is a session's own, the session and all its leases.
    fn end(&mut self, id: LeaseId) -> u64 {
        let session = self.leases[&id].session.filter(|session| session.lease() == id);
        let doomed: Vec<LeaseId> = match session {
            Some(session) => {
                self.sessions.remove(&session);
                self.leases.iter().filter(|(_, lease)| lease.session == Some(session)).map(|(id, _)| *id).collect()
            }
            None => vec![id],
        };
        let before = self.keys.len();
        for id in doomed {
            self.leases.remove(&id);
            self.keys.retain(|_, entry| entry.lease != Some(id));
        }
        (before - self.keys.len()) as u64
    }

    fn mark(&mut self, leases: &[(LeaseId, u64)], from: LeaseState, to: LeaseState, told: &mut bool) -> Reply {
        for (id, epoch) in leases {
            if let Some(lease) = self.leases.get_mut(id)
                && lease.epoch == *epoch
                && lease.state == from
            {
                lease.state = to;
                lease.epoch += u64::from(to == LeaseState::Alive);
                *told |= self.keys.values().any(|entry| entry.lease == Some(*id));
            }
        }
        Reply::LeaseRevoke(LeaseRevokeReply { revision: Revision::ZERO, deleted: 0 })
    }

    pub(crate) fn lease_list(&self) -> Vec<(LeaseId, LeaseState, u64, Option<SessionId>)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.state, lease.epoch, lease.session)).collect()
    }

    pub(crate) fn session_list(&self) -> Vec<(SessionId, Vec<LeaseId>, usize)> {
        let leases = |id| {
            let of = self.leases.iter().filter(move |(_, lease)| lease.session == Some(id));
            of.map(|(id, _)| *id).collect()
        };
        self.sessions.iter().map(|(id, session)| (*id, leases(*id), session.outcomes.len())).collect()
    }

    pub(crate) fn keys_of(&self, id: LeaseId) -> Vec<Key> {
        self.keys.values().filter(|entry| entry.lease == Some(id)).map(|entry| entry.key.clone()).collect()
    }
}
