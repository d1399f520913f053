//! What the lessor keeps of leases and sessions, in step with what is applied.

use std::collections::BTreeSet;

use hither_protocol::{LeaseId, LeaseState, Moment, SessionId};

use super::Lessor;
use super::proposals::{Flight, Verdict};
use super::roster::Numbered;
use crate::LeaseRecord;

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    pub(super) epoch: u64,
    pub(super) ttl_ms: u64,
    pub(super) heard: Moment,
    /// What it is bound to; none if it lives by renewals.
    pub(super) session: Option<u32>,
    pub(super) state: LeaseState,
    pub(super) flight: Option<Flight>,
}

impl Lease {
    pub(super) fn is_expiring(&self) -> bool {
        self.flight.is_some_and(|flight| flight.verdict == Verdict::Expired)
    }
}

impl Numbered for Lease {
    fn number(&self) -> u64 {
        self.id.0
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) heard: Moment,
    pub(super) hearing: Hearing,
    /// Its own lease.
    pub(super) own: Option<u32>,
    /// The leases that end with it, its own aside.
    pub(super) bound: BTreeSet<u32>,
    /// Whether the expiry of its own lease was proposed. Known here too, so that a keep-alive needs no look at the lease.
    pub(super) is_expiring: bool,
    /// How many keys hang on its own lease.
    pub(super) own_keys: u64,
}

impl Session {
    /// Its own lease and those bound to it.
    pub(super) fn leases(&self) -> Vec<u32> {
        self.own.iter().chain(&self.bound).copied().collect()
    }

    /// Whether anyone could see that it is suspect. Most sessions hold nothing and are there for retries only.
    pub(super) fn is_visible(&self) -> bool {
        !self.bound.is_empty() || self.own_keys > 0
    }
}

impl Numbered for Session {
    fn number(&self) -> u64 {
        self.id.0
    }
}

/// What is known of a session's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// This leadership has not heard of it yet, and cannot call that silence yet.
    Unknown,
    Heard,
    Silent,
}

impl Lessor {
    pub(super) fn insert_lease(&mut self, id: LeaseId, record: &LeaseRecord, hearing: Hearing, now: Moment) {
        if self.leases.is_empty() {
            // Nobody had to poll until now.
            self.polled = self.polled.max(now);
        }
        let session = record.session.map(|session| self.session(session, hearing, now));
        let &LeaseRecord { epoch, ttl_ms, state, .. } = record;
        let slot = self.leases.insert(Lease { id, epoch, ttl_ms, heard: now, session, state, flight: None });
        if let Some(session) = session {
            let session = &mut self.sessions[session];
            if session.id.lease() == id {
                session.own = Some(slot);
            } else {
                session.bound.insert(slot);
                if let Some(own) = session.own {
                    // Its session may be visible only now.
                    self.settle(own, now);
                }
            }
        }
        self.settle(slot, now);
    }

    pub(super) fn update_lease(&mut self, slot: u32, record: &LeaseRecord, now: Moment) {
        let lease = &mut self.leases[slot];
        let is_new_epoch = record.epoch != lease.epoch;
        lease.epoch = record.epoch;
        lease.state = record.state;
        // A proposal is over once the lease is not any more as it must be for that to take effect. An expiry is not: a
        // lease that is marked suspect by what stood in the log before still ends.
        let is_over = |flight: Flight| match flight.verdict {
            _ if is_new_epoch => true,
            Verdict::Suspect => record.state != LeaseState::Alive,
            Verdict::Alive => record.state != LeaseState::Suspect,
            Verdict::Expired => false,
        };
        if lease.flight.is_some_and(is_over) {
            self.land(slot);
        }
        self.settle(slot, now);
    }

    pub(super) fn remove_lease(&mut self, slot: u32) {
        self.land(slot);
        self.deadlines.disarm(slot);
        self.proposals.remove(slot);
        let lease = self.leases.remove(slot);
        if let Some(session) = lease.session.map(|session| &mut self.sessions[session]) {
            session.bound.remove(&slot);
            session.own = session.own.filter(|&own| own != slot);
        }
    }

    /// The slot of a session, which is taken in if it is new: its own lease is granted before it is told of.
    pub(super) fn session(&mut self, id: SessionId, hearing: Hearing, now: Moment) -> u32 {
        if let Some(slot) = self.sessions.find(id.0) {
            return slot;
        }
        let session =
            Session { id, heard: now, hearing, own: None, bound: BTreeSet::new(), is_expiring: false, own_keys: 0 };
        let slot = self.sessions.insert(session);
        self.silences.arm(slot, now + self.config.silence);
        slot
    }

    pub(super) fn remove_session(&mut self, id: SessionId) {
        let Some(slot) = self.sessions.find(id.0) else { return };
        // They ended with it and are gone already.
        for lease in self.sessions[slot].leases() {
            self.remove_lease(lease);
        }
        self.silences.disarm(slot);
        self.sessions.remove(slot);
    }

    /// A key hangs on this lease from now on.
    pub(super) fn attach(&mut self, lease: Option<LeaseId>, now: Moment) {
        let Some(slot) = self.owner(lease) else { return };
        let session = &mut self.sessions[slot];
        session.own_keys += 1;
        if session.own_keys == 1
            && let Some(own) = session.own
        {
            self.settle(own, now);
        }
    }

    /// A key no longer hangs on this lease.
    pub(super) fn detach(&mut self, lease: Option<LeaseId>) {
        if let Some(slot) = self.owner(lease) {
            let keys = &mut self.sessions[slot].own_keys;
            *keys = keys.saturating_sub(1);
        }
    }

    /// The session whose own lease this is.
    pub(super) fn owner(&self, lease: Option<LeaseId>) -> Option<u32> {
        self.sessions.find(lease?.0)
    }
}
