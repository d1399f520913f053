//! Deadlines of leases, at the leader.

use hither_protocol::Moment;
use hither_state::{Delta, State};

/// Deadlines of leases while this node leads.
#[derive(Debug, Default)]
pub(crate) struct Leases {}

impl Leases {
    /// This node leads from now on: every lease gets a full TTL.
    pub(crate) fn take_up(&self, state: &State, now: Moment) {
        let _ = (state, now);
    }

    /// It no longer does.
    pub(crate) fn resign(&self) {}

    /// What was applied.
    pub(crate) fn handle_deltas(&self, deltas: &[Delta], now: Moment) {
        let _ = (deltas, now);
    }
}
