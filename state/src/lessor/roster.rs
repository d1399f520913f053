//! Things in slots, found by id.

use std::ops::{Index, IndexMut};

use hashbrown::HashTable;
use slab::Slab;
use xxhash_rust::xxh3::xxh3_64;

/// What has an id that no other of its kind has.
pub(super) trait Numbered {
    /// The id.
    fn number(&self) -> u64;
}

/// Things that keep their slot as long as they are here.
#[derive(Debug)]
pub(super) struct Roster<T> {
    slots: Slab<T>,
    /// Never walked. Ids are drawn by the log, so that nobody chooses those that collide.
    index: HashTable<u32>,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self { slots: Slab::new(), index: HashTable::new() }
    }
}

impl<T: Numbered> Roster<T> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { slots: Slab::with_capacity(capacity), index: HashTable::with_capacity(capacity) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn find(&self, number: u64) -> Option<u32> {
        self.index.find(hash(number), |&slot| self[slot].number() == number).copied()
    }

    /// Takes in a thing whose id is not here.
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        let Self { slots, index } = self;
        let number = thing.number();
        // A lease takes far more than a byte, and memory ends before 2^32 of them.
        let slot = slots.insert(thing) as u32;
        index.insert_unique(hash(number), slot, |&slot| hash(slots[slot as usize].number()));
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> T {
        let thing = self.slots.remove(slot as usize);
        if let Ok(found) = self.index.find_entry(hash(thing.number()), |&other| other == slot) {
            found.remove();
        }
        thing
    }

    /// All, in the order of their slots.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots.iter_mut().map(|(slot, thing)| (slot as u32, thing))
    }
}

/// For slots that are taken: whoever keeps the number of one takes it back before the thing goes.
impl<T> Index<u32> for Roster<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        &self.slots[slot as usize]
    }
}

impl<T> IndexMut<u32> for Roster<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.slots[slot as usize]
    }
}

fn hash(number: u64) -> u64 {
    xxh3_64(&number.to_le_bytes())
}
