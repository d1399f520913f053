//! The keys of a lease.

use std::collections::BTreeSet;

use hither_protocol::Key;

/// Up to here a sorted vector: most leases have one key, for which a tree would allocate twelve times its size.
const FEW: usize = 32;

/// A set of keys, in order.
#[derive(Clone, Debug)]
pub(crate) enum KeySet {
    Few(Vec<Key>),
    Many(BTreeSet<Key>),
}

impl Default for KeySet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl KeySet {
    pub(crate) fn insert(&mut self, key: Key) {
        match self {
            Self::Few(keys) => {
                if let Err(place) = keys.binary_search(&key) {
                    if keys.len() == FEW {
                        let mut many: BTreeSet<Key> = std::mem::take(keys).into_iter().collect();
                        many.insert(key);
                        *self = Self::Many(many);
                    } else {
                        // Most sets stay at one key; a vector that grows by itself begins with four places.
                        if keys.is_empty() {
                            keys.reserve_exact(1);
                        }
                        keys.insert(place, key);
                    }
                }
            }
            Self::Many(keys) => drop(keys.insert(key)),
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        match self {
            Self::Few(keys) => {
                if let Ok(place) = keys.binary_search(key) {
                    keys.remove(place);
                }
            }
            Self::Many(keys) => drop(keys.remove(key)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(keys) => keys.len(),
            Self::Many(keys) => keys.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        let (few, many) = match self {
            Self::Few(keys) => (Some(keys), None),
            Self::Many(keys) => (None, Some(keys)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_stays_in_order_as_it_outgrows_its_vector_and_shrinks_again() {
        let mut set = KeySet::default();
        let key = |number: usize| Key::from(format!("{number:03}"));
        for number in (0..100).rev() {
            set.insert(key(number));
            set.insert(key(number));
        }
        assert!(set.iter().eq(&(0..100).map(key).collect::<Vec<_>>()));
        for number in 1..100 {
            set.remove(&key(number));
        }
        assert_eq!((set.len(), set.iter().next()), (1, Some(&key(0))));
    }
}
