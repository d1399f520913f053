//! Reads the log while its owner writes.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use hither_state::device::{LogReader, LogRecord};

use super::Shared;
use super::frame::{RECORD_BYTES, record_checksum};
use crate::StorageError;

/// Reads a [`FileLog`](super::FileLog). Sees each write whole, or not at all.
#[derive(Clone, Debug)]
pub struct FileLogReader {
    shared: Arc<Shared>,
}

impl FileLogReader {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl LogReader for FileLogReader {
    fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<LogRecord>> {
        // What is found stays readable: nothing is written over, and a file that is removed lives as long as it is open.
        let found = self.shared.index().find(first, end, bytes_max);
        let mut records = Vec::with_capacity(found.len());
        for (index, place, file) in found {
            let damaged = |what: &str| {
                let path = super::segment::path(&self.shared.path, place.segment);
                io::Error::from(StorageError::damaged(&path, format!("record {index}: {what}")))
            };
            let mut bytes = vec![0; RECORD_BYTES + place.length as usize];
            match file.read_exact_at(&mut bytes, place.offset) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged("it is cut off")),
                other => other?,
            }
            let mut payload = Bytes::from(bytes);
            let (length, crc) = (payload.get_u32(), payload.get_u32());
            if length != place.length || crc != record_checksum(index, &payload) {
                return Err(damaged("its checksum is wrong"));
            }
            records.push(LogRecord { index, payload });
        }
        Ok(records)
    }
}
