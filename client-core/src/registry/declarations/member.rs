//! One registration, and those that share its lease.

use std::collections::{BTreeMap, VecDeque};

use hither_protocol::message::{Compare, Relation};
use hither_protocol::{Entry, ErrorCode, LeaseId, Moment, Revision};

use super::Tie;
use crate::backoff::Backoff;
use crate::error::Error;
use crate::instance::Instance;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance: Instance,
    pub(super) tie: Tie,
    /// The lease that it was declared with last.
    pub(super) lease: Option<LeaseId>,
    pub(super) phase: Phase,
    /// What to tell once it is declared, or cannot be.
    pub(super) waiting: Vec<u64>,
    pub(super) updates: VecDeque<(u64, Instance)>,
    pub(super) leave: Option<Leave>,
    /// Its own record is still there from before the loss.
    pub(super) left_behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be declared for the first time.
    New,
    /// To be declared again.
    Lost,
    Declared,
    /// A transaction about it is on its way.
    Busy,
    /// To be withdrawn, not before this moment.
    Leaving(Moment),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Leave {
    pub(super) ops: Vec<u64>,
    /// The record to leave behind.
    pub(super) stopped_at: Option<String>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) lease: Option<LeaseId>,
    pub(super) granting: bool,
    pub(super) declaring: bool,
    pub(super) backoff: Backoff,
    pub(super) retry_at: Moment,
}

impl Member {
    /// Nothing about it is on its way any more.
    pub(super) fn rest(&mut self, now: Moment, phase: Phase) {
        self.phase = if self.leave.is_some() { Phase::Leaving(now) } else { phase };
    }

    /// Whether the lease that it was declared with was lost.
    pub(super) fn is_lost(&self, groups: &BTreeMap<Tie, Group>) -> bool {
        matches!(self.tie, Tie::Kept(_)) && groups.get(&self.tie).is_none_or(|group| group.lease != self.lease)
    }

    pub(super) fn is_due(&self, tie: Tie) -> bool {
        self.tie == tie && matches!(self.phase, Phase::New | Phase::Lost)
    }

    /// What must hold so that a write to it is a write to this registration's record.
    pub(super) fn conditions(&self, there: bool) -> Vec<Compare> {
        let key = self.instance.key();
        if !there {
            return vec![Compare::Absent(key)];
        }
        let lease = Compare::Lease(key.clone(), self.lease);
        if self.instance.epoch == Revision::ZERO {
            // It may have been declared, and nobody knows when: what hangs on its lease is its own.
            return vec![lease];
        }
        vec![Compare::CreateRevision(key, Relation::Equal, self.instance.epoch), lease]
    }

    pub(super) fn owns(&self, entry: &Entry) -> bool {
        let epoch = self.instance.epoch;
        entry.lease == self.lease && (epoch == Revision::ZERO || epoch == entry.create_revision)
    }
}

pub(super) fn taken(instance: &Instance) -> Error {
    let detail =
        format!("{} is another registration's by now; this one's was of epoch {}", instance.key(), instance.epoch);
    Error::new(ErrorCode::Conflict, detail)
}

pub(super) fn missing(instance: &Instance) -> Error {
    let detail = format!("{} is not there any more: somebody has deregistered it", instance.key());
    Error::new(ErrorCode::NotFound, detail)
}

pub(super) fn gone() -> Error {
    Error::new(ErrorCode::NotFound, "this registration was given up before")
}
