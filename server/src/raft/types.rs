//! The types that raft is driven with. None of them reaches a disk or a wire: `record` has forms of its own.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use hither_protocol::message::Reply;
use hither_protocol::{Refusal, Revision};
use openraft::impls::{Entry as RaftEntry, EntryPayload, InlineBatch, Vote as RaftVote};
use openraft::raft::responder::Responder;
use openraft::{OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use super::Runtime;
use crate::engine::Member;

/// Raft as Hither drives it, on the runtime `R`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig<R>(PhantomData<R>);

/// Term and node of a leader. Several leaders in a term are allowed, the later id winning: fewer elections split.
pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
/// Where an entry is, and whose it is.
pub(crate) type LogId = openraft::LogId<LeaderId>;
/// Whom this node follows.
pub(crate) type Vote = RaftVote<LeaderId>;
/// What an entry holds.
pub(crate) type Payload = EntryPayload<Commands, u64, Member>;
/// An entry. Cloning shares its commands.
pub(crate) type Entry = RaftEntry<LeaderId, Payload>;
/// Voters and learners.
pub(crate) type Membership = openraft::Membership<u64, Member>;
/// Voters and learners, and the entry that made them so.
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, Member>;
/// What a snapshot covers.
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Member>;

/// The commands of one entry, encoded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commands(pub(crate) Bytes);

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of commands", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What one command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The store's revision after it.
    pub(crate) revision: Revision,
    /// The answer.
    pub(crate) answer: Result<Reply, Refusal>,
}

/// Hands the outcome of a proposal to who waits for it, on the thread that has it: no task and no channel between.
pub(crate) struct Answer<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Answer<T> {
    /// Calls `then` with the outcome. It is dropped uncalled if raft dies before there is one.
    pub(crate) fn new(then: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(then))
    }
}

impl<R: Runtime, T: OptionalSend + 'static> Responder<TypeConfig<R>, T> for Answer<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

impl<R: Runtime> RaftTypeConfig for TypeConfig<R> {
    type D = Commands;
    type R = Vec<Outcome>;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = Answer<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}
