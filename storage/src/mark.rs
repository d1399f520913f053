//! The file `durable.mark`: how far the log was durable, told by something other than the log.
//!
//! A log whose end was cut off at the border of a record looks like a shorter log. So after every synced write the
//! number of its cycle goes into one of two slots, by turns, each with a checksum: a crash can tear one, and the other
//! still stands. Cycles count every write that the log ever made and never go down, not even when records are
//! truncated, so nothing has to be lowered first.
//!
//! The slots are written without a sync of their own: a process that is killed leaves the mark exact, a machine that
//! loses power may leave it a few seconds old. It is never ahead of the log, so it never refuses a good one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::StorageError;
use crate::files::replace_file;

pub(crate) const FILE: &str = "durable.mark";

/// The slots lie a page apart, so that no torn page takes both.
const SLOT_STRIDE: u64 = 4096;
const MAGIC: [u8; 4] = *b"hmk1";
const SLOT_BYTES: usize = 32;

/// How far the log was durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durable {
    /// The last synced cycle.
    pub(crate) cycle: u64,
    /// One more than the index of the last record then; for the eyes of the operator.
    pub(crate) next: u64,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
    turn: u64,
}

impl Mark {
    pub(crate) fn create(directory: &Path) -> Result<(), StorageError> {
        let path = directory.join(FILE);
        let mut contents = vec![0; 2 * usize::try_from(SLOT_STRIDE).unwrap_or(4096)];
        contents[..SLOT_BYTES].copy_from_slice(&encode(Durable::default()));
        replace_file(&path, &contents).map_err(StorageError::io(&path, "write"))
    }

    pub(crate) fn open(directory: &Path) -> Result<(Self, Durable), StorageError> {
        let path = directory.join(FILE);
        let file = match OpenOptions::new().read(true).write(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::damaged(&path, "it is missing"));
            }
            other => other.map_err(StorageError::io(&path, "open"))?,
        };
        let slots = [0, 1].map(|slot| {
            let mut bytes = [0; SLOT_BYTES];
            file.read_exact_at(&mut bytes, slot * SLOT_STRIDE).ok().and_then(|()| decode(&bytes))
        });
        let newest = slots.into_iter().enumerate().filter_map(|(slot, durable)| Some((durable?, slot)));
        let Some((durable, slot)) = newest.max_by_key(|(durable, _)| durable.cycle) else {
            return Err(StorageError::damaged(&path, "both of its slots have wrong checksums"));
        };
        Ok((Self { file, path, turn: slot as u64 + 1 }, durable))
    }

    /// Notes that everything up to here is durable.
    pub(crate) fn store(&mut self, durable: Durable) -> io::Result<()> {
        self.file.write_all_at(&encode(durable), self.turn % 2 * SLOT_STRIDE)?;
        self.turn += 1;
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(StorageError::io(&self.path, "sync"))
    }
}

fn encode(durable: Durable) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&durable.cycle.to_be_bytes());
    slot[16..24].copy_from_slice(&durable.next.to_be_bytes());
    let crc = crc32c::crc32c(&slot[..28]);
    slot[28..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Durable> {
    let number = |at: usize| slot[at..at + 8].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let durable = Durable { cycle: number(8), next: number(16) };
    (encode(durable) == *slot).then_some(durable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(cycle: u64) -> Durable {
        Durable { cycle, next: cycle * 10 }
    }

    #[test]
    fn a_torn_slot_costs_one_write_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        Mark::create(directory.path()).unwrap();
        let (mut mark, fresh) = Mark::open(directory.path()).unwrap();
        assert_eq!(fresh, Durable::default());
        for cycle in 1..=5 {
            mark.store(at(cycle)).unwrap();
        }
        assert_eq!(Mark::open(directory.path()).unwrap().1, at(5));

        let tear = |slot: u64| mark.file.write_all_at(b"torn", slot * SLOT_STRIDE + 10).unwrap();
        tear((mark.turn + 1) % 2);
        let (mut again, durable) = Mark::open(directory.path()).unwrap();
        assert_eq!(durable, at(4));
        again.store(at(6)).unwrap();
        assert_eq!(Mark::open(directory.path()).unwrap().1, at(6), "the torn slot is the one written next");

        tear(0);
        tear(1);
        assert_eq!(Mark::open(directory.path()).unwrap_err().exit_code(), 74);
    }
}
