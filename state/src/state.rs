//! The state: what every replica knows after the same part of the log.

use hither_protocol::message::Reply;
use hither_protocol::{Entry, LeaseId, Lineage, Namespace, Refusal, Revision, SessionId};

use crate::apply::Step;
use crate::image::Hash;
use crate::leases::Leases;
use crate::session::Sessions;
use crate::store::Store;
use crate::{Command, Delta, LeaseView, Pin, Position, RangePage, RangeQuery, SessionView, StateLimits};

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer; for a retry, the answer of the first time. A refusal is an answer like any other.
    pub outcome: Result<Reply, Refusal>,
    /// What it changed.
    pub delta: Delta,
}

/// Keys, leases, sessions, and the store's clock.
#[derive(Debug)]
pub struct State {
    pub(crate) limits: StateLimits,
    pub(crate) revision: Revision,
    pub(crate) floor: Revision,
    pub(crate) lineage: Option<Lineage>,
    pub(crate) store: Store,
    pub(crate) leases: Leases,
    pub(crate) sessions: Sessions,
    pub(crate) hash: Hash,
}

impl State {
    /// The state before the first command. `limits` hold until the log sets others, so every replica, and every start of
    /// one, must begin with the same.
    #[must_use]
    pub fn new(limits: StateLimits) -> Self {
        Self {
            limits,
            revision: Revision::ZERO,
            floor: Revision::ZERO,
            lineage: None,
            store: Store::default(),
            leases: Leases::default(),
            sessions: Sessions::default(),
            hash: Hash::default(),
        }
    }

    /// Applies the next command of the log. The outcome and the change depend on nothing but the log up to here.
    pub fn apply(&mut self, position: Position, command: &Command) -> Applied {
        self.store.release();
        Step::new(self, position, command).take()
    }

    /// The newest revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that a watch can resume after.
    #[must_use]
    pub const fn floor(&self) -> Revision {
        self.floor
    }

    /// Which history this is; none before the cluster's first command.
    #[must_use]
    pub const fn lineage(&self) -> Option<Lineage> {
        self.lineage
    }

    /// The bounds in force.
    #[must_use]
    pub const fn limits(&self) -> StateLimits {
        self.limits
    }

    /// A hash over all that the state holds, whatever the order in which it came: replicas that have applied the same
    /// log have the same.
    #[must_use]
    pub const fn hash(&self) -> u128 {
        self.hash.value()
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, namespace: &Namespace, key: &[u8]) -> Option<Entry> {
        self.store.get(namespace, key).cloned()
    }

    /// The entry of a key as it was at a pinned revision.
    #[must_use]
    pub fn get_at(&self, namespace: &Namespace, key: &[u8], pin: &Pin) -> Option<Entry> {
        self.store.get_at(namespace, key, pin.revision()).cloned()
    }

    /// A page of keys.
    #[must_use]
    pub fn range(&self, namespace: &Namespace, query: &RangeQuery<'_>) -> RangePage {
        self.store.range(namespace, query, self.revision)
    }

    /// Keeps the present readable, by [`range`](Self::range) and [`get_at`](Self::get_at), until the pin is dropped.
    /// While it is held, what commands replace stays in memory.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.store.pin(self.revision)
    }

    /// Entries that are kept only because a pin sees them.
    #[must_use]
    pub fn retained(&self) -> usize {
        self.store.retained()
    }

    /// A lease.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<LeaseView<'_>> {
        self.leases.get(id).map(|lease| LeaseView::new(id, lease))
    }

    /// The leases after this one, by id.
    pub fn leases(&self, after: Option<LeaseId>) -> impl Iterator<Item = LeaseView<'_>> {
        self.leases.after(after).map(|(id, lease)| LeaseView::new(id, lease))
    }

    /// A session.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<SessionView<'_>> {
        self.sessions.get(id).map(|session| SessionView::new(id, session))
    }

    /// Keys in all namespaces.
    #[must_use]
    pub const fn keys(&self) -> u64 {
        self.store.keys()
    }

    /// Bytes of keys and values, and [what they cost beside](crate::KEY_OVERHEAD_BYTES).
    #[must_use]
    pub const fn state_bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Leases, the sessions' own among them.
    #[must_use]
    pub fn leases_len(&self) -> usize {
        self.leases.len()
    }

    /// Sessions.
    #[must_use]
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }
}
