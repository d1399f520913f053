//! Reading and writing keys.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::op;
use crate::codec::Message;
use crate::{Entry, Key, KeyRange, LeaseId, NodeId, Revision};

/// Which state a read must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Every write that was acknowledged before the read began.
    #[default]
    Linearizable,
    /// This revision or a later one: what a client saw never goes back.
    AtLeast(Revision),
    /// Whatever this node has, if it heard of the leader within so many milliseconds.
    Stale {
        /// The bound.
        max_age_ms: u64,
    },
}

/// Where a reply comes from: in front of each one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The store's revision when the reply was made.
    pub revision: Revision,
    /// Raft's term at that node.
    pub term: u64,
    /// The node that answered.
    pub node: NodeId,
    /// Milliseconds since that node last knew itself to be current; 0 for a linearizable read.
    pub age_ms: u64,
}

/// Reads one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// The key.
    pub key: Key,
    /// Which state to read.
    pub consistency: Consistency,
}

/// Answers [`Get`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// The entry, if the key exists.
    pub entry: Option<Entry>,
}

/// What of each entry to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Projection {
    /// All of it.
    #[default]
    Entries,
    /// Everything but the value.
    KeysOnly,
    /// Nothing: only the count.
    CountOnly,
}

/// Reads many keys, all at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub range: KeyRange,
    /// Most entries to return; 0 is no limit.
    pub limit: u64,
    /// From the last key to the first.
    pub reverse: bool,
    /// What of each.
    pub projection: Projection,
    /// Which state to read.
    pub consistency: Consistency,
}

/// Answers [`Range`], in one frame or in several marked `MORE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeReply {
    /// The entries, in the order of their keys or the reverse.
    pub entries: Vec<Entry>,
    /// Keys in the range, the limit aside. Only the last frame's holds.
    pub count: u64,
    /// Whether the limit left entries out. Only the last frame's holds.
    pub more: bool,
}

/// Writes one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// Its new value.
    pub value: Bytes,
    /// The lease it dies with from now on; none detaches it.
    pub lease: Option<LeaseId>,
    /// Return the entry that it replaces.
    pub previous: bool,
}

/// Answers [`Put`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReply {
    /// The revision of the write.
    pub revision: Revision,
    /// The entry it replaced, if asked for and there was one.
    pub previous: Option<Entry>,
}

/// Deletes keys. Deleting nothing succeeds, changes nothing and says 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// Which keys.
    pub range: KeyRange,
    /// Return the entries that were deleted.
    pub previous: bool,
}

/// Answers [`Delete`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteReply {
    /// The revision of the deletion, or the current one if nothing was there.
    pub revision: Revision,
    /// Keys deleted.
    pub deleted: u64,
    /// They, if asked for.
    pub previous: Vec<Entry>,
}

impl Message for Get {
    const OP: u16 = op::GET;
}
impl Message for Range {
    const OP: u16 = op::RANGE;
}
impl Message for Put {
    const OP: u16 = op::PUT;
}
impl Message for Delete {
    const OP: u16 = op::DELETE;
}
