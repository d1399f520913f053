//! The keys in play, and the ranges of them that are watched.

use hither::{Key, KeyRange};
use rand::Rng;
use rand::rngs::SmallRng;

const GROUPS: usize = 8;
const KEYS: usize = 24;
const COUNTERS: usize = 6;
const LEASED: usize = 32;
const STILL: usize = 40;

/// One of the keys that are written and deleted.
pub(crate) fn key(rng: &mut SmallRng) -> Key {
    format!("g{}/k{:02}", rng.random_range(0..GROUPS), rng.random_range(0..KEYS)).into()
}

/// Different ones.
pub(crate) fn keys(rng: &mut SmallRng, count: usize) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::with_capacity(count);
    while keys.len() < count {
        let key = key(rng);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Of one tens digit.
pub(crate) const NEIGHBOURS_MAX: usize = 10;

/// A few neighbours, to be deleted together.
pub(crate) fn neighbours(rng: &mut SmallRng) -> KeyRange {
    KeyRange::prefix(format!("g{}/k{}", rng.random_range(0..GROUPS), rng.random_range(0..KEYS / 10 + 1)).as_str())
}

/// A key that is changed only if it is what its writer believes.
pub(crate) fn counter(rng: &mut SmallRng) -> Key {
    format!("n/{}", rng.random_range(0..COUNTERS)).into()
}

/// Keys of a lease that nobody keeps.
pub(crate) fn leased(rng: &mut SmallRng) -> Key {
    format!("l/{:02}", rng.random_range(0..LEASED)).into()
}

/// The key of a holder who keeps its lease.
pub(crate) fn bound(holder: usize) -> Key {
    format!("b/{holder}").into()
}

/// Keys that are written once, before anything else: large, so that snapshots and resets have several pages.
pub(crate) fn still() -> impl Iterator<Item = Key> {
    (0..STILL).map(|key| format!("g{}/s{key:02}", key % GROUPS).into())
}

/// A range to be watched: the kinds take turns.
pub(crate) fn range(turn: usize, rng: &mut SmallRng) -> KeyRange {
    match turn % 8 {
        0 => KeyRange::One(key(rng)),
        1 => KeyRange::prefix(format!("g{}/", rng.random_range(0..GROUPS)).as_str()),
        2 => {
            let (from, to) = (rng.random_range(0..GROUPS / 2), rng.random_range(GROUPS / 2..GROUPS));
            KeyRange::Span(format!("g{from}/k05").into(), format!("g{to}/k17").into())
        }
        3 => KeyRange::All,
        4 => KeyRange::prefix("l/"),
        5 => KeyRange::prefix("g"),
        6 => KeyRange::One(counter(rng)),
        _ => KeyRange::Span("a".into(), "g4".into()),
    }
}

/// Every key there may be.
pub(crate) fn all() -> impl Iterator<Item = Key> {
    let grouped = (0..GROUPS).flat_map(|group| (0..KEYS).map(move |key| format!("g{group}/k{key:02}")));
    let counters = (0..COUNTERS).map(|counter| format!("n/{counter}"));
    let leased = (0..LEASED).map(|key| format!("l/{key:02}"));
    grouped.chain(counters).chain(leased).map(Key::from)
}
