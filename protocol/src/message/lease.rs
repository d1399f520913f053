//! Leases and sessions.

use serde::{Deserialize, Serialize};

use super::op;
use crate::codec::Message;
use crate::{Key, LeaseId, LeaseState, Revision, SessionId, UnixMillis};

/// What keeps a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseKind {
    /// Explicit renewals, by anyone who may: for callers without a connection.
    Ttl,
    /// The session that granted it: it is renewed as long as the session's client is heard of.
    Bound,
}

/// Grants a lease. The server draws its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrant {
    /// Milliseconds without a renewal after which it expires; clamped to 1 s to 24 h.
    pub ttl_ms: u64,
    /// What keeps it alive. `Bound` needs a retry token, which names the session.
    pub kind: LeaseKind,
}

/// Answers [`LeaseGrant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrantReply {
    /// The lease.
    pub lease: LeaseId,
    /// The time to live that was granted.
    pub ttl_ms: u64,
    /// The epoch: raised when a suspect lease comes back.
    pub epoch: u64,
}

/// Renews a `ttl` lease: it lives another full TTL from when the leader got this. No log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRenew {
    /// The lease.
    pub lease: LeaseId,
}

/// Answers [`LeaseRenew`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRenewReply {
    /// The time to live.
    pub ttl_ms: u64,
    /// The epoch.
    pub epoch: u64,
}

/// Ends a lease now and deletes its keys, in one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevoke {
    /// The lease.
    pub lease: LeaseId,
}

/// Answers [`LeaseRevoke`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevokeReply {
    /// The revision of the deletion, or the current one if no key was attached.
    pub revision: Revision,
    /// Keys deleted.
    pub deleted: u64,
}

/// Asks after one lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// The lease.
    pub lease: LeaseId,
    /// Return its keys too.
    pub keys: bool,
}

/// Answers [`LeaseInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfoReply {
    /// The lease.
    pub lease: LeaseStatus,
    /// Its keys, if asked for, in order.
    pub keys: Vec<Key>,
}

/// A lease as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Its id.
    pub lease: LeaseId,
    /// Its time to live.
    pub ttl_ms: u64,
    /// Milliseconds left without a renewal, as the leader counts; none where this node cannot tell.
    pub remaining_ms: Option<u64>,
    /// What keeps it alive.
    pub kind: LeaseKind,
    /// Its standing.
    pub state: LeaseState,
    /// Raised when it came back from suspect.
    pub epoch: u64,
    /// The session it is bound to.
    pub session: Option<SessionId>,
    /// Keys attached.
    pub keys: u64,
    /// The identity that granted it.
    pub owner: String,
    /// When it was granted, by the leader's wall clock.
    pub granted_at: UnixMillis,
}

/// Lists leases by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseList {
    /// Those after this one.
    pub after: Option<LeaseId>,
    /// Most to return; 0 is the server's page of 1,000.
    pub limit: u32,
}

/// Answers [`LeaseList`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseListReply {
    /// A page of leases.
    pub leases: Vec<LeaseStatus>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Asks which of these leases are over. A holder asks after all of its leases with few of these; at most
/// [`LEASES_CHECKED_MAX`](crate::limits::LEASES_CHECKED_MAX) each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCheck {
    /// The leases.
    pub leases: Vec<LeaseId>,
}

/// Answers [`LeaseCheck`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCheckReply {
    /// Of the leases asked after, those that do not exist, or no longer do.
    pub gone: Vec<LeaseId>,
}

/// Opens a session: a window of remembered outcomes and a bound lease with the session's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpen {
    /// Milliseconds of silence after which it is over; clamped like a lease's.
    pub ttl_ms: u64,
    /// Drawn at random by the client: a second request with the same nonce from the same identity returns the same
    /// session, so that opening can be retried.
    pub nonce: [u8; 16],
}

/// Answers [`SessionOpen`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpenReply {
    /// The session; its own lease has the same number.
    pub session: SessionId,
    /// The time to live that was granted.
    pub ttl_ms: u64,
    /// The epoch of its lease.
    pub epoch: u64,
}

/// Closes a session: its bound leases are revoked now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClose {
    /// The session.
    pub session: SessionId,
}

/// Answers [`SessionClose`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCloseReply {
    /// The revision of the deletions, or the current one if there were none.
    pub revision: Revision,
    /// Keys deleted.
    pub deleted: u64,
}

impl Message for LeaseGrant {
    const OP: u16 = op::LEASE_GRANT;
}
impl Message for LeaseRenew {
    const OP: u16 = op::LEASE_RENEW;
}
impl Message for LeaseRevoke {
    const OP: u16 = op::LEASE_REVOKE;
}
impl Message for LeaseInfo {
    const OP: u16 = op::LEASE_INFO;
}
impl Message for LeaseList {
    const OP: u16 = op::LEASE_LIST;
}
impl Message for LeaseCheck {
    const OP: u16 = op::LEASE_CHECK;
}
impl Message for SessionOpen {
    const OP: u16 = op::SESSION_OPEN;
}
impl Message for SessionClose {
    const OP: u16 = op::SESSION_CLOSE;
}
