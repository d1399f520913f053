//! The roll of open watches: each found by its number at once, however many there are.

use slab::Slab;

use super::spec::SubscriberId;
use super::subscriber::Subscriber;

/// Bits of a number that say where its watch is kept; the others count the watches that were ever opened. More watches
/// at once than these can name do not fit any memory.
const PLACE_BITS: u32 = 24;
const PLACE: u64 = (1 << PLACE_BITS) - 1;

/// All open watches. Walked in the order of their places, which is the same wherever the same was opened and closed.
#[derive(Debug, Default)]
pub(super) struct Roll {
    places: Slab<(SubscriberId, Subscriber)>,
    opened: u64,
}

impl Roll {
    /// Takes a watch up, under a number that no other has or had.
    pub(super) fn insert(&mut self, subscriber: Subscriber) -> SubscriberId {
        let place = self.places.vacant_entry();
        self.opened += 1;
        let id = SubscriberId(self.opened << PLACE_BITS | place.key() as u64 & PLACE);
        place.insert((id, subscriber));
        id
    }

    pub(super) fn get(&self, id: SubscriberId) -> Option<&Subscriber> {
        self.places.get(place(id)).filter(|(of, _)| *of == id).map(|(_, subscriber)| subscriber)
    }

    pub(super) fn get_mut(&mut self, id: SubscriberId) -> Option<&mut Subscriber> {
        self.places.get_mut(place(id)).filter(|(of, _)| *of == id).map(|(_, subscriber)| subscriber)
    }

    pub(super) fn remove(&mut self, id: SubscriberId) -> Option<Subscriber> {
        self.get(id)?;
        self.places.try_remove(place(id)).map(|(_, subscriber)| subscriber)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SubscriberId, &Subscriber)> {
        self.places.iter().map(|(_, (id, subscriber))| (*id, subscriber))
    }
}

fn place(id: SubscriberId) -> usize {
    // The mask leaves less than any `usize` holds.
    usize::try_from(id.0 & PLACE).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use hither_protocol::message::Mode;
    use hither_protocol::{Moment, Revision, WatchId};
    use std::time::Duration;

    use super::super::spec::ConnectionId;
    use super::super::subscriber::Phase;
    use super::super::topic::TopicId;
    use super::*;

    fn subscriber(watch: u64) -> Subscriber {
        Subscriber {
            connection: ConnectionId(1),
            watch: WatchId(watch),
            topic: TopicId(1),
            mode: Mode::Every,
            min_interval: Duration::ZERO,
            phase: Phase::Ahead,
            sent_to: Revision::ZERO,
            frames: 0,
            frames_beaten: 0,
            not_before: Moment::default(),
            is_ready: false,
            waits: false,
            ending: None,
        }
    }

    #[test]
    fn an_old_number_finds_nothing_though_its_place_is_taken_again() {
        let mut roll = Roll::default();
        let old = roll.insert(subscriber(1));
        assert!(roll.remove(old).is_some());
        let new = roll.insert(subscriber(2));
        assert_eq!(place(old), place(new));
        assert!(roll.get(old).is_none() && roll.get_mut(old).is_none() && roll.remove(old).is_none());
        assert_eq!(roll.get(new).map(|subscriber| subscriber.watch), Some(WatchId(2)));
        assert_eq!((roll.len(), roll.iter().count()), (1, 1));
    }
}
