//! All leases, by id.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use hither_protocol::LeaseId;
use slab::Slab;

use crate::lease::Lease;

/// Room for so many is kept however few there are.
const SLOTS_KEPT: usize = 1_024;

/// Leases in slots, and an order of ids. Ids come in order, which leaves the nodes of a tree half empty: better those of an
/// index than those of what it leads to.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    slots: Slab<Lease>,
    order: BTreeMap<LeaseId, u32>,
}

impl Leases {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.order.get(&id).map(|&slot| &self.slots[slot as usize])
    }

    pub(crate) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.order.get(&id).map(|&slot| &mut self.slots[slot as usize])
    }

    /// Keeps a lease, in place of the one that had this id.
    pub(crate) fn insert(&mut self, id: LeaseId, lease: Lease) {
        match self.order.entry(id) {
            Entry::Occupied(slot) => self.slots[*slot.get() as usize] = lease,
            Entry::Vacant(vacant) => {
                vacant.insert(place(self.slots.insert(lease)));
            }
        }
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let slot = self.order.remove(&id)?;
        let lease = self.slots.remove(slot as usize);
        if self.slots.capacity() > SLOTS_KEPT && self.len() < self.slots.capacity() / 4 {
            self.move_together();
        }
        Some(lease)
    }

    /// Gives back the room of those that are gone, and keeps some for others: it is done again only after as many more.
    fn move_together(&mut self) {
        let mut slots = Slab::with_capacity(2 * self.len());
        for slot in self.order.values_mut() {
            *slot = place(slots.insert(self.slots.remove(*slot as usize)));
        }
        self.slots = slots;
    }

    /// Those after this one, by id.
    pub(crate) fn after(&self, id: Option<LeaseId>) -> impl Iterator<Item = (LeaseId, &Lease)> {
        let start = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((start, Bound::Unbounded)).map(|(&id, &slot)| (id, &self.slots[slot as usize]))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32 leases")]
const fn place(slot: usize) -> u32 {
    slot as u32
}

#[cfg(test)]
mod tests {
    use hither_protocol::message::LeaseKind;
    use hither_protocol::{LeaseState, Namespace, UnixMillis};

    use super::*;
    use crate::LeaseRecord;
    use crate::keyset::KeySet;

    fn lease(ttl_ms: u64) -> Lease {
        let record = LeaseRecord {
            namespace: Namespace::default(),
            owner: "somebody".into(),
            ttl_ms,
            kind: LeaseKind::Bound,
            state: LeaseState::Alive,
            epoch: 0,
            session: None,
            granted_at: UnixMillis(0),
        };
        Lease { record, keys: KeySet::default() }
    }

    #[test]
    fn when_most_are_gone_so_is_their_room_and_the_others_are_where_they_were() {
        let mut leases = Leases::default();
        (0..10_000).for_each(|id| leases.insert(LeaseId(id), lease(id)));
        let (gone, left): (Vec<u64>, Vec<u64>) = (0..10_000).partition(|id| id % 1_000 != 7);
        for id in gone {
            assert_eq!(leases.remove(LeaseId(id)).map(|lease| lease.record.ttl_ms), Some(id));
        }
        assert!(leases.slots.capacity() <= SLOTS_KEPT, "room for {}", leases.slots.capacity());
        leases.insert(LeaseId(20_000), lease(20_000));
        let all: Vec<(u64, u64)> = leases.after(None).map(|(id, lease)| (id.0, lease.record.ttl_ms)).collect();
        assert_eq!(all, left.into_iter().chain([20_000]).map(|id| (id, id)).collect::<Vec<_>>());
    }
}
