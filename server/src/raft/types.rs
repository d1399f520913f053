//! The types that raft is driven with. None of them reaches a disk or a wire: `record` has forms of its own.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use hither_protocol::message::Reply;
use hither_protocol::{Refusal, Revision};
use hither_state::{Command, DecodeError, decode_batch, encode_batch};
use openraft::impls::{Entry as RaftEntry, EntryPayload, InlineBatch, Vote as RaftVote};
use openraft::raft::responder::Responder;
use openraft::{OptionalSend, RaftTypeConfig};
use parking_lot::Mutex;
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

/// The commands of one entry, encoded. The node that proposed them has them as they were, too, until they are applied.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Commands {
    encoded: Bytes,
    #[serde(skip)]
    proposed: Option<Arc<Mutex<Option<Vec<Command>>>>>,
}

impl Commands {
    /// To be proposed here.
    pub(crate) fn proposed(commands: Vec<Command>) -> Self {
        let encoded = encode_batch(&commands);
        // Here they are applied as they are, elsewhere and after a restart as they are read.
        debug_assert_eq!(decode_batch(&encoded).as_ref(), Ok(&commands));
        Self { encoded, proposed: Some(Arc::new(Mutex::new(Some(commands)))) }
    }

    /// Off a disk or a wire.
    pub(crate) const fn read(encoded: Bytes) -> Self {
        Self { encoded, proposed: None }
    }

    pub(crate) const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Takes them; whoever asks again, or did not propose them, gets a copy that is decoded for it.
    ///
    /// # Errors
    /// They do not decode: this replica must stop.
    pub(crate) fn take(&self) -> Result<Vec<Command>, DecodeError> {
        let proposed = self.proposed.as_ref().and_then(|proposed| proposed.lock().take());
        proposed.map_or_else(|| decode_batch(&self.encoded), Ok)
    }
}

impl PartialEq for Commands {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl Eq for Commands {}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of commands", self.encoded.len())
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

#[cfg(test)]
mod tests {
    use hither_protocol::{Namespace, UnixMillis};
    use hither_state::Action;

    use super::*;

    #[test]
    fn commands_are_applied_as_they_were_proposed_and_again_as_they_are_read() {
        let action = Action::SetFloor { revision: Revision(3) };
        let of = |principal: &str| Command {
            namespace: Namespace::system(),
            principal: principal.into(),
            retry: None,
            at: UnixMillis(7),
            action: action.clone(),
        };
        let here = Commands::proposed(vec![of("me")]);
        let place = here.proposed.as_ref().unwrap().lock().as_ref().unwrap().as_ptr();
        // A log's copy shares them.
        let first = here.clone().take().unwrap();
        assert_eq!(first.as_ptr(), place, "they are not read again where they were proposed");
        assert_eq!(here.take().unwrap(), first);
        assert_eq!(Commands::read(here.encoded().clone()).take().unwrap(), first);
        assert!(Commands::read("x".into()).take().is_err());
    }
}
