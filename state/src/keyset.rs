//! The keys of a lease.

use std::collections::BTreeSet;

use hither_protocol::Key;

/// Up to here a sorted vector, for which a tree would allocate several times its size.
const FEW: usize = 32;

/// A set of keys, in order.
#[derive(Clone, Debug, Default)]
pub(crate) enum KeySet {
    #[default]
    None,
    /// As most leases have it: nothing is allocated.
    One(Key),
    Few(Vec<Key>),
    Many(BTreeSet<Key>),
}

impl KeySet {
    pub(crate) fn insert(&mut self, key: Key) {
        match self {
            Self::None => *self = Self::One(key),
            Self::One(one) if *one == key => {}
            Self::One(one) => {
                let mut keys = vec![std::mem::replace(one, key.clone()), key];
                keys.sort_unstable();
                *self = Self::Few(keys);
            }
            Self::Few(keys) => {
                if let Err(place) = keys.binary_search(&key) {
                    if keys.len() == FEW {
                        let mut many: BTreeSet<Key> = std::mem::take(keys).into_iter().collect();
                        many.insert(key);
                        *self = Self::Many(many);
                    } else {
                        keys.insert(place, key);
                    }
                }
            }
            Self::Many(keys) => drop(keys.insert(key)),
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        match self {
            Self::One(one) if one == key => *self = Self::None,
            Self::None | Self::One(_) => {}
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
            Self::None => 0,
            Self::One(_) => 1,
            Self::Few(keys) => keys.len(),
            Self::Many(keys) => keys.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        let (few, many): (&[Key], _) = match self {
            Self::None => (&[], None),
            Self::One(key) => (std::slice::from_ref(key), None),
            Self::Few(keys) => (keys, None),
            Self::Many(keys) => (&[], Some(keys)),
        };
        few.iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_stays_in_order_as_it_grows_and_shrinks_again() {
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

    #[test]
    fn a_set_of_one_key_holds_it_once_and_loses_only_that() {
        let mut set = KeySet::default();
        let (one, other) = (Key::from("1"), Key::from("2"));
        set.insert(other.clone());
        set.insert(other.clone());
        set.remove(&one);
        assert!(set.iter().eq([&other]));
        set.insert(one.clone());
        assert!(set.iter().eq([&one, &other]));
        set.remove(&one);
        set.remove(&other);
        assert_eq!((set.len(), set.iter().next()), (0, None));
        let mut set = KeySet::default();
        set.insert(one.clone());
        set.remove(&one);
        assert_eq!(set.len(), 0);
    }
}
