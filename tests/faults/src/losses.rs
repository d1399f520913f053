//! What losses of power came to, and whether what they are to test was there when they came.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;

use crate::cut::{self, Lost};

/// What the rounds came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Losses of power.
    pub rounds: usize,
    /// Processes that were killed without one before it.
    pub kills: usize,
    /// Writes that were acknowledged, and are all there.
    pub acknowledged: usize,
    /// What the losses took.
    pub lost: Lost,
    /// Losses that left a damaged end of the log.
    pub torn: usize,
    /// Losses that found tables which the one before did not: the state was made durable between them.
    pub flushed: usize,
    /// Losses at the moment at which a segment was removed.
    pub aimed: usize,
    /// Segments that were made.
    pub segments: u64,
    /// Segments that were removed, after what was in them was purged.
    pub removed: u64,
    /// Syncs that the disk was asked for.
    pub syncs: u64,
    /// From the start of a process to its ready line, the longest.
    pub restart_max: Duration,
}

impl Figures {
    /// What the disk holds after a loss, beside what it held after the one before.
    pub(crate) fn saw(&mut self, before: &Layout, after: &Layout) {
        self.flushed += usize::from(!after.tables.is_subset(&before.tables));
        self.segments += after.newest.saturating_sub(before.newest);
        self.removed += after.oldest.saturating_sub(before.oldest);
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut lost = self.lost;
        lost += other.lost;
        Self {
            rounds: self.rounds + other.rounds,
            kills: self.kills + other.kills,
            acknowledged: self.acknowledged + other.acknowledged,
            lost,
            torn: self.torn + other.torn,
            flushed: self.flushed + other.flushed,
            aimed: self.aimed + other.aimed,
            segments: self.segments + other.segments,
            removed: self.removed + other.removed,
            syncs: self.syncs + other.syncs,
            restart_max: self.restart_max.max(other.restart_max),
        }
    }

    /// Whether the power failed beside all that it may hurt.
    ///
    /// # Errors
    /// What was not there: the rounds prove nothing of it.
    pub fn were_busy(&self, long: bool) -> anyhow::Result<()> {
        let idle = "no fault was tested";
        ensure!(self.lost.log_blocks > 0, "nothing of the log was lost in any round: {idle}: {self:?}");
        let flushed = self.flushed;
        ensure!(flushed >= if long { 5 } else { 1 }, "{flushed} losses found a state on disk: {idle}: {self:?}");
        ensure!(self.segments > 0 || self.removed > 0, "the log stayed in one segment: {idle}: {self:?}");
        if long {
            ensure!(self.segments >= 3, "{} segments were made: {idle}: {self:?}", self.segments);
            ensure!(self.removed > 0, "no segment was purged and removed: {idle}: {self:?}");
            ensure!(self.aimed > 0, "no loss fell upon the removal of a segment: {idle}: {self:?}");
            ensure!(self.torn > 0, "no loss left a damaged end of the log: {idle}: {self:?}");
            ensure!(self.lost.names > 0, "no name had changed at any loss: {idle}: {self:?}");
        }
        Ok(())
    }
}

/// What files a data directory has.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Numbers of the segments of the log.
    oldest: u64,
    newest: u64,
    /// Tables of the state.
    tables: BTreeSet<PathBuf>,
}

impl Layout {
    pub(crate) fn of(data: &Path) -> io::Result<Self> {
        let (mut segments, mut tables) = (BTreeSet::new(), BTreeSet::new());
        for name in cut::files(data)?.into_keys() {
            match name.extension().and_then(|end| end.to_str()) {
                Some("sst") => {
                    tables.insert(name);
                }
                Some("seg") if name.starts_with("log") => {
                    segments.extend(name.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
                }
                _ => {}
            }
        }
        let oldest = segments.first().copied().unwrap_or_default();
        Ok(Self { oldest, newest: segments.last().copied().unwrap_or_default(), tables })
    }
}
