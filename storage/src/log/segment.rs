//! A segment: a file of the log, full of zeros before anything is written to it.
//!
//! Appending to a file makes the file system write down its new length and where its blocks are, which costs a synced
//! write as much again as the write itself. In a file whose blocks were all written before, a sync is the data and
//! nothing else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::files::sync_directory;

/// Bytes of a segment when it is made. A frame goes beyond them only if it is very large itself.
pub(super) const SEGMENT_BYTES: u64 = 8 << 20;
/// Filled in pieces. Beside a log each is synced before the next, so that a write of the log never waits for more than one of them.
const PIECE_BYTES: usize = 512 << 10;

const EXTENSION: &str = "seg";

/// The file of a segment that may be written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: File,
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}.{EXTENSION}"))
}

/// The numbers of the segments that are there, in order.
pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            numbers.extend(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Segment {
    /// The first segment of a log, filled, itself and its name durable. Nothing is written beside it.
    pub(super) fn create_first(directory: &Path, number: u64) -> io::Result<Self> {
        Self::create_filled(directory, number, |_| Ok(()))
    }

    /// Another, beside which the log is written to.
    pub(super) fn create(directory: &Path, number: u64) -> io::Result<Self> {
        Self::create_filled(directory, number, File::sync_data)
    }

    fn create_filled(directory: &Path, number: u64, piece: impl Fn(&File) -> io::Result<()>) -> io::Result<Self> {
        let segment = Self::create_empty(directory, number)?;
        let zeros = vec![0; PIECE_BYTES];
        for at in (0..SEGMENT_BYTES).step_by(PIECE_BYTES) {
            segment.file.write_all_at(&zeros, at)?;
            piece(&segment.file)?;
        }
        segment.file.sync_all()?;
        Ok(segment)
    }

    /// A new segment that grows as it is written: slower, and as good.
    pub(super) fn create_empty(directory: &Path, number: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path(directory, number))?;
        sync_directory(directory)?;
        Ok(Self { number, file })
    }

    /// One that is there.
    pub(super) fn open(directory: &Path, number: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path(directory, number))?;
        Ok(Self { number, file })
    }
}
