//! Pins: revisions that a reader still needs, so that a long list can be read in pieces as of one moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hither_protocol::Revision;

/// No revision is pinned.
const NONE: u64 = u64::MAX;

#[derive(Debug)]
struct Shared {
    /// How many pins each revision has.
    counts: Mutex<BTreeMap<Revision, usize>>,
    /// The oldest and newest pinned revision, so that apply asks without a lock. Pins are taken while the state is locked
    /// for reading, so apply never misses one.
    oldest: AtomicU64,
    newest: AtomicU64,
}

/// Keeps what the state was at one revision readable until it is dropped, however long after.
#[derive(Debug)]
pub struct Pin {
    revision: Revision,
    shared: Arc<Shared>,
}

/// The pins of one state.
#[derive(Debug)]
pub(crate) struct Pins(Arc<Shared>);

impl Default for Pins {
    fn default() -> Self {
        Self(Arc::new(Shared { counts: Mutex::default(), oldest: AtomicU64::new(NONE), newest: AtomicU64::new(0) }))
    }
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut BTreeMap<Revision, usize>)) {
        let mut counts: MutexGuard<'_, _> = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        self.oldest.store(counts.first_key_value().map_or(NONE, |(revision, _)| revision.0), Ordering::Release);
        self.newest.store(counts.last_key_value().map_or(0, |(revision, _)| revision.0), Ordering::Release);
    }
}

impl Pins {
    pub(crate) fn pin(&self, revision: Revision) -> Pin {
        self.0.update(|counts| *counts.entry(revision).or_default() += 1);
        Pin { revision, shared: Arc::clone(&self.0) }
    }

    /// Whether some pin sees an entry that was last written at `written` and is replaced now.
    pub(crate) fn see(&self, written: Revision) -> bool {
        self.0.newest.load(Ordering::Acquire) >= written.0
    }

    /// Whether no pin sees what was replaced at `replaced` or before.
    pub(crate) fn are_past(&self, replaced: Revision) -> bool {
        self.0.oldest.load(Ordering::Acquire) >= replaced.0
    }
}

impl Pin {
    /// The revision that stays readable.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        Pins(Arc::clone(&self.shared)).pin(self.revision)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.update(|counts| {
            if let Some(count) = counts.get_mut(&self.revision) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.revision);
                }
            }
        });
    }
}
