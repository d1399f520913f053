//! The log on disk: RocksDB with its write-ahead log on, and one writer.
//!
//! A cycle is one `WriteBatch`: the new records as one [run](run), the vote, the marks, and always a new [head](head).
//! What is acknowledged is what a synced cycle holds, and `durable.mark` [remembers](crate::mark) the last of those
//! outside RocksDB. Opening checks every record against the head and the head against the mark: a log from which
//! something acknowledged is missing does not open, however well-formed the rest is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, mem};

use bytes::Bytes;
use hither_state::device::{LogDevice, LogItem, LogRecord, Recovered};
use rocksdb::DBRecoveryMode::{self, TolerateCorruptedTailRecords};
use rocksdb::{ColumnFamily, DB, Options, WriteBatch, WriteOptions};

use self::head::Head;
use self::run::Run;
use self::sweep::Sweeper;
use crate::lock::Lock;
use crate::mark::{Durable, Mark};
use crate::{Identity, StorageError, rocks};

mod check;
mod head;
mod reader;
mod run;
mod salvage;
mod sweep;
#[cfg(test)]
mod tests;

pub use reader::RocksLogReader;

pub(crate) const DIRECTORY: &str = "log";

/// The runs. The vote, the marks and the head are in the default column family.
const RUNS: &str = "log";
const FAMILIES: [&str; 2] = ["default", RUNS];

const HEAD: &[u8] = b"head";
const IDENT: &[u8] = b"ident";
const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";

/// A run ends when it has this much: reading one record reads its whole run.
const RUN_BYTES_MAX: usize = 256 << 10;

/// The log of a node.
#[derive(Debug)]
pub struct RocksLog {
    shared: Arc<Shared>,
    sweeper: Sweeper,
    mark: Mark,
    head: Head,
    /// The last cycle that is known to be durable.
    synced: u64,
    recovered: Recovered,
    /// Rows that a purge which is not durable yet has left dead.
    dead: Option<(u64, u64)>,
    /// How far the state is durable: what a purge relies on.
    state_cut: Arc<AtomicU64>,
}

/// What the log shares with its readers.
struct Shared {
    db: DB,
    path: PathBuf,
    /// Let go of after the database is closed.
    _lock: Arc<Lock>,
}

impl RocksLog {
    /// Creates an empty log and its mark.
    pub(crate) fn create(directory: &Path, identity: &Identity) -> Result<(), StorageError> {
        let path = directory.join(DIRECTORY);
        let mut options = options(&path, TolerateCorruptedTailRecords)?;
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_error_if_exists(true);
        let db = rocks::open(&options, &path, &FAMILIES)?;
        let mut batch = WriteBatch::default();
        batch.put(IDENT, identity.row());
        batch.put(HEAD, Head { cycle: 1, ..Head::default() }.encode());
        db.write_opt(batch, &write_options(true)).map_err(StorageError::rocks(&path, "write"))?;
        Mark::create(directory)
    }

    /// Opens the log and checks all of it. The second number is how far the state has to be durable.
    pub(crate) fn open(
        directory: &Path,
        identity: &Identity,
        lock: Arc<Lock>,
        state_cut: Arc<AtomicU64>,
    ) -> Result<(Self, u64), StorageError> {
        salvage::finish(directory)?;
        let path = directory.join(DIRECTORY);
        let (mark, durable) = Mark::open(directory)?;
        let open = || Self::open_checked(&path, TolerateCorruptedTailRecords, identity, durable, durable.cycle);
        let opened = match open() {
            Err(error @ StorageError::Damaged { .. }) => {
                salvage::attempt(directory, identity, durable, error)?;
                open()
            }
            other => other,
        };
        let (db, check::Checked { head, recovered, state_cut: needed }) = opened?;
        let shared = Arc::new(Shared { db, path, _lock: lock });
        let log = Self {
            sweeper: Sweeper::start(shared.clone())?,
            shared,
            mark,
            head,
            // Opening has moved everything from the write-ahead log into synced tables.
            synced: head.cycle,
            recovered,
            dead: None,
            state_cut,
        };
        Ok((log, needed))
    }

    fn open_checked(
        path: &Path,
        mode: DBRecoveryMode,
        identity: &Identity,
        durable: Durable,
        needed: u64,
    ) -> Result<(DB, check::Checked), StorageError> {
        let db = rocks::open(&options(path, mode)?, path, &FAMILIES)?;
        let checked = check::check(&db, path, identity, durable, needed)?;
        Ok((db, checked))
    }

    fn truncate(&self, draft: &mut Draft, after: Option<u64>) -> io::Result<()> {
        let next = after.map_or(0, |last| last.saturating_add(1));
        let head = &mut draft.head;
        if head.is_empty() || next >= head.next {
            return Ok(());
        }
        draft.touched = true;
        let runs = self.shared.runs();
        if next <= head.first {
            draft.batch.delete_range_cf(runs, key(head.row), key(head.next));
            (head.first, head.next, head.row) = (head.purged, head.purged, head.purged);
            head.anchored = head.purged > 0;
            head.chain = 0;
            return Ok(());
        }
        let (mut run, crc) = self.shared.run_with(next - 1)?;
        head.chain = crc;
        if run.next() > next {
            run.payloads.truncate(usize::try_from(next - run.first).unwrap_or(usize::MAX));
            let (value, crc) = run.encode();
            draft.batch.put_cf(runs, key(run.first), value);
            head.chain = crc;
        }
        draft.batch.delete_range_cf(runs, key(next), key(head.next));
        head.next = next;
        Ok(())
    }

    fn purge(&self, draft: &mut Draft, up_to: u64, last: &[u8]) -> io::Result<()> {
        let target = up_to.saturating_add(1);
        if target <= draft.head.purged {
            return Ok(());
        }
        draft.touched = true;
        let head = &mut draft.head;
        let dead_end = if head.is_empty() || target >= head.next {
            let end = if head.is_empty() { head.row } else { head.next };
            (head.first, head.next) = (target, target);
            (head.anchored, head.chain) = (true, 0);
            end
        } else if target > head.first {
            head.first = target;
            self.shared.run_with(target)?.0.first
        } else {
            head.row
        };
        if dead_end > head.row {
            draft.batch.delete_range_cf(self.shared.runs(), key(head.row), key(dead_end));
            draft.dead = Some((head.row, dead_end));
        }
        head.row = if head.is_empty() { target } else { dead_end };
        head.purged = target;
        head.purge = head.cycle;
        let cut = self.state_cut.load(Ordering::Acquire);
        draft.batch.put(PURGED, [&head.cycle.to_be_bytes()[..], &cut.to_be_bytes(), last].concat());
        Ok(())
    }

    fn draft(&self) -> Draft {
        let head = Head { cycle: self.head.cycle + 1, synced: self.synced, ..self.head };
        Draft { batch: WriteBatch::default(), head, open: None, open_bytes: 0, touched: false, dead: None }
    }

    fn commit(&mut self, mut draft: Draft, sync: bool) -> io::Result<()> {
        draft.close_run(self.shared.runs());
        let Draft { mut batch, head, dead, .. } = draft;
        batch.put(HEAD, head.encode());
        self.shared.db.write_opt(batch, &write_options(sync)).map_err(|error| self.shared.error(error))?;
        self.head = head;
        self.dead = match (self.dead, dead) {
            (Some((from, _)), Some((_, to))) => Some((from, to)),
            (older, newer) => newer.or(older),
        };
        if sync {
            self.synced = head.cycle;
            self.mark.store(Durable { cycle: head.cycle, next: head.next })?;
            // Not earlier: if the purge were lost, its records would be missed.
            if let Some(dead) = self.dead.take() {
                self.sweeper.sweep(dead);
            }
        }
        Ok(())
    }
}

impl LogDevice for RocksLog {
    type Reader = RocksLogReader;

    fn recover(&mut self) -> io::Result<Recovered> {
        Ok(mem::take(&mut self.recovered))
    }

    fn reader(&self) -> RocksLogReader {
        RocksLogReader::new(self.shared.clone())
    }

    /// One `WriteBatch`, unless a truncation or purge follows records in `items`: then what is before it goes first,
    /// unsynced, since it looks up rows.
    fn write(&mut self, items: &[LogItem], sync: bool) -> io::Result<()> {
        let mut draft = self.draft();
        for item in items {
            if draft.touched && matches!(item, LogItem::TruncateAfter(_) | LogItem::Purge { .. }) {
                self.commit(draft, false)?;
                draft = self.draft();
            }
            match item {
                LogItem::Append(records) => draft.append(self.shared.runs(), records)?,
                LogItem::TruncateAfter(after) => self.truncate(&mut draft, *after)?,
                LogItem::Purge { up_to, last } => self.purge(&mut draft, *up_to, last)?,
                LogItem::Vote(vote) => {
                    draft.head.vote = draft.head.cycle;
                    draft.batch.put(VOTE, [&draft.head.cycle.to_be_bytes()[..], vote].concat());
                }
                LogItem::Committed(committed) => draft.batch.put(COMMITTED, committed),
            }
        }
        self.commit(draft, sync)
    }
}

impl Drop for RocksLog {
    fn drop(&mut self) {
        // Only sharpens what a loss of power leaves; an error has nobody to go to.
        drop(self.mark.sync());
    }
}

/// A cycle before it is written.
struct Draft {
    batch: WriteBatch,
    head: Head,
    /// The run that takes the next record.
    open: Option<Run>,
    open_bytes: usize,
    /// Whether it changes runs, so that the database cannot be asked about them.
    touched: bool,
    dead: Option<(u64, u64)>,
}

impl Draft {
    fn append(&mut self, runs: &ColumnFamily, records: &[LogRecord]) -> io::Result<()> {
        for LogRecord { index, payload } in records {
            let head = &mut self.head;
            if head.anchored && *index != head.next {
                let next = head.next;
                return Err(io::Error::other(format!("record {index} cannot follow: the log goes on at {next}")));
            }
            if head.is_empty() {
                (head.first, head.row, head.anchored) = (*index, *index, true);
            }
            head.next = index + 1;
            self.touched = true;
            let chain = head.chain;
            let open = self.open.get_or_insert_with(|| Run { first: *index, chain, payloads: Vec::new() });
            open.payloads.push(payload.clone());
            self.open_bytes += payload.len();
            if self.open_bytes >= RUN_BYTES_MAX {
                self.close_run(runs);
            }
        }
        Ok(())
    }

    fn close_run(&mut self, runs: &ColumnFamily) {
        if let Some(run) = self.open.take() {
            let (value, crc) = run.encode();
            self.batch.put_cf(runs, key(run.first), value);
            self.head.chain = crc;
            self.open_bytes = 0;
        }
    }
}

impl Shared {
    fn runs(&self) -> &ColumnFamily {
        runs(&self.db)
    }

    fn error(&self, error: rocksdb::Error) -> io::Error {
        StorageError::rocks(&self.path, "use it")(error).into()
    }

    /// The run that holds this record, which is there, and its checksum.
    fn run_with(&self, index: u64) -> io::Result<(Run, u32)> {
        let mut rows = self.db.raw_iterator_cf(self.runs());
        rows.seek_for_prev(key(index));
        if let Some((found, value)) = rows.item() {
            let (run, crc) = Run::decode(found, Bytes::copy_from_slice(value)).map_err(|what| self.bad(index, what))?;
            if run.next() > index {
                return Ok((run, crc));
            }
        }
        rows.status().map_err(|error| self.error(error))?;
        Err(self.bad(index, "it is missing").into())
    }

    fn bad(&self, index: u64, what: &str) -> StorageError {
        StorageError::damaged(&self.path, format!("the row of record {index}: {what}"))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

fn runs(db: &DB) -> &ColumnFamily {
    db.cf_handle(RUNS).expect("the database was opened with this column family")
}

fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

fn write_options(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}

fn options(path: &Path, mode: DBRecoveryMode) -> Result<Options, StorageError> {
    let mut options = rocks::options(path)?;
    options.set_wal_recovery_mode(mode);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_write_buffer_size(16 << 20);
    options.set_max_write_buffer_number(4);
    if cfg!(test) {
        options.enable_statistics();
    }
    Ok(options)
}
