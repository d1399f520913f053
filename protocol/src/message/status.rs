//! How a node is doing.

use serde::{Deserialize, Serialize};

use super::op;
use crate::codec::Message;
use crate::error::LeaderHint;
use crate::{ClusterId, NodeId, Revision};

/// Asks a node how it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {}

/// Answers [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// Raised by each restore.
    pub incarnation: u64,
    /// The node that answers.
    pub node: NodeId,
    /// Its version of Hither.
    pub version: String,
    /// Raft's term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<LeaderHint>,
    /// The newest revision.
    pub revision: Revision,
    /// The oldest revision that a watch can resume after.
    pub floor: Revision,
    /// The last log entry here.
    pub log_index: u64,
    /// The last entry applied here.
    pub applied_index: u64,
    /// Keys in all namespaces.
    pub keys: u64,
    /// Bytes of keys and values, and 256 for each key beside them.
    pub state_bytes: u64,
    /// The most that they may be.
    pub state_bytes_max: u64,
    /// Leases, the sessions' among them.
    pub leases: u64,
    /// Sessions.
    pub sessions: u64,
    /// Client connections at this node.
    pub connections: u64,
    /// Watches open at this node.
    pub watches: u64,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
}

impl Message for Status {
    const OP: u16 = op::STATUS;
}
