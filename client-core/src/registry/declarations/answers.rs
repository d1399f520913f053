//! What came of it.

use std::time::Duration;

use hither_protocol::message::{TxnReply, TxnResult};
use hither_protocol::{Applied, ErrorCode, LeaseId, Moment, Revision};

use super::member::{Phase, gone, missing, taken};
use super::{Declarations, Note, Tie};
use crate::error::Error;
use crate::instance::Instance;

/// Between two attempts to withdraw what nobody waits for.
const AGAIN: Duration = Duration::from_secs(1);

impl Declarations {
    pub(super) fn declared(
        &mut self,
        now: Moment,
        tie: Tie,
        lease: Option<LeaseId>,
        reply: &TxnReply,
        members: &[u64],
    ) {
        let mut results = reply.results.iter();
        for id in members {
            let result = results.next();
            let Some(member) = self.members.get_mut(id).filter(|member| member.phase == Phase::Busy) else { continue };
            if !reply.succeeded {
                self.look(now, *id, result);
                continue;
            }
            member.lease = lease;
            member.left_behind = false;
            if let Some(TxnResult::Put(put)) = result {
                member.instance.epoch = put.previous.as_ref().map_or(reply.revision, |entry| entry.create_revision);
                self.stand(now, *id, reply.revision);
            } else {
                // A retry whose results the server no longer knows: what hangs on its lease is looked at once more.
                member.instance.epoch = Revision::ZERO;
                member.rest(now, Phase::Lost);
            }
        }
        if let Some(group) = self.groups.get_mut(&tie) {
            group.backoff.reset();
        }
    }

    /// An instance is in the registry.
    fn stand(&mut self, now: Moment, id: u64, revision: Revision) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let lost = member.is_lost(&self.groups);
        member.rest(now, if lost { Phase::Lost } else { Phase::Declared });
        let waiting = std::mem::take(&mut member.waiting);
        self.notes.push_back(Note::Declared { member: id, instance: Box::new(member.instance.clone()), revision });
        if lost {
            self.notes.push_back(Note::Lost { member: id, error: None });
        }
        for op in waiting {
            self.done(op, Ok(true));
        }
    }

    /// What stands where an instance was to be declared again.
    fn look(&mut self, now: Moment, id: u64, result: Option<&TxnResult>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let entry = match result {
            Some(TxnResult::Get(get)) => get.entry.as_ref(),
            _ => None,
        };
        member.rest(now, Phase::Lost);
        match entry {
            None => member.left_behind = false,
            Some(entry) if member.owns(entry) => {
                member.instance.epoch = entry.create_revision;
                member.left_behind = true;
            }
            Some(_) => {
                let error = taken(&member.instance);
                self.give_up(id, None, Some(error));
            }
        }
    }

    pub(super) fn not_declared(
        &mut self,
        now: Moment,
        tie: Tie,
        lease: Option<LeaseId>,
        members: &[u64],
        error: &Error,
    ) {
        let busy = |id: &&u64| self.members.get(id).is_some_and(|member| member.phase == Phase::Busy);
        let members: Vec<u64> = members.iter().filter(busy).copied().collect();
        for id in &members {
            let Some(member) = self.members.get_mut(id) else { continue };
            // Whatever was declared before has the lease that it was declared with.
            let new = member.lease.is_none() && member.instance.epoch == Revision::ZERO;
            member.phase = if new { Phase::New } else { Phase::Lost };
            if new && lease.is_some() && error.applied() == Applied::Unknown {
                // It may be there all the same, and what others hang on the lease for would keep it.
                member.lease = lease;
                member.leave.get_or_insert_default();
            }
        }
        if error.code() == ErrorCode::LeaseNotFound
            && let (Tie::Kept(_), Some(lease)) = (tie, lease)
        {
            self.handle_lost(lease);
            for id in members {
                if let Some(member) = self.members.get_mut(&id) {
                    member.rest(now, member.phase);
                }
            }
            return;
        }
        self.failed(now, tie, &members, error);
    }

    /// An attempt to declare failed. Those who wait for the first one are told; the others are tried again.
    pub(super) fn failed(&mut self, now: Moment, tie: Tie, members: &[u64], error: &Error) {
        let over = matches!(tie, Tie::Given(_)) && error.code() == ErrorCode::LeaseNotFound;
        let mut told = false;
        for id in members {
            let Some(member) = self.members.get_mut(id) else { continue };
            if over || member.phase == Phase::New && member.lease.is_none() {
                self.give_up(*id, None, Some(error.clone()));
                continue;
            }
            let new = member.phase == Phase::New;
            member.rest(now, Phase::Lost);
            if new {
                for op in std::mem::take(&mut member.waiting) {
                    self.done(op, Err(error.clone()));
                }
            } else if !std::mem::replace(&mut told, true) {
                // That they are lost was told before; why they still are, one stands for all.
                self.notes.push_back(Note::Lost { member: *id, error: Some(error.clone()) });
            }
        }
        if let Some(group) = self.groups.get_mut(&tie) {
            group.retry_at = now + group.backoff.next(&mut self.random);
        }
    }

    pub(super) fn updated(
        &mut self,
        now: Moment,
        id: u64,
        op: u64,
        instance: Instance,
        outcome: Result<TxnReply, Error>,
    ) {
        let Some(member) = self.members.get_mut(&id) else {
            self.done(op, Err(gone()));
            return;
        };
        let instance = Instance { epoch: member.instance.epoch, ..instance };
        match outcome {
            Ok(reply) if reply.succeeded => {
                member.instance = instance;
                self.stand(now, id, reply.revision);
                self.done(op, Ok(true));
                return;
            }
            Ok(reply) => {
                let other = match reply.results.first() {
                    Some(TxnResult::Get(get)) => get.entry.as_ref().is_some_and(|entry| !member.owns(entry)),
                    _ => false,
                };
                let error = if other { taken(&member.instance) } else { missing(&member.instance) };
                if other {
                    self.give_up(id, None, Some(error.clone()));
                }
                self.done(op, Err(error));
            }
            Err(error) if error.code() == ErrorCode::LeaseNotFound && matches!(member.tie, Tie::Kept(_)) => {
                // It is declared again as it is to be.
                member.instance = instance;
                member.waiting.push(op);
                let lease = member.lease;
                lease.into_iter().for_each(|lease| self.handle_lost(lease));
            }
            Err(error) => self.done(op, Err(error)),
        }
        if let Some(member) = self.members.get_mut(&id) {
            let lost = member.is_lost(&self.groups);
            member.rest(now, if lost { Phase::Lost } else { Phase::Declared });
        }
    }

    pub(super) fn withdrawn(&mut self, now: Moment, id: u64, outcome: Result<TxnReply, Error>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let ops = member.leave.as_mut().map(|leave| std::mem::take(&mut leave.ops)).unwrap_or_default();
        let (told, revision, over) = match outcome {
            Ok(reply) => {
                let other = match reply.results.first() {
                    Some(TxnResult::Get(get)) => get.entry.is_some(),
                    _ => false,
                };
                let told = if other && !reply.succeeded { Err(taken(&member.instance)) } else { Ok(reply.succeeded) };
                (told, reply.succeeded.then_some(reply.revision), true)
            }
            // What it was tied to has ended, and with it this.
            Err(error) if error.code() == ErrorCode::Closed => (Err(error), None, true),
            Err(error) => (Err(error), None, false),
        };
        // How it stands is told before whoever asked goes on.
        if over {
            self.give_up(id, revision, told.clone().err());
        } else if let Some(member) = self.members.get_mut(&id) {
            // A lease that others share would keep it for ever.
            let mut backoff = self.backoff.clone();
            member.phase = Phase::Leaving(now + backoff.next(&mut self.random).max(AGAIN));
        }
        for op in ops {
            self.done(op, told.clone());
        }
    }
}
