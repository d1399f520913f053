//! How the database of the state is opened.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{BlockBasedOptions, ColumnFamilyDescriptor, DB, LogLevel, Options, ReadOptions};

use crate::{StorageError, exit};

/// Of a scan from one end to the other.
const READAHEAD_BYTES: usize = 2 << 20;

/// The least that RocksDB takes; of these it uses ten for tables.
const OPEN_FILES_MAX: i32 = 20;

/// What RocksDB's C interface has no function for.
const MORE: &str = concat!(
    // After an error of the disk RocksDB would try again by itself. The process must end instead.
    "max_bgerror_resume_count=0;",
    // Every block is checked when it is written too, not only when it is read.
    "paranoid_file_checks=true;",
);

/// What every generation of it has.
pub(crate) fn options(path: &Path) -> Result<Options, StorageError> {
    let mut options = Options::default()
        .get_options_from_string(MORE)
        .map_err(StorageError::rocks(path, "understand its options"))?;
    options.set_paranoid_checks(true);
    // All tables are written together, so that what is on disk is a cut through all of them at one moment.
    options.set_atomic_flush(true);
    // A writer that is slowed down or stopped because compaction is behind would stall the log, or the persister.
    options.set_level_zero_slowdown_writes_trigger(1 << 30);
    options.set_level_zero_stop_writes_trigger(1 << 30);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);
    options.set_max_background_jobs(2);
    // Every table is read once, at the start, and again when it is merged: as few as it allows are kept open for that.
    options.set_max_open_files(OPEN_FILES_MAX);
    // In one piece, or each of 64 pieces would keep one.
    options.set_table_cache_num_shard_bits(0);
    // There are a few dozen tables at most. The default starts sixteen threads to open each family's.
    options.set_max_file_opening_threads(1);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    let mut table = BlockBasedOptions::default();
    // Everything is read once: at the start, and by the check of what was just written, which is all that a cache would fill
    // with.
    table.disable_cache();
    options.set_block_based_table_factory(&table);
    Ok(options)
}

/// A database that is not closed while the process ends.
pub(crate) struct Database(Option<Arc<DB>>);

impl Database {
    /// Opens or creates the database with these column families, whose options are those of the database.
    pub(crate) fn open(options: &Options, path: &Path, families: &[&str]) -> Result<Self, StorageError> {
        let families = families.iter().map(|&name| ColumnFamilyDescriptor::new(name, options.clone()));
        let db = DB::open_cf_descriptors(options, path, families).map_err(StorageError::rocks(path, "open"))?;
        let db = Arc::new(db);
        exit::opened(&db);
        exit::mind();
        Ok(Self(Some(db)))
    }
}

impl Deref for Database {
    type Target = DB;

    fn deref(&self) -> &DB {
        self.0.as_ref().expect("only `drop` takes it")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _inside = exit::enter_again();
        drop(self.0.take());
    }
}

/// For a scan that is not repeated.
pub(crate) fn scan_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_readahead_size(READAHEAD_BYTES);
    options.fill_cache(false);
    options
}
