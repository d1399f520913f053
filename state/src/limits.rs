//! What the state may grow to.

use serde::{Deserialize, Serialize};

/// Bytes that a key costs beside itself and its value: its four numbers, its places in the two indexes, and the
/// allocations of key and value. Counted, so that very many tiny keys meet the limit before they fill the memory.
pub const KEY_OVERHEAD_BYTES: u64 = 256;

/// The bounds of the state. They decide outcomes, so every replica must have the same and a replay must meet them again:
/// a cluster changes them with [`Action::SetLimits`](crate::Action::SetLimits), never behind the log's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateLimits {
    /// Most bytes of keys, values and [what they cost beside](KEY_OVERHEAD_BYTES). A put beyond it is refused; deletes
    /// never are.
    pub state_bytes_max: u64,
    /// Most leases, the sessions' own among them.
    pub leases_max: u64,
}

impl Default for StateLimits {
    /// 8 GiB: what a server of 16 GiB can hold beside its caches. Two million leases: twice what is measured.
    fn default() -> Self {
        Self { state_bytes_max: 8 << 30, leases_max: 2_000_000 }
    }
}
