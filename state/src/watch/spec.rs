//! What goes into the hub and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use hither_protocol::frame::Flags;
use hither_protocol::limits::{FRAME_BYTES_MAX, LANE_BODY_BYTES_MAX, WATCHES_PER_CONNECTION_MAX};
use hither_protocol::message::{End, Filter, Mode, Start, Subscribe};
use hither_protocol::{KeyRange, Lineage, Moment, Namespace, Revision, WatchId};

/// Longest time that a watch may ask to be left alone for.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// A connection of this node, numbered by its shell. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// An open watch, numbered by the hub. Never used twice, so that an old id finds nothing instead of another watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u64);

/// The bounds of the hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Most bytes of history before the leader raises the floor: what a reconnecting client may have missed.
    pub history_bytes_max: usize,
    /// How old history may get before the leader raises the floor.
    pub history_age_max: Duration,
    /// Most bytes that one topic keeps for those of its watchers that are a little behind; beyond it they read history.
    pub topic_bytes_max: usize,
    /// The same for all topics together.
    pub live_bytes_max: usize,
    /// How large a batch grows before the next one is begun, and how large a page of a snapshot is.
    pub page_bytes: usize,
    /// Most bytes of one frame's body. A larger revision is split over several frames.
    pub frame_bytes_max: usize,
    /// Most changes of history that one poll looks at: how long a watcher that catches up may hold the hub.
    pub scan_max: usize,
    /// Most bytes of the lists that snapshots and resets are made of. Beyond it only the oldest goes on.
    pub snapshot_bytes_max: usize,
    /// How long such a list may be kept while others wait for memory; then its watchers begin again with a reset.
    pub snapshot_age_max: Duration,
    /// Most watches of one connection.
    pub connection_watches_max: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            history_bytes_max: 256 << 20,
            history_age_max: Duration::from_secs(600),
            topic_bytes_max: 1 << 20,
            live_bytes_max: 64 << 20,
            page_bytes: LANE_BODY_BYTES_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
            scan_max: 4_096,
            snapshot_bytes_max: 256 << 20,
            snapshot_age_max: Duration::from_secs(10),
            connection_watches_max: usize::try_from(WATCHES_PER_CONNECTION_MAX).unwrap_or(usize::MAX),
        }
    }
}

/// A watch to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSpec {
    /// The client's name for it: beats use it.
    pub watch: WatchId,
    /// Where the keys are.
    pub namespace: Namespace,
    /// Which keys. Checked at the door.
    pub range: KeyRange,
    /// From where.
    pub start: Start,
    /// The history that `start` belongs to.
    pub lineage: Option<Lineage>,
    /// Every change, or only the newest state of each key.
    pub mode: Mode,
    /// Which kinds of events.
    pub filter: Filter,
    /// Send the entry before each event.
    pub previous: bool,
    /// Least time between two deliveries.
    pub min_interval: Duration,
}

impl WatchSpec {
    /// What a client asked for on a connection of this namespace.
    #[must_use]
    pub fn new(namespace: Namespace, subscribe: &Subscribe) -> Self {
        Self {
            watch: subscribe.watch,
            namespace,
            range: subscribe.range.clone(),
            start: subscribe.start,
            lineage: subscribe.lineage,
            mode: subscribe.mode,
            filter: subscribe.filter,
            previous: subscribe.previous,
            min_interval: Duration::from_millis(subscribe.min_interval_ms).min(INTERVAL_MAX),
        }
    }
}

/// A frame to be sent on a watch's stream: the shell writes the header with the watch's id. Bodies are shared by all
/// watchers of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFrame {
    /// `SNAPSHOT`, `RESET` or `BATCH`.
    pub op: u16,
    /// `MORE` or none.
    pub flags: Flags,
    /// The body.
    pub body: Bytes,
}

/// What a watch has to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Nothing. The connection is woken when there is.
    Idle,
    /// Nothing before this moment: poll again then. The connection is not woken for it.
    NotBefore(Moment),
    /// These, in order, and none of them may be dropped unless the watch is.
    Frames {
        /// The frames. May be none while a long list is gathered.
        frames: Vec<WatchFrame>,
        /// There is more already: poll again when the stream takes more, after the connection's other watches. The
        /// connection is not woken for it. If not, it is woken when there is.
        more: bool,
    },
    /// The watch is over and the hub has forgotten it: send this and finish the stream.
    Ended(End),
}

/// What the hub knows of a connection's watches for the next [`Beat`](hither_protocol::message::Beat).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubBeat {
    /// Every watch but those behind has been handed all its events up to here.
    pub revision: Revision,
    /// Watches with frames handed out since the last beat, and their number so far.
    pub sent: Vec<(WatchId, u64)>,
    /// Watches that are not synced.
    pub behind: Vec<WatchId>,
}

/// How far the slowest watch is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Revisions.
    pub revisions: u64,
    /// Bytes of history.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_left_alone_for_an_hour_at_most() {
        let interval = |min_interval_ms| {
            let subscribe = Subscribe {
                watch: WatchId(1),
                range: KeyRange::All,
                start: Start::Now,
                lineage: None,
                mode: Mode::Every,
                filter: Filter { puts: true, deletes: true, liveness: false },
                previous: false,
                min_interval_ms,
            };
            WatchSpec::new(Namespace::default(), &subscribe).min_interval
        };
        assert_eq!(interval(250), Duration::from_millis(250));
        assert_eq!(interval(u64::MAX), Duration::from_secs(3_600));
    }
}
