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
    /// It gets the pages of a list.
    Listing { list: ListId, pages: Pages },
    /// It needs a list, since its history is gone or the list that it had.
    Stale { pages: Pages },
    /// It reads history after this revision.
    CatchUp { position: Revision },
    /// It waits for the node to reach the revision that it has already seen.
    Ahead,
    /// It reads its topic's list from this place.
    Live { place: u64 },
}

/// What a watch gets of a list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pages {
    /// What a reset is against; none for a snapshot.
    pub(super) base: Option<Revision>,
    /// The revision of the list, and the last place that was sent.
    pub(super) sent: Option<(Revision, Place)>,
}

impl Pages {
    /// A reset from its first page.
    pub(super) const fn reset(base: Revision) -> Self {
        Self { base: Some(base), sent: None }
    }

    /// What is left to be sent if the list is begun anew at `revision`. Two lists of one revision are the same to the
    /// last place. Otherwise what was sent is void, and a snapshot becomes a reset against nothing: only its own revision
    /// was announced.
    pub(super) fn anew(self, revision: Revision) -> Self {
        match self.sent {
            Some((of, _)) if of == revision => self,
            _ => Self::reset(self.base.unwrap_or_default()),
        }
    }
}
