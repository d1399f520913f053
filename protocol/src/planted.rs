//! Bugs that the checker of watches must catch (docs/chaos.md): one at a time, chosen by `HITHER_PLANTED`.
//!
//! Compiled with the feature `planted` only, which the binary `hither` cannot have; `scripts/chaos` looks that it has
//! not.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable of the environment that chooses a bug by its name.
pub const VARIABLE: &str = "HITHER_PLANTED";

/// How often a bug strikes that does not strike each time.
const RARE: u64 = 2_000;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Now and then, an event is kept from the watches that follow.
    DroppedEvent,
    /// Now and then, an event is told twice.
    DoubledEvent,
    /// A watch that goes on after a revision misses the next one.
    ResumeOffByOne,
    /// A reset says nothing of the keys that are gone.
    ResetWithoutDeletes,
    /// Writes are acknowledged, and told to watches, before they are in the log.
    EventBeforeCommit,
    /// Leases end after half of their time.
    EarlyExpiry,
    /// What a session has asked for already is carried out again.
    RetryAppliedTwice,
    /// Now and then, a condition that holds is found not to, and so nothing is written.
    ConditionMissed,
    /// A watch from now on begins one revision later.
    NowTooLate,
    /// Now and then, a lease that lives is not found.
    LeaseMissed,
}

impl Bug {
    /// Every one of them.
    pub const ALL: [Self; 10] = [
        Self::DroppedEvent,
        Self::DoubledEvent,
        Self::ResumeOffByOne,
        Self::ResetWithoutDeletes,
        Self::EventBeforeCommit,
        Self::EarlyExpiry,
        Self::RetryAppliedTwice,
        Self::ConditionMissed,
        Self::NowTooLate,
        Self::LeaseMissed,
    ];

    /// What [`VARIABLE`] calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DroppedEvent => "dropped-event",
            Self::DoubledEvent => "doubled-event",
            Self::ResumeOffByOne => "resume-off-by-one",
            Self::ResetWithoutDeletes => "reset-without-deletes",
            Self::EventBeforeCommit => "event-before-commit",
            Self::EarlyExpiry => "early-expiry",
            Self::RetryAppliedTwice => "retry-applied-twice",
            Self::ConditionMissed => "condition-missed",
            Self::NowTooLate => "now-too-late",
            Self::LeaseMissed => "lease-missed",
        }
    }
}

/// Whether this is the bug that was chosen.
#[must_use]
pub fn strikes(bug: Bug) -> bool {
    static CHOSEN: OnceLock<Option<Bug>> = OnceLock::new();
    let chosen = || {
        let name = std::env::var(VARIABLE).ok()?;
        Bug::ALL.into_iter().find(|bug| bug.name() == name)
    };
    *CHOSEN.get_or_init(chosen) == Some(bug)
}

/// The same, but rarely.
#[must_use]
pub fn strikes_rarely(bug: Bug) -> bool {
    static TURNS: AtomicU64 = AtomicU64::new(0);
    strikes(bug) && TURNS.fetch_add(1, Ordering::Relaxed) % RARE == RARE - 1
}
