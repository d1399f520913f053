//! What is to be done next.

use bytes::Bytes;
use hither_protocol::message::{Delete, Put, Txn, TxnOp};
use hither_protocol::{KeyRange, LeaseId, Moment};

use super::member::{Group, Member, Phase};
use super::{Declarations, Need, Running, Tie};
use crate::registry::tombstone::{Lease, tombstone};

/// Instances declared in one transaction: each takes one operation and at most two conditions.
const BATCH_MAX: usize = 128;
/// The same in bytes of records: half a frame, for what is around them.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

impl Declarations {
    pub(super) fn poll_declare(&mut self, now: Moment) -> Option<Need> {
        let ready = |tie: &Tie, group: &Group| {
            let idle = !group.granting && !group.declaring && group.retry_at <= now;
            idle && self.members.values().any(|member| member.is_due(*tie) && !self.is_withdrawing(member))
        };
        let tie = *self.groups.iter().find(|(tie, group)| ready(tie, group))?.0;
        let group = self.groups.get_mut(&tie)?;
        if let (Tie::Kept(ttl), None) = (tie, group.lease) {
            group.granting = true;
            return Some(Need::Grant { ttl });
        }
        let lease = group.lease;
        group.declaring = true;
        // Again and for the first time are bound to different conditions, so they do not mix. What was lost goes first.
        let mut members = self.to_declare(tie);
        let again = members.iter().any(|id| self.members[id].phase == Phase::Lost);
        let wanted = if again { Phase::Lost } else { Phase::New };
        members.retain(|id| self.members[id].phase == wanted && !self.is_withdrawing(&self.members[id]));
        members.truncate(BATCH_MAX);
        let mut txn = Txn::default();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for id in members {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let value = Bytes::from(member.instance.to_json());
            bytes += value.len();
            if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                break;
            }
            batch.push(id);
            member.phase = Phase::Busy;
            let key = member.instance.key();
            if again {
                txn.when.extend(member.conditions(member.left_behind));
                txn.otherwise.push(TxnOp::Get(key.clone()));
            }
            txn.then.push(TxnOp::Put(Put { key, value, lease, previous: true }));
        }
        Some(self.run(Running::Declare { tie, lease, members: batch }, txn))
    }

    pub(super) fn poll_update(&mut self) -> Option<Need> {
        let due = |member: &Member| member.phase == Phase::Declared && !member.updates.is_empty();
        let (id, member) = self.members.iter_mut().find(|(_, member)| due(member))?;
        let (op, instance) = member.updates.pop_front()?;
        member.phase = Phase::Busy;
        let key = member.instance.key();
        let value = instance.to_json().into();
        let put = Put { key: key.clone(), value, lease: member.lease, previous: false };
        let when = member.conditions(true);
        let txn = Txn { when, then: vec![TxnOp::Put(put)], otherwise: vec![TxnOp::Get(key)] };
        let running = Running::Update { member: *id, op, instance: Box::new(instance) };
        Some(self.run(running, txn))
    }

    pub(super) fn poll_withdraw(&mut self, now: Moment) -> Option<Need> {
        let due = |member: &Member| matches!(member.phase, Phase::Leaving(at) if at <= now);
        let speaks = |member: &Member| member.leave.as_ref().is_some_and(|leave| leave.stopped_at.is_some());
        let first = |speaking: bool| {
            self.members.iter().find(|(_, member)| due(member) && speaks(member) == speaking).map(|(id, _)| *id)
        };
        let (quiet, speaking) = (first(false), first(true));
        let (id, lease) = match (quiet, speaking) {
            (Some(id), _) => (id, None),
            (None, Some(id)) => match self.tombstones.lease(now) {
                Lease::There(lease) => (id, Some(lease)),
                Lease::Ask(ttl) => return Some(Need::GrantTombstones { ttl }),
                Lease::Asked => return None,
                // Going is more important than what is left behind.
                Lease::None => (id, None),
            },
            (None, None) => return None,
        };
        let member = self.members.get_mut(&id)?;
        let key = member.instance.key();
        let mut then = vec![TxnOp::Delete(Delete { range: KeyRange::One(key.clone()), previous: false })];
        if let (Some(lease), Some(at)) = (lease, member.leave.as_ref().and_then(|leave| leave.stopped_at.as_ref())) {
            then.push(TxnOp::Put(tombstone(&member.instance, at, lease)));
        }
        member.phase = Phase::Busy;
        let when = member.conditions(true);
        let txn = Txn { when, then, otherwise: vec![TxnOp::Get(key.clone())] };
        self.withdrawing.insert(key.clone());
        Some(self.run(Running::Withdraw { member: id, key }, txn))
    }

    pub(super) fn poll_release(&mut self) -> Option<Need> {
        let unused = |tie: &Tie| !self.members.values().any(|member| member.tie == *tie);
        let ties: Vec<Tie> = self.groups.keys().filter(|tie| unused(tie)).copied().collect();
        for tie in ties {
            let group = self.groups.remove(&tie);
            if let (Tie::Kept(_), Some(lease)) = (tie, group.and_then(|group| group.lease)) {
                self.releases.push_back(lease);
            }
        }
        // The old lease goes when everything has moved to the new one: finders see no gap.
        let used = |lease: &LeaseId| self.members.values().any(|member| member.lease == Some(*lease));
        if let Some(lease) = self.lost.iter().find(|lease| !used(lease)).copied() {
            self.lost.remove(&lease);
            self.releases.push_back(lease);
        }
        self.releases.pop_front().map(|lease| Need::Release { lease })
    }

    fn run(&mut self, running: Running, txn: Txn) -> Need {
        self.next_txn += 1;
        self.running.insert(self.next_txn, running);
        Need::Run { id: self.next_txn, txn }
    }

    fn is_withdrawing(&self, member: &Member) -> bool {
        !self.withdrawing.is_empty() && self.withdrawing.contains(&member.instance.key())
    }

    pub(super) fn to_declare(&self, tie: Tie) -> Vec<u64> {
        self.members.iter().filter(|(_, member)| member.is_due(tie)).map(|(id, _)| *id).collect()
    }
}
