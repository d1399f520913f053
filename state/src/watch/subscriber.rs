//! One open watch: a place in a topic's list, in history, or in a list of the state. Nothing is ever queued for it.

use hither_protocol::message::{EndReason, Mode};
use hither_protocol::{Moment, Revision, WatchId};
use std::time::Duration;

use super::listing::{ListId, Place};
use super::spec::ConnectionId;
use super::topic::TopicId;

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) connection: ConnectionId,
    pub(super) watch: WatchId,
    pub(super) topic: TopicId,
    pub(super) mode: Mode,
    pub(super) min_interval: Duration,
    pub(super) phase: Phase,
    /// How far what was handed out reaches: where its next batch begins. The client is there or, by a beat, further.
    pub(super) sent_to: Revision,
    /// Snapshot, reset and batch frames handed out.
    pub(super) frames: u64,
    /// The same when a beat last named them.
    pub(super) frames_beaten: u64,
    /// No batch before this moment.
    pub(super) not_before: Moment,
    /// Whether it is in its connection's queue of those to be polled.
    pub(super) is_ready: bool,
    /// Whether its topic wakes it.
    pub(super) waits: bool,
    pub(super) ending: Option<EndReason>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// It gets the list as a snapshot or, against this revision, as a reset.
    Listing { list: ListId, after: Option<Place>, base: Option<Revision> },
    /// Its history is gone: it needs a list to be reset against this revision.
    Stale { base: Revision },
    /// It reads history after this revision.
    CatchUp { position: Revision },
    /// It waits for the node to reach the revision that it has already seen.
    Ahead,
    /// It reads its topic's list from this place.
    Live { place: u64 },
}
