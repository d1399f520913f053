//! Room that is kept for this node alone: the file `reserve`.
//!
//! When the disk is nearly full, puts are refused while there is still room for the rest: deletes and renewals go into
//! the log, and the state has to be made durable for the log to be cut. But whoever else writes on the disk may take that
//! room too. So a part of it is taken beforehand, and given back a piece at a time when there is no other. With room
//! again, the file grows back.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::space::{doubt, free_bytes};

pub(crate) const FILE: &str = "reserve";

/// What log and state may have to write at once: the tables in memory, and new segments.
const PIECE_BYTES: u64 = 32 << 20;
/// Two pieces: one that is given back, one for a restart.
const BYTES_MAX: u64 = 2 * PIECE_BYTES;

/// What may be gone since the last look if nobody is about to take all: far more than deletes need, and far less than
/// what fills a disk.
const STEADY_BYTES: u64 = 2 << 20;

/// The reserve of a node.
#[derive(Debug)]
pub struct Reserve {
    directory: PathBuf,
    wanted: u64,
    bytes: u64,
    /// What was free at the last look.
    seen: AtomicU64,
}

impl Reserve {
    /// That of the node in this directory, of at most half of `disk_reserve`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, disk_reserve: u64) -> Self {
        let directory = directory.into();
        // Memory is not to be taken from whoever has not enough of it.
        let wanted = if doubt(&directory).is_some() { 0 } else { BYTES_MAX.min(disk_reserve / 2) };
        Self { directory, wanted, bytes: disk_reserve, seen: AtomicU64::new(u64::MAX) }
    }

    /// Bytes that this node can still write: what is free, and what it keeps. To be asked every now and then: gives a
    /// piece back if hardly anything is free, and takes it again when there is enough. The disk may take its time.
    ///
    /// While something is filling the disk nothing is given back, since it would only take that too.
    ///
    /// # Errors
    /// The file system does not say what is free.
    pub fn keep(&self) -> io::Result<u64> {
        let free = free_bytes(&self.directory)?;
        let kept = kept_bytes(&self.directory);
        let is_steady = self.seen.swap(free, Ordering::Relaxed).abs_diff(free) < STEADY_BYTES;
        if free < PIECE_BYTES.min(self.wanted / 2) && kept > 0 && is_steady {
            give_back(&self.directory, free, kept);
        } else if kept < self.wanted && free > self.bytes.saturating_add(self.wanted) {
            take(&self.directory, self.wanted);
        }
        Ok(free.saturating_add(kept))
    }
}

/// Before the devices of a directory are opened, which they are by writing: gives back what that may need.
pub(crate) fn make_room(directory: &Path) {
    let kept = kept_bytes(directory);
    if let Ok(free) = free_bytes(directory)
        && free < PIECE_BYTES
        && kept > 0
    {
        give_back(directory, free, kept);
    }
}

fn kept_bytes(directory: &Path) -> u64 {
    std::fs::metadata(directory.join(FILE)).map_or(0, |file| file.len())
}

fn give_back(directory: &Path, free: u64, kept: u64) {
    let left = kept.saturating_sub(PIECE_BYTES.saturating_sub(free));
    let given = open(directory).and_then(|file| file.set_len(left));
    match given {
        Ok(()) => tracing::warn!(free, left, "the disk is full: a part of the reserve is used"),
        Err(error) => tracing::warn!(%error, "the disk is full, and the reserve cannot be used"),
    }
}

fn take(directory: &Path, bytes: u64) {
    let taken = open(directory).and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?));
    match taken {
        Ok(()) => tracing::debug!(bytes, "the reserve is whole"),
        // Not every file system can.
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {}
        Err(error) => tracing::warn!(%error, "no room is kept for when the disk is full"),
    }
}

fn open(directory: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_given_back_and_the_rest_is_for_later() {
        let directory = tempfile::tempdir().unwrap();
        let file = || kept_bytes(directory.path());
        take(directory.path(), BYTES_MAX);
        assert!(file() == BYTES_MAX || file() == 0, "all of it, or a file system that cannot");
        open(directory.path()).unwrap().set_len(BYTES_MAX).unwrap();
        give_back(directory.path(), 1 << 20, file());
        assert_eq!(file(), PIECE_BYTES + (1 << 20), "as much as makes a piece free");
        give_back(directory.path(), 0, file());
        give_back(directory.path(), 0, file());
        assert_eq!(file(), 0, "never more than there is");
    }

    #[test]
    fn what_is_kept_counts_as_room() {
        let directory = tempfile::tempdir().unwrap();
        let free = free_bytes(directory.path()).unwrap();
        let reserve =
            Reserve { directory: directory.path().into(), wanted: 1 << 20, bytes: u64::MAX, seen: AtomicU64::new(0) };
        open(directory.path()).unwrap().set_len(1 << 40).unwrap();
        assert!(reserve.keep().unwrap() > free.saturating_sub(1 << 30) + (1 << 40) - 1);
    }
}
