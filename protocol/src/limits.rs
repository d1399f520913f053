//! Every bound that both sides must agree on, each with its reason.

/// Longest key, in bytes: a path of a few dozen segments, and small enough that an index of a million keys fits memory.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Largest value, in bytes. Larger documents belong in an object store; a value is replicated and kept in memory.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Largest body of a frame, in bytes: a value, its key and their envelope, twice.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most operations in one branch of a transaction, and most comparisons: it is applied in one step that nothing interrupts.
pub const TXN_OPS_MAX: usize = 256;
/// A body above this travels on a stream of its own, so that it does not hold up the lane behind it.
pub const LANE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Shortest lease, in milliseconds: below it an ordinary scheduling delay would end it.
pub const TTL_MS_MIN: u64 = 1_000;
/// Longest lease, in milliseconds: one day.
pub const TTL_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Most leases of one question whether they still are: they are looked up under one lock.
pub const LEASES_CHECKED_MAX: usize = 1_000;
/// Outcomes that a session remembers for retries.
pub const SESSION_WINDOW: u64 = 1_024;
/// Largest outcome that is remembered whole; beyond it a retry learns success and revision, without the data read.
pub const OUTCOME_BYTES_MAX: usize = 4 * 1024;
/// Longest namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 63;
/// Longest name of a client identity, in bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 63;
/// Longest explanation in an error, in bytes.
pub const DETAIL_BYTES_MAX: usize = 256;
/// Watches on one connection that need no setting.
pub const WATCHES_PER_CONNECTION_MAX: u64 = 10_000;
/// Largest UDP datagram that either side sends, at once where the path is the loopback: fewer packets are fewer headers,
/// acknowledgements and system calls. Ten of these, which QUIC hands to the system at once, fit the 64 KiB that the system
/// takes at once.
pub const DATAGRAM_BYTES_MAX: u16 = 6_500;
/// Largest UDP datagram that is looked for on any other path, by halving from 1,200 in steps of at least
/// [`DATAGRAM_STEP_BYTES`]. Chosen so that an Ethernet's 1,452 bytes are the fourth try, and that a path with jumbo frames is
/// known after five: connections are many, and most of them are short of nothing.
pub const DATAGRAM_SEARCH_BYTES_MAX: u16 = 5_248;
/// Smallest gain for which another size is tried.
pub const DATAGRAM_STEP_BYTES: u16 = 253;
