//! What one command did.

use std::sync::Arc;

use bytes::Bytes;
use hither_protocol::message::LeaseKind;
use hither_protocol::{
    Entry, Key, LeaseId, LeaseState, Lineage, Namespace, Revision, SequenceNumber, SessionId, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::StateLimits;

/// Everything that one command changed, in order. Cloning shares keys and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The store's revision after the command. Commands that change no key and no standing leave it as it was.
    pub revision: Revision,
    /// When, by the leader's wall clock.
    pub at: UnixMillis,
    /// The changes.
    pub changes: Vec<Change>,
}

/// One change to one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key was written.
    Put {
        /// Where it is.
        namespace: Namespace,
        /// The key as it is now.
        entry: Entry,
        /// As it was before.
        previous: Option<Arc<Entry>>,
    },
    /// A key was deleted.
    Delete {
        /// Where it was.
        namespace: Namespace,
        /// As it was before.
        previous: Arc<Entry>,
    },
    /// A lease was granted, renewed its epoch or changed its standing; without a record, it is gone.
    Lease {
        /// Which.
        lease: LeaseId,
        /// What is to be kept of it.
        record: Option<LeaseRecord>,
    },
    /// A lease with keys became suspect or came back: watchers of the keys that asked for it are told. Expiry shows as
    /// the deletion of the keys.
    Liveness {
        /// Which.
        lease: LeaseId,
        /// Its standing now.
        state: LeaseState,
        /// The keys that hang on it, all of one namespace.
        namespace: Namespace,
        /// In order.
        keys: Vec<Key>,
    },
    /// A session was opened; without a record, it is gone, and so are its remembered outcomes.
    Session {
        /// Which.
        session: SessionId,
        /// What is to be kept of it.
        record: Option<SessionRecord>,
    },
    /// A session remembers an outcome.
    Outcome {
        /// Whose.
        session: SessionId,
        /// Of which mutation.
        sequence: SequenceNumber,
        /// What is to be answered to a retry.
        outcome: Bytes,
    },
    /// A session's outcomes up to this number were received and are forgotten.
    Acknowledged {
        /// Whose.
        session: SessionId,
        /// Up to which.
        up_to: SequenceNumber,
    },
    /// History before this revision may be forgotten.
    Floor {
        /// The floor.
        revision: Revision,
    },
    /// The history has a name.
    Lineage {
        /// The name.
        lineage: Lineage,
    },
    /// The state has other bounds.
    Limits {
        /// The bounds.
        limits: StateLimits,
    },
}

/// What is kept of a lease, its keys aside: they know their lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Where its keys are.
    pub namespace: Namespace,
    /// The identity that granted it.
    pub owner: Arc<str>,
    /// Milliseconds.
    pub ttl_ms: u64,
    /// What keeps it alive.
    pub kind: LeaseKind,
    /// Alive or suspect.
    pub state: LeaseState,
    /// Raised when it comes back.
    pub epoch: u64,
    /// The session it is bound to.
    pub session: Option<SessionId>,
    /// When it was granted, by the leader's wall clock.
    pub granted_at: UnixMillis,
}

/// What is kept of a session, its outcomes aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Where its keys are.
    pub namespace: Namespace,
    /// The identity that opened it: nobody else resumes it.
    pub principal: Arc<str>,
    /// Drawn by the client when it opened it.
    pub nonce: [u8; 16],
    /// Outcomes up to this number were received and are forgotten.
    pub acknowledged: SequenceNumber,
}
