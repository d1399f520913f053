//! A key with its value and its history in four numbers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Key, LeaseId, Revision, Version};

/// A key, its value, and when and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value; empty where only keys were asked for.
    pub value: Bytes,
    /// The revision that created the key. A fencing token where the key is a lock.
    pub create_revision: Revision,
    /// The revision that last wrote it.
    pub mod_revision: Revision,
    /// Writes since creation, the creation among them.
    pub version: Version,
    /// The lease it dies with.
    pub lease: Option<LeaseId>,
}
