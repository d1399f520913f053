//! The leader's deadlines.

use std::time::Duration;

use hither_protocol::message::LeaseRenewReply;
use hither_protocol::{ErrorCode, LeaseId, Moment, Refusal, SessionId};

use crate::{Delta, State};

/// Most leases of one proposal: an entry of the log that ends more would hold up everything behind it.
pub const LEASES_PER_PROPOSAL_MAX: usize = 1_024;
/// Most proposals of one kind that may wait for the log at once.
pub const PROPOSALS_IN_FLIGHT_MAX: usize = 4;

/// How the lessor judges time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LessorConfig {
    /// A session that nobody vouched for in this time is silent, and its leases become suspect. Default 1 s.
    pub silence: Duration,
    /// When the lessor was not polled for longer, this process was stopped, and every lease gets a fresh TTL. Default 1 s.
    pub stall: Duration,
}

impl Default for LessorConfig {
    fn default() -> Self {
        Self { silence: Duration::from_secs(1), stall: Duration::from_secs(1) }
    }
}

/// Who still lives, as the leader sees it.
#[derive(Debug)]
pub struct Lessor {
    config: LessorConfig,
}

impl Lessor {
    /// A lessor of a node that does not lead.
    #[must_use]
    pub fn new(config: LessorConfig) -> Self {
        Self { config }
    }

    /// This node leads from now on: every lease gets a fresh TTL.
    pub fn take_up(&mut self, state: &State, now: Moment) {
        let _ = (state, now);
    }

    /// This node leads no longer: everything is forgotten.
    pub fn resign(&mut self) {}

    /// Whether this node leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        false
    }

    /// A command was applied.
    pub fn handle_delta(&mut self, delta: &Delta, now: Moment) {
        let _ = (delta, now);
    }

    /// The holder of a `ttl` lease keeps it alive.
    ///
    /// # Errors
    /// `LeaseNotFound` if there is none or its expiry was proposed, `InvalidArgument` if it is bound to a session.
    pub fn handle_renew(&mut self, lease: LeaseId, now: Moment) -> Result<LeaseRenewReply, Refusal> {
        let _ = now;
        Err(Refusal::new(ErrorCode::LeaseNotFound, format!("lease {lease} does not exist")))
    }

    /// The client of this session was heard: all that is bound to it lives a full TTL from now. False if the session is
    /// not known or its expiry was proposed.
    #[must_use]
    pub fn handle_vouch(&mut self, session: SessionId, now: Moment) -> bool {
        let _ = (session, now);
        false
    }

    /// A proposal that was polled will never take effect: its leases become due again.
    pub fn handle_refused(&mut self, leases: &[(LeaseId, u64)], now: Moment) {
        let _ = (leases, now);
    }

    /// The next leases to propose as suspect.
    pub fn poll_suspect(&mut self, now: Moment) -> Vec<(LeaseId, u64)> {
        let _ = now;
        Vec::new()
    }

    /// The next suspect leases to propose as alive.
    pub fn poll_alive(&mut self, now: Moment) -> Vec<(LeaseId, u64)> {
        let _ = now;
        Vec::new()
    }

    /// The next leases to propose the expiry of.
    pub fn poll_expired(&mut self, now: Moment) -> Vec<(LeaseId, u64)> {
        let _ = now;
        Vec::new()
    }

    /// When to poll next, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let _ = self.config;
        None
    }

    /// How long a lease lives if nothing is heard of its holder; none if it is not known.
    #[must_use]
    pub fn remaining(&self, lease: LeaseId, now: Moment) -> Option<Duration> {
        let _ = (lease, now);
        None
    }
}
