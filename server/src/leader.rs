//! What a node does while it leads: begins the cluster, expires leases, trims history.
//!
//! Every decision is a command that raft takes only from the leadership that made it: one that was decided before a
//! change of leader and arrives after it is refused.

mod duties;
mod leases;

pub(crate) use duties::{Duties, perform};
pub(crate) use leases::{Confirmed, Leases};
