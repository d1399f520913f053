//! Leases, as the state keeps them and as others see them.

use hither_protocol::{Key, LeaseId};

use crate::LeaseRecord;
use crate::keyset::KeySet;

/// A lease and the keys that hang on it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) record: LeaseRecord,
    pub(crate) keys: KeySet,
}

/// A look at a lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseView<'a> {
    /// Its id.
    pub id: LeaseId,
    /// What is kept of it.
    pub record: &'a LeaseRecord,
    keys: &'a KeySet,
}

impl<'a> LeaseView<'a> {
    pub(crate) const fn new(id: LeaseId, lease: &'a Lease) -> Self {
        Self { id, record: &lease.record, keys: &lease.keys }
    }

    /// How many keys hang on it.
    #[must_use]
    pub fn keys_len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that hang on it, in order; all are in the lease's namespace.
    pub fn keys(&self) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.keys.iter()
    }

    /// Whether it is the lease that a session lives by, not one that a client granted.
    #[must_use]
    pub fn is_sessions_own(&self) -> bool {
        self.record.session.is_some_and(|session| session.lease() == self.id)
    }
}
