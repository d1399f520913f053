//! All leases, by id.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use hither_protocol::LeaseId;
use slab::Slab;

use crate::lease::Lease;

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
                #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32 leases")]
                let slot = self.slots.insert(lease) as u32;
                vacant.insert(slot);
            }
        }
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let slot = self.order.remove(&id)?;
        Some(self.slots.remove(slot as usize))
    }

    /// Those after this one, by id.
    pub(crate) fn after(&self, id: Option<LeaseId>) -> impl Iterator<Item = (LeaseId, &Lease)> {
        let start = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((start, Bound::Unbounded)).map(|(&id, &slot)| (id, &self.slots[slot as usize]))
    }
}
