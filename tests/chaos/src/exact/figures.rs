//! What a run came to, in numbers, and whether it proved anything.

use std::fmt;

use hither::Metrics;

use super::Options;
use super::faults::Done;
use super::readers::Floors;
use super::watchers::{Watcher, sum};
use super::world::World;
use crate::finding::{Finding, Kind};
use crate::judge::Judged;
use crate::verdict::Writes;

/// The numbers of a run.
#[derive(Debug)]
pub(crate) struct Figures {
    watchers: usize,
    opened: u64,
    judged: Judged,
    revisions: u64,
    requests: u64,
    writes: Writes,
    lists: u64,
    done: Done,
    swallowed: u64,
    spoiled: u64,
    compactions: u64,
    metrics: Metrics,
}

impl Figures {
    pub(crate) fn gather(
        world: &World,
        watchers: &[Watcher],
        floors: &Floors,
        lists: u64,
        done: Done,
        writes: Writes,
    ) -> Self {
        let each = watchers.iter().map(Watcher::judged);
        let (judged, opened) =
            each.fold((Judged::default(), 0), |(all, opened), (one, more)| (sum(all, one), opened + more));
        let counts = world.relays().iter().map(hither_tests::relay::Relay::counts);
        let (swallowed, spoiled) = counts.fold((0, 0), |(swallowed, spoiled), counts| {
            (swallowed + counts.swallowed, spoiled + counts.lost + counts.duplicated + counts.reordered)
        });
        let history = world.truth.read();
        Self {
            watchers: watchers.len(),
            opened,
            judged,
            revisions: history.head().0 - history.base().0,
            requests: writes.requests,
            writes,
            lists,
            done,
            swallowed,
            spoiled,
            compactions: floors.compactions(),
            metrics: world.metrics(),
        }
    }

    /// A run in which something that was to happen did not proves nothing.
    pub(crate) fn check(&self, options: &Options) -> Result<(), Finding> {
        let Self { judged, writes, done, metrics, .. } = self;
        // Of the five times a second that it is looked: a floor rises only if enough was written since the last time.
        let compactions = options.seconds;
        // Whoever asks for no faults is told that nothing was proved.
        let (cuts, kills) = (options.cuts.max(1) as u64, options.kills.max(1) as u64);
        let least = [
            ("watchers", self.watchers as u64, options.watchers as u64),
            ("cuts", done.cuts as u64, cuts),
            ("kills", done.kills as u64, kills),
            // The first kills may come before anything is on disk.
            ("starts from a state on disk", done.stored as u64, (kills / 2).max(1)),
            ("starts on a log that was purged", done.shortened as u64, (kills / 2).max(1)),
            ("datagrams swallowed by cuts", self.swallowed, cuts),
            ("datagrams lost, doubled or overtaken", self.spoiled, 1),
            ("reconnects", metrics.reconnects, cuts / 10 + kills),
            ("watches resumed", metrics.watch_resumes, cuts / 10 + kills),
            ("requests sent again", metrics.retries, 1),
            ("compactions", self.compactions, compactions),
            ("resets", judged.resets, 1),
            ("snapshots", judged.snapshots, 1),
            ("updates with several events of one revision", judged.transactions, 1),
            ("updates with folded changes", judged.folded, 1),
            ("standings of leases", judged.liveness, 1),
            ("events whose entry before was forgotten", judged.forgotten, 1),
            ("requests without effect", writes.nothing, 1),
            ("watches from now on", writes.openings, 1),
            ("acknowledged writes", writes.acknowledged, options.seconds),
            ("leases that ended by themselves", writes.expiries, 1),
            ("requests refused since a lease had ended", writes.leaseless, 1),
            ("lists compared", self.lists, 1),
        ];
        for (what, is, least) in least {
            if is < least {
                let what = format!("{what}: {is}, at least {least} were to be\n{self}");
                return Err(Finding::new(Kind::Idle, "the run", what));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { judged, writes, done, metrics, .. } = self;
        let mut line = |name: &str, value: u64| writeln!(f, "{name:<44}{value:>10}");
        line("watchers", self.watchers as u64)?;
        line("watches that they opened", self.opened)?;
        line("events judged", judged.events)?;
        line("updates judged", judged.updates)?;
        line("  snapshots", judged.snapshots)?;
        line("  resets", judged.resets)?;
        line("  with folded changes", judged.folded)?;
        line("  with several events of one revision", judged.transactions)?;
        line("standings of leases among the events", judged.liveness)?;
        line("events whose entry before was forgotten", judged.forgotten)?;
        line("revisions", self.revisions)?;
        line("requests", self.requests)?;
        line("  acknowledged and effective", writes.acknowledged)?;
        line("  acknowledged and without effect", writes.nothing)?;
        line("  unknown to their writer: took effect", writes.unknown_done)?;
        line("  unknown to their writer: did not", writes.unknown_lost)?;
        line("refused, those of leases among them", writes.refused)?;
        line("  because a lease had ended", writes.leaseless)?;
        line("transactions of several keys", writes.transactions)?;
        line("revisions in which leases ended", writes.expiries)?;
        line("  of them kept by a client, which knew", writes.lost)?;
        line("watches from now on", writes.openings)?;
        line("lists compared", self.lists)?;
        line("cuts", done.cuts as u64)?;
        line("  datagrams swallowed", self.swallowed)?;
        line("spells of loss and disorder", done.spoils as u64)?;
        line("  datagrams lost, doubled or overtaken", self.spoiled)?;
        line("changes of address", done.rebinds as u64)?;
        line("kills", done.kills as u64)?;
        line("  starts from a state on disk", done.stored as u64)?;
        line("  starts on a log that was purged", done.shortened as u64)?;
        line("purges of the log", done.purges)?;
        line("compactions", self.compactions)?;
        line("reconnects", metrics.reconnects)?;
        line("watches resumed", metrics.watch_resumes)?;
        line("requests sent again", metrics.retries)?;
        line("sessions lost", metrics.sessions_lost)?;
        line("gaps that the client noticed", metrics.watch_gaps)?;
        write!(f, "{:<44}{:>10}", "events that the client dropped as known", metrics.watch_duplicates)
    }
}
