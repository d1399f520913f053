//! The leader's deadlines: which leases live on, which are suspect, whose time is over.
//!
//! The log holds what leases there are and how they stand; when each ends is known to the leader alone, in memory. Here
//! nothing is decided for good: the lessor names the leases whose standing should change, the leader proposes that, and
//! what is applied comes back as a [`Delta`].
//!
//! How it is driven: the applier calls [`handle_delta`](Lessor::handle_delta) for every command, in order and before the
//! next one; [`take_up`](Lessor::take_up) and [`resign`](Lessor::resign) follow the leadership; sessions bring what they
//! hear to [`handle_renew`](Lessor::handle_renew) and [`handle_vouch`](Lessor::handle_vouch); one task polls, at the
//! latest at [`poll_timeout`](Lessor::poll_timeout), and proposes what it gets in the name of the leadership in which it
//! polled. Whether a majority still follows is for that task and those sessions to know: without one nothing is proposed
//! and no renewal is acknowledged.
//!
//! A deadline is never stored. It is when a lease, or the session that it is bound to, was last heard of, plus the TTL, so
//! that a keep-alive is one store, however many leases hang on the session. The timers find out when they ring.
//!
//! Never early: a lease is named expired no sooner than a full TTL after its grant, its last acknowledged renewal, the
//! last time that its session was vouched for, the beginning of this leadership and the end of the last stall, whichever
//! came last. Never twice: while a proposal waits for the log, its leases are in no other.

mod holdings;
mod proposals;
mod roster;
mod wheel;

use std::time::Duration;

use hither_protocol::message::LeaseRenewReply;
use hither_protocol::{ErrorCode, LeaseId, LeaseState, Moment, Refusal, SessionId};

use self::holdings::{Hearing, Lease, Session};
use self::proposals::{Flight, Proposals, Verdict};
use self::roster::Roster;
use self::wheel::Wheel;
use crate::{Change, Delta, State};

pub use self::proposals::PROPOSALS_IN_FLIGHT_MAX;

/// Most leases of one proposal: an entry of the log that ends more would hold up all behind it.
pub const LEASES_PER_PROPOSAL_MAX: usize = 1_024;

/// How the lessor judges time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LessorConfig {
    /// A session that nobody vouched for in this time is silent. Default 1 s: three keep-alives of its client.
    pub silence: Duration,
    /// If this much time passes between two polls, the process was stopped, and what clients sent meanwhile was not heard:
    /// every lease gets a fresh TTL. Default 1 s, the shortest TTL.
    pub stall: Duration,
}

impl Default for LessorConfig {
    fn default() -> Self {
        Self { silence: Duration::from_secs(1), stall: Duration::from_secs(1) }
    }
}

/// The deadlines of one leadership.
#[derive(Debug)]
pub struct Lessor {
    config: LessorConfig,
    leading: bool,
    leases: Roster<Lease>,
    sessions: Roster<Session>,
    /// When to look whether a lease's time is over. A lease is armed, or due as expired, or in flight.
    deadlines: Wheel,
    /// When to look whether a session is silent. All are armed but those that are.
    silences: Wheel,
    proposals: Proposals,
    polled: Moment,
    stalls: u64,
}

impl Lessor {
    /// The lessor of a node that does not lead yet.
    #[must_use]
    pub fn new(config: LessorConfig) -> Self {
        let start = Moment(0);
        Self {
            config,
            leading: false,
            leases: Roster::default(),
            sessions: Roster::default(),
            deadlines: Wheel::new(start),
            silences: Wheel::new(start),
            proposals: Proposals::default(),
            polled: start,
            stalls: 0,
        }
    }

    /// This node leads from now on. When holders were last heard of, only the leader before knows: every lease gets a
    /// fresh TTL, and suspect ones stay so until their client is heard here. What an earlier leadership of this node had
    /// proposed is no longer waited for.
    ///
    /// `state` must be what the next delta follows upon, and must hold all that earlier leaders proposed: an expiry of
    /// theirs that is applied later would end leases whose renewals were acknowledged here.
    pub fn take_up(&mut self, state: &State, now: Moment) {
        *self = Self {
            leading: true,
            leases: Roster::with_capacity(state.leases_len()),
            sessions: Roster::with_capacity(state.sessions_len()),
            deadlines: Wheel::new(now),
            silences: Wheel::new(now),
            polled: now,
            stalls: self.stalls,
            ..Self::new(self.config)
        };
        for lease in state.leases(None) {
            self.insert_lease(lease.id, lease.record, Hearing::Unknown, now);
            if let Some(session) = self.owner(Some(lease.id)) {
                self.sessions[session].own_keys = lease.keys_len() as u64;
            }
        }
    }

    /// This node leads no longer: all deadlines are forgotten.
    pub fn resign(&mut self) {
        *self = Self { stalls: self.stalls, ..Self::new(self.config) };
    }

    /// Whether this node leads, as far as it was told.
    #[must_use]
    pub const fn is_leading(&self) -> bool {
        self.leading
    }

    /// How often this process was stopped for longer than [`LessorConfig::stall`] while it led.
    #[must_use]
    pub const fn stalls(&self) -> u64 {
        self.stalls
    }

    /// A command was applied. Ends the wait for proposals that took effect, or no longer can.
    pub fn handle_delta(&mut self, delta: &Delta, now: Moment) {
        if !self.leading {
            return;
        }
        for change in &delta.changes {
            match change {
                Change::Lease { lease, record: Some(record) } => match self.leases.find(lease.0) {
                    Some(slot) => self.update_lease(slot, record, now),
                    None => self.insert_lease(*lease, record, Hearing::Heard, now),
                },
                Change::Lease { lease, record: None } => {
                    if let Some(slot) = self.leases.find(lease.0) {
                        self.remove_lease(slot);
                    }
                }
                Change::Session { session, record: Some(_) } => {
                    self.session(*session, Hearing::Heard, now);
                }
                Change::Session { session, record: None } => self.remove_session(*session),
                Change::Put { entry, previous, .. } => {
                    let before = previous.as_ref().and_then(|previous| previous.lease);
                    if before != entry.lease {
                        self.detach(before);
                        self.attach(entry.lease, now);
                    }
                }
                Change::Delete { previous, .. } => self.detach(previous.lease),
                // They say nothing about who lives.
                Change::Liveness { .. }
                | Change::Outcome { .. }
                | Change::Acknowledged { .. }
                | Change::Floor { .. }
                | Change::Lineage { .. }
                | Change::Limits { .. } => {}
            }
        }
    }

    /// Someone keeps a `ttl` lease alive. That it is theirs to keep is for the caller to know. To be acknowledged only if
    /// a majority still followed this leader at `now`.
    ///
    /// # Errors
    /// `LeaseNotFound` if there is none or its expiry was proposed, even if that comes to nothing: an acknowledged renewal
    /// is never followed by the expiry of before. `InvalidArgument` if it is bound to a session. `NotLeader`.
    pub fn handle_renew(&mut self, lease: LeaseId, now: Moment) -> Result<LeaseRenewReply, Refusal> {
        if !self.leading {
            return Err(Refusal::new(ErrorCode::NotLeader, "only the leader renews leases"));
        }
        let kept = self.leases.find(lease.0).map(|slot| &mut self.leases[slot]);
        match kept {
            Some(kept) if kept.session.is_some() => Err(Refusal::new(
                ErrorCode::InvalidArgument,
                format!("lease {lease} is bound to a session and lives as long as that: it needs no renewal"),
            )),
            Some(kept) if !kept.is_expiring() => {
                kept.heard = kept.heard.max(now);
                Ok(LeaseRenewReply { ttl_ms: kept.ttl_ms, epoch: kept.epoch })
            }
            _ => Err(Refusal::new(
                ErrorCode::LeaseNotFound,
                format!("lease {lease} does not exist, or no longer does, or its expiry is under way"),
            )),
        }
    }

    /// The client of this session was heard of at `now`: the session and all leases that are bound to it live a full TTL
    /// from then. False if the session is not known or its expiry was proposed: it is over for its client, if this node
    /// [leads](Self::is_leading).
    #[must_use]
    pub fn handle_vouch(&mut self, session: SessionId, now: Moment) -> bool {
        let Some(slot) = self.sessions.find(session.0) else { return false };
        let heard = &mut self.sessions[slot];
        if heard.own.is_none() || heard.is_expiring {
            return false;
        }
        heard.heard = heard.heard.max(now);
        if heard.hearing == Hearing::Heard {
            return true;
        }
        heard.hearing = Hearing::Heard;
        if !self.silences.is_armed(slot) {
            self.silences.arm(slot, now + self.config.silence);
        }
        self.settle_all(slot, now);
        true
    }

    /// A proposal that was polled will never take effect: its leases become due again, if they still need it. Not to be
    /// called if it may yet take effect, except by way of [`resign`](Self::resign): renewals would be acknowledged in vain.
    pub fn handle_refused(&mut self, leases: &[(LeaseId, u64)]) {
        for &(id, epoch) in leases {
            let Some(slot) = self.leases.find(id.0).filter(|&slot| self.leases[slot].epoch == epoch) else { continue };
            if self.land(slot) {
                self.settle(slot, self.polled);
            }
        }
    }

    /// Leases to mark suspect, with their epochs: alive ones of sessions that are silent and hold something. At most
    /// [`LEASES_PER_PROPOSAL_MAX`], none while [`PROPOSALS_IN_FLIGHT_MAX`] proposals of suspects wait for the log.
    pub fn poll_suspect(&mut self, now: Moment) -> Vec<(LeaseId, u64)> {
        self.poll(Verdict::Suspect, now)
    }

    /// Leases to mark alive, with their epochs: suspect ones of sessions that were heard again. Bounded like
    /// [`poll_suspect`](Self::poll_suspect).
    pub fn poll_alive(&mut self, now: Moment) -> Vec<(LeaseId, u64)> {
        self.poll(Verdict::Alive, now)
    }

    /// Leases to expire, with their epochs: those of which nothing was heard for a full TTL. From here on, they can not be
    /// renewed. Bounded like [`poll_suspect`](Self::poll_suspect).
    pub fn poll_expired(&mut self, now: Moment) -> Vec<(LeaseId, u64)> {
        self.poll(Verdict::Expired, now)
    }

    /// When to poll next, at the latest; none while there are no leases. Whatever is handled may bring it forward, so it
    /// is to be asked again afterwards; who instead polls every 64 ms is never later than that.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.leases.is_empty() {
            return None;
        }
        if self.proposals.is_ready() {
            return Some(self.polled);
        }
        // Even if nothing is due: it must show that this process runs.
        let limit = self.polled + self.config.stall / 2;
        let deadline = self.deadlines.next_before(limit).unwrap_or(limit);
        Some(self.silences.next_before(deadline).unwrap_or(deadline))
    }

    /// How long this lease lives on if nothing is heard of its holder; zero if it is due or its expiry was proposed. None
    /// if it is not known, as all are where this node does not lead.
    #[must_use]
    pub fn remaining(&self, lease: LeaseId, now: Moment) -> Option<Duration> {
        let slot = self.leases.find(lease.0)?;
        let is_expiring = self.leases[slot].is_expiring();
        Some(if is_expiring { Duration::ZERO } else { self.deadline(slot).since(now) })
    }
}

impl Lessor {
    fn poll(&mut self, verdict: Verdict, now: Moment) -> Vec<(LeaseId, u64)> {
        self.advance(now);
        let mut polled = Vec::new();
        let Some(flight) = self.proposals.flight(verdict) else { return polled };
        while polled.len() < LEASES_PER_PROPOSAL_MAX
            && let Some(slot) = self.proposals.pop(verdict)
        {
            if self.leases[slot].flight.is_none() && self.needs(slot, now) == Some(verdict) {
                self.launch(slot, flight);
                let lease = &self.leases[slot];
                polled.push((lease.id, lease.epoch));
            } else {
                self.settle(slot, now);
            }
        }
        polled
    }

    /// A lease is in a proposal from now on.
    fn launch(&mut self, slot: u32, flight: Flight) {
        self.proposals.join(flight);
        self.leases[slot].flight = Some(flight);
        if let Some(session) = self.own_session(slot) {
            session.is_expiring = flight.verdict == Verdict::Expired;
        }
    }

    /// A lease is no longer in a proposal, if it was in one.
    fn land(&mut self, slot: u32) -> bool {
        let Some(flight) = self.leases[slot].flight.take() else { return false };
        self.proposals.leave(flight);
        if let Some(session) = self.own_session(slot) {
            session.is_expiring = false;
        }
        true
    }

    /// The session that lives by this lease.
    fn own_session(&mut self, slot: u32) -> Option<&mut Session> {
        let session = &mut self.sessions[self.leases[slot].session?];
        (session.own == Some(slot)).then_some(session)
    }

    /// Lets time pass.
    fn advance(&mut self, now: Moment) {
        if now.since(self.polled) > self.config.stall && !self.leases.is_empty() {
            self.stalls += 1;
            self.start_afresh(now);
        }
        self.polled = self.polled.max(now);
        while let Some(slot) = self.silences.ring(now) {
            let session = &mut self.sessions[slot];
            let silent_at = session.heard + self.config.silence;
            if silent_at > now {
                self.silences.arm(slot, silent_at);
            } else {
                session.hearing = Hearing::Silent;
                self.settle_all(slot, now);
            }
        }
        while let Some(slot) = self.deadlines.ring(now) {
            self.settle(slot, now);
        }
    }

    /// As if this leadership began now: what holders sent while this process was stopped was not heard, or will be soon.
    fn start_afresh(&mut self, now: Moment) {
        for (_, lease) in self.leases.iter_mut() {
            lease.heard = lease.heard.max(now);
        }
        for (slot, session) in self.sessions.iter_mut() {
            session.heard = session.heard.max(now);
            session.hearing = Hearing::Unknown;
            if !self.silences.is_armed(slot) {
                self.silences.arm(slot, now + self.config.silence);
            }
        }
    }

    fn deadline(&self, slot: u32) -> Moment {
        let lease = &self.leases[slot];
        let heard = lease.session.map_or(lease.heard, |session| self.sessions[session].heard.max(lease.heard));
        #[cfg(feature = "planted")]
        if hither_protocol::planted::strikes(hither_protocol::planted::Bug::EarlyExpiry) {
            return heard + Duration::from_millis(lease.ttl_ms / 2);
        }
        heard + Duration::from_millis(lease.ttl_ms)
    }

    /// What should be said of a lease.
    fn needs(&self, slot: u32, now: Moment) -> Option<Verdict> {
        if self.deadline(slot) <= now {
            return Some(Verdict::Expired);
        }
        let lease = &self.leases[slot];
        let session = &self.sessions[lease.session?];
        match (lease.state, session.hearing) {
            (LeaseState::Alive, Hearing::Silent) if session.is_visible() => Some(Verdict::Suspect),
            (LeaseState::Suspect, Hearing::Heard) => Some(Verdict::Alive),
            _ => None,
        }
    }

    /// Sees to it that a lease is looked at when it must be. One in flight is looked at when that ends.
    fn settle(&mut self, slot: u32, now: Moment) {
        if self.leases[slot].flight.is_some() {
            return;
        }
        if let Some(verdict) = self.needs(slot, now) {
            self.proposals.push(verdict, slot);
        }
        self.arm(slot);
    }

    /// Settles the leases of a session. Its client fell silent or was heard again, and both take a while each time: a
    /// keep-alive does not pay for it.
    fn settle_all(&mut self, session: u32, now: Moment) {
        for slot in self.sessions[session].leases() {
            self.settle(slot, now);
        }
    }

    fn arm(&mut self, slot: u32) {
        if !self.deadlines.is_armed(slot) && !self.proposals.is_due(Verdict::Expired, slot) {
            self.deadlines.arm(slot, self.deadline(slot));
        }
    }
}
