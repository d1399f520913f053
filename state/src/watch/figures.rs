//! What the hub says of itself.

use hither_protocol::Revision;

use super::hub::WatchHub;
use super::spec::{ConnectionId, Lag};
use super::subscriber::{Phase, Subscriber};
use super::topic::Unread;

impl WatchHub {
    /// The revision that was last published.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.log.head()
    }

    /// Watches can resume here only after this revision or a later one.
    #[must_use]
    pub const fn floor(&self) -> Revision {
        self.log.floor()
    }

    /// Open watches.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.subscribers.len()
    }

    /// Open watches of one connection.
    #[must_use]
    pub fn watches_of(&self, connection: ConnectionId) -> usize {
        self.connections.get(&connection).map_or(0, |connection| connection.subscribers.len())
    }

    /// Topics: sets of watches that see the same events.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Bytes of history.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Bytes of what topics keep for watches that are a little behind.
    #[must_use]
    pub const fn live_bytes(&self) -> usize {
        self.ledger.bytes
    }

    /// Bytes of the lists that snapshots and resets are made of.
    #[must_use]
    pub const fn snapshot_bytes(&self) -> usize {
        self.lists.bytes()
    }

    /// How far the slowest watch is behind. Looks at every watch.
    #[must_use]
    pub fn lag(&self) -> Lag {
        let positions = self.subscribers.iter().filter_map(|(_, subscriber)| self.position(subscriber));
        let Some(slowest) = positions.min() else { return Lag::default() };
        let revisions = self.log.head().0.saturating_sub(slowest.0);
        Lag { revisions, bytes: self.log.bytes_after(slowest) }
    }

    /// Up to where a watch has everything; none if that is the present or beyond.
    pub(super) fn position(&self, subscriber: &Subscriber) -> Option<Revision> {
        match subscriber.phase {
            Phase::Live { place } => match self.topics.get(&subscriber.topic)?.unread(place) {
                Unread::Nothing => None,
                Unread::Batches(_, begin) | Unread::Lost(begin) => Some(begin.previous()),
            },
            Phase::Ahead => None,
            Phase::Listing { list, .. } => Some(self.lists.get(list)?.revision),
            Phase::Stale { pages } => Some(pages.base.unwrap_or_default().max(self.log.floor())),
            Phase::CatchUp { position } => Some(position),
        }
    }
}
