//! What is to be proposed, and what has been and waits for the log.

use std::collections::BTreeSet;

/// What the leader can propose of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its holder is silent.
    Suspect,
    /// Its holder was heard again.
    Alive,
    /// Its time is over.
    Expired,
}

/// A proposal that waits for the log: no lease is in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) verdict: Verdict,
    batch: u8,
}

/// Most proposals of one kind that may wait for the log at once.
pub const PROPOSALS_IN_FLIGHT_MAX: usize = 4;

/// The proposals of one leadership, by kind.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    queues: [Queue; 3],
}

#[derive(Debug, Default)]
struct Queue {
    /// Leases that seemed to need it. Whether one still does is looked at when it is taken.
    due: BTreeSet<u32>,
    /// How many leases of each proposal still wait for the log.
    waiting: [u32; PROPOSALS_IN_FLIGHT_MAX],
}

impl Queue {
    fn free(&self) -> Option<usize> {
        self.waiting.iter().position(|&waiting| waiting == 0)
    }
}

impl Proposals {
    pub(super) fn push(&mut self, verdict: Verdict, slot: u32) {
        self.queues[verdict as usize].due.insert(slot);
    }

    pub(super) fn pop(&mut self, verdict: Verdict) -> Option<u32> {
        self.queues[verdict as usize].due.pop_first()
    }

    /// Forgets that this lease needed anything; it is in no flight.
    pub(super) fn remove(&mut self, slot: u32) {
        for queue in &mut self.queues {
            queue.due.remove(&slot);
        }
    }

    pub(super) fn is_due(&self, verdict: Verdict, slot: u32) -> bool {
        self.queues[verdict as usize].due.contains(&slot)
    }

    /// Whether something could be proposed now.
    pub(super) fn is_ready(&self) -> bool {
        self.queues.iter().any(|queue| !queue.due.is_empty() && queue.free().is_some())
    }

    /// A proposal that leases may join, if not too many of its kind wait for the log.
    pub(super) fn flight(&self, verdict: Verdict) -> Option<Flight> {
        let batch = self.queues[verdict as usize].free()?;
        Some(Flight { verdict, batch: batch as u8 })
    }

    pub(super) fn join(&mut self, flight: Flight) {
        self.queues[flight.verdict as usize].waiting[usize::from(flight.batch)] += 1;
    }

    pub(super) fn leave(&mut self, flight: Flight) {
        self.queues[flight.verdict as usize].waiting[usize::from(flight.batch)] -= 1;
    }
}
