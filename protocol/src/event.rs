//! What a watcher sees.

use serde::{Deserialize, Serialize};

use crate::{Entry, Key, LeaseId, Revision};

/// One change to one key, or to the standing of the lease that keys hang on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The key was written.
    Put {
        /// The key as it is now; `mod_revision` is the revision of this event.
        entry: Entry,
        /// What it was before.
        previous: Previous,
    },
    /// The key was deleted, by a request or with its lease.
    Delete {
        /// The key.
        key: Key,
        /// The revision that deleted it.
        revision: Revision,
        /// What it was before.
        previous: Previous,
    },
    /// The lease of a watched key changed its standing; the key itself did not change.
    Liveness {
        /// The lease.
        lease: LeaseId,
        /// Its standing now.
        state: LeaseState,
        /// The revision of the change.
        revision: Revision,
    },
}

impl Event {
    /// The revision of the change.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } | Self::Liveness { revision, .. } => *revision,
        }
    }

    /// The key that changed; none for the standing of a lease.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::Put { entry, .. } => Some(&entry.key),
            Self::Delete { key, .. } => Some(key),
            Self::Liveness { .. } => None,
        }
    }
}

/// The entry before an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Previous {
    /// The watch did not ask for it.
    #[default]
    NotAsked,
    /// There was none: the event created the key.
    None,
    /// This.
    Entry(Box<Entry>),
    /// There was one, and history no longer has it.
    Forgotten,
}

/// The standing of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LeaseState {
    /// Its holder was heard of.
    Alive,
    /// Its holder is silent; it may yet come back.
    Suspect,
    /// Its time is over; its keys are gone.
    Expired,
}

impl LeaseState {
    /// The word for it, as command line and JSON show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Expired => "expired",
        }
    }
}
