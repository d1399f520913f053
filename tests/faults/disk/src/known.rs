//! What the mirror knows of one file.

use std::fs;
use std::io;
use std::path::Path;

/// What a kernel writes, or takes for clean, as a whole.
const PAGE_BYTES: u64 = 4096;

/// A file, or a directory, of which there is no more than the number.
pub(crate) struct Known {
    pub(crate) id: u64,
    pub(crate) unsynced: Unsynced,
    /// Bytes of it that are in the mirror.
    pub(crate) synced_bytes: u64,
    /// Pages that are not on the disk and count as clean, since their sync has failed. What is read there is what was
    /// written, until the power fails.
    pub(crate) lost: Ranges,
}

/// What of a file the mirror does not have.
#[derive(Default)]
pub(crate) struct Unsynced {
    /// Anything may have changed, its length too.
    pub(crate) all: bool,
    /// The shortest that it was, if its length was set.
    pub(crate) cut: Option<u64>,
    ranges: Vec<(u64, u64)>,
}

/// Parts of a file: where each begins and ends, in order.
#[derive(Default)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Known {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, unsynced: Unsynced::default(), synced_bytes: 0, lost: Ranges::default() }
    }

    /// Whether something of what a failed sync had left is to be written again by this.
    pub(crate) fn wrote(&mut self, from: u64, to: u64) -> bool {
        if self.lost.0.is_empty() {
            self.unsynced.wrote(from, to);
            return false;
        }
        // A byte makes its page dirty.
        let (from, to) = (from - from % PAGE_BYTES, to.next_multiple_of(PAGE_BYTES));
        self.unsynced.wrote(from, to);
        self.lost = std::mem::take(&mut self.lost).without(&Ranges::of(vec![(from, to)]));
        true
    }
}

impl Unsynced {
    fn wrote(&mut self, from: u64, to: u64) {
        match self.ranges.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => self.ranges.push((from, to)),
        }
    }

    /// Of a file of so many bytes.
    pub(crate) fn ranges(&self, bytes: u64) -> Vec<(u64, u64)> {
        if self.all { vec![(0, bytes)] } else { self.ranges.clone() }
    }
}

impl Ranges {
    pub(crate) fn of(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.sort_unstable();
        Self(ranges)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Adds the pages of these.
    pub(crate) fn add(&mut self, ranges: Vec<(u64, u64)>) {
        let pages = ranges.into_iter().map(|(from, to)| (from - from % PAGE_BYTES, to.next_multiple_of(PAGE_BYTES)));
        self.0.extend(pages);
        self.0.sort_unstable();
    }

    pub(crate) fn without(self, others: &Self) -> Self {
        let mut left = self.0;
        for &(begin, end) in &others.0 {
            let sides = |(from, to): (u64, u64)| [(from, to.min(begin)), (from.max(end), to)];
            left = left.into_iter().flat_map(sides).filter(|(from, to)| from < to).collect();
        }
        Self(left)
    }

    /// Those that were written to this file; none if there is no such file.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        let range = |line: &str| {
            let (from, to) = line.split_once(' ')?;
            Some((from.parse().ok()?, to.parse().ok()?))
        };
        let ranges: Option<Vec<_>> = text.lines().map(range).collect();
        ranges.map(Self).ok_or_else(|| io::Error::other(format!("{} is not of a mirror", path.display())))
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let lines: String = self.0.iter().map(|(from, to)| format!("{from} {to}\n")).collect();
        fs::write(path, lines)
    }
}
