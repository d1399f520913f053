//! What is watched, and how.

use hither_protocol::KeyRange;
use hither_protocol::message::{Filter, Mode, Start};

/// What is watched, and how. Two watches of one client with equal specs can share a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSpec {
    /// Which keys.
    pub range: KeyRange,
    /// From where.
    pub start: Start,
    /// Every change, or only the newest state of each key.
    pub mode: Mode,
    /// Which kinds of events.
    pub filter: Filter,
    /// With the entry before each event.
    pub previous: bool,
    /// Least milliseconds between two batches; 0 is none.
    pub min_interval_ms: u64,
}
