//! What simulations came to, in numbers.

use std::fmt;

use crate::judge::Judged;

/// What happened in all seeds together.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) seeds: u64,
    pub(super) watches: u64,
    pub(super) events: u64,
    pub(super) snapshots: u64,
    pub(super) resets: u64,
    pub(super) folded: u64,
    pub(super) liveness: u64,
    pub(super) revisions: u64,
    pub(super) answers: u64,
    pub(super) expiries: u64,
    pub(super) refused: u64,
    pub(super) leaseless: u64,
    pub(super) cuts: u64,
    pub(super) crashes: u64,
    pub(super) compactions: u64,
    pub(super) reconnects: u64,
    pub(super) resumes: u64,
    pub(super) retries: u64,
}

impl Figures {
    pub(super) fn count(&mut self, judged: &Judged) {
        self.events += judged.events;
        self.snapshots += judged.snapshots;
        self.resets += judged.resets;
        self.folded += judged.folded;
        self.liveness += judged.liveness;
    }

    fn each(&self) -> [(&'static str, u64); 18] {
        [
            ("seeds", self.seeds),
            ("watches opened", self.watches),
            ("events judged", self.events),
            ("snapshots", self.snapshots),
            ("resets", self.resets),
            ("updates with folded changes", self.folded),
            ("standings of leases among the events", self.liveness),
            ("revisions", self.revisions),
            ("answers", self.answers),
            ("revisions in which leases ended", self.expiries),
            ("requests refused", self.refused),
            ("  because a lease had ended", self.leaseless),
            ("cuts", self.cuts),
            ("crashes", self.crashes),
            ("compactions", self.compactions),
            ("reconnects", self.reconnects),
            ("watches resumed", self.resumes),
            ("requests sent again", self.retries),
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self { seeds, watches, events, snapshots, resets, folded, liveness, revisions, .. } = self;
        *seeds += other.seeds;
        *watches += other.watches;
        *events += other.events;
        *snapshots += other.snapshots;
        *resets += other.resets;
        *folded += other.folded;
        *liveness += other.liveness;
        *revisions += other.revisions;
        self.answers += other.answers;
        self.expiries += other.expiries;
        self.refused += other.refused;
        self.leaseless += other.leaseless;
        self.cuts += other.cuts;
        self.crashes += other.crashes;
        self.compactions += other.compactions;
        self.reconnects += other.reconnects;
        self.resumes += other.resumes;
        self.retries += other.retries;
    }

    /// What did not happen at all.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.each().into_iter().find(|(_, count)| *count == 0).map(|(name, _)| name)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.each().map(|(name, count)| format!("{name:<44}{count:>10}"));
        f.write_str(&lines.join("\n"))
    }
}
