//! Reads the log while its owner writes.

use std::fs::File;
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

    /// None if some of them were purged meanwhile.
    fn try_read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Option<Vec<LogRecord>>> {
        let found = self.shared.index().find(first, end, bytes_max);
        let mut records = Vec::with_capacity(found.len());
        let mut open: Option<(u64, File)> = None;
        for (index, place) in found {
            let path = || super::segment::path(&self.shared.path, place.segment);
            // Nothing is written over, and a file that is removed lives as long as it is open. Who reads is far behind, and
            // rare: no file is kept open for that.
            let file = match &mut open {
                Some((segment, file)) if *segment == place.segment => &*file,
                other => match File::open(path()) {
                    Ok(file) => &other.insert((place.segment, file)).1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_purged(index) => return Ok(None),
                    Err(error) => return Err(error),
                },
            };
            let damaged =
                |what: &str| io::Error::from(StorageError::damaged(&path(), format!("record {index}: {what}")));
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
        Ok(Some(records))
    }

    fn is_purged(&self, index: u64) -> bool {
        self.shared.index().range().is_none_or(|(first, _)| index < first)
    }
}

impl LogReader for FileLogReader {
    fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<LogRecord>> {
        loop {
            if let Some(records) = self.try_read(first, end, bytes_max)? {
                return Ok(records);
            }
        }
    }
}
