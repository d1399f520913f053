//! Reads the log while its owner writes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hither_state::device::{LogReader, LogRecord};
use rocksdb::Snapshot;

use super::head::Head;
use super::run::Run;
use super::{HEAD, Shared, key};

/// Reads a [`RocksLog`](super::RocksLog). Sees each write whole, or not at all.
#[derive(Clone, Debug)]
pub struct RocksLogReader {
    shared: Arc<Shared>,
}

impl RocksLogReader {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn head(&self, snapshot: &Snapshot<'_>) -> io::Result<Head> {
        let row = snapshot.get(HEAD).map_err(|error| self.shared.error(error))?;
        Ok(row.as_deref().and_then(Head::decode).ok_or_else(|| self.shared.bad(0, "the head is unreadable"))?)
    }

    fn read_at(
        &self,
        snapshot: &Snapshot<'_>,
        mut next: u64,
        end: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<LogRecord>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut rows = snapshot.raw_iterator_cf(self.shared.runs());
        rows.seek_for_prev(key(next));
        while next < end {
            let Some((found, value)) = rows.item() else {
                rows.status().map_err(|error| self.shared.error(error))?;
                return Err(self.shared.bad(next, "it is missing").into());
            };
            let decoded = Run::decode(found, Bytes::copy_from_slice(value));
            let (run, _) = decoded.map_err(|what| self.shared.bad(next, what))?;
            if run.first > next || run.next() <= next {
                return Err(self.shared.bad(next, "it is missing").into());
            }
            let wanted = next..end;
            for record in run.into_records().filter(|record| wanted.contains(&record.index)) {
                bytes += record.payload.len();
                if bytes > bytes_max && !records.is_empty() {
                    return Ok(records);
                }
                next = record.index + 1;
                records.push(record);
            }
            rows.next();
        }
        Ok(records)
    }
}

impl LogReader for RocksLogReader {
    fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<LogRecord>> {
        let mut purged = None;
        loop {
            let snapshot = self.shared.db.snapshot();
            let head = self.head(&snapshot)?;
            let result = self.read_at(&snapshot, first.max(head.first), end.min(head.next), bytes_max);
            // The sweeper deletes whole files under old snapshots: what is missing may just have been purged.
            if result.is_err() && purged.replace(head.purged) != Some(head.purged) {
                continue;
            }
            return result;
        }
    }
}
