//! The state on disk: RocksDB without a write-ahead log, which is a replica of memory some way behind it.
//!
//! Every write replaces the meta row in the same batch, and all column families are flushed together, so whatever a
//! crash leaves is the whole state at one meta row. Writes are counted; the count that is durable tells whether a state
//! is as new as the log needs it to be.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use bytes::Bytes;
use hither_state::device::{RowChange, Space, StateDevice};
use rocksdb::{ColumnFamily, DB, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::files::{remove_directory, replace_file, sync_directory};
use crate::lock::Lock;
use crate::rocks::Database;
use crate::{Identity, StorageError, exit, rocks};

/// Names the directory that counts. Whatever other `state-` directory there is, a crash left it.
pub(crate) const CURRENT: &str = "CURRENT_STATE";
pub(crate) const PREFIX: &str = "state-";

const META: &str = "meta";
const FAMILIES: [&str; 6] = ["default", "kv", "lease", "session", "history", META];

const META_ROW: &[u8] = b"meta";
const IDENT_ROW: &[u8] = b"ident";

/// Of the rows of a replacement, to a batch.
const REPLACE_BATCH_BYTES: usize = 1 << 20;
/// What a row takes in a batch beside its key and value, at most: kind, family, two lengths.
const ROW_OVERHEAD_BYTES: usize = 16;

/// The state of a node.
pub struct RocksState {
    db: Database,
    /// The data directory.
    directory: PathBuf,
    generation: u64,
    identity: Identity,
    /// Writes so far, over all generations.
    cut: u64,
    /// How many of them are durable.
    durable_cut: Arc<AtomicU64>,
    /// Of this process.
    flushes: u64,
    without_wal: WriteOptions,
    /// Let go of after the database is closed.
    _lock: Arc<Lock>,
}

/// How far a replacement is: a crash before `Renamed` leaves the old state, one after it the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// The directory is there, and empty.
    Created,
    /// The rows are in it.
    Written,
    /// And durable.
    Flushed,
    /// The name of the directory is in `CURRENT_STATE`.
    Renamed,
    /// The old directory is gone.
    Removed,
}

impl RocksState {
    /// Creates an empty state, the first generation.
    pub(crate) fn create(directory: &Path, identity: &Identity, lock: Arc<Lock>) -> Result<Self, StorageError> {
        let _inside = exit::enter();
        let db = create_generation(directory, 1, identity)?;
        sync_directory(directory).map_err(StorageError::io(directory, "sync"))?;
        point_at(directory, 1).map_err(StorageError::io(&directory.join(CURRENT), "write"))?;
        Ok(Self::of(db, directory, 1, identity, lock))
    }

    pub(crate) fn open(directory: &Path, identity: &Identity, lock: Arc<Lock>) -> Result<Self, StorageError> {
        let _inside = exit::enter();
        let generation = current(directory)?;
        let path = generation_path(directory, generation);
        if !path.is_dir() {
            return Err(StorageError::damaged(&path, "it is missing, and CURRENT_STATE names it"));
        }
        let db = Database::open(&options(&path)?, &path, &FAMILIES)?;
        let mut state = Self::of(db, directory, generation, identity, lock);
        let row = |name| state.db.get_cf(family(&state.db, META), name).map_err(StorageError::rocks(&path, "read"));
        if row(IDENT_ROW)?.as_deref() != Some(&identity.row()) {
            return Err(StorageError::damaged(&path, "it belongs to another data directory than IDENT says"));
        }
        if let Some((cut, _)) = state.meta_row()? {
            state.cut = cut;
            state.durable_cut.store(cut, Ordering::Release);
        }
        Ok(state)
    }

    fn of(db: Database, directory: &Path, generation: u64, identity: &Identity, lock: Arc<Lock>) -> Self {
        let mut without_wal = WriteOptions::default();
        without_wal.disable_wal(true);
        Self {
            db,
            directory: directory.into(),
            generation,
            identity: *identity,
            cut: 0,
            durable_cut: Arc::default(),
            flushes: 0,
            without_wal,
            _lock: lock,
        }
    }

    /// Removes what a crash left of other generations: only once this one is known to be what the log needs, since the file
    /// that names it may be damaged.
    pub(crate) fn remove_others(&self) -> Result<(), StorageError> {
        remove_others(&self.directory, self.generation)
    }

    /// How many writes are durable, kept up to date: what a purge of the log relies on.
    pub(crate) fn durable_cut(&self) -> &Arc<AtomicU64> {
        &self.durable_cut
    }

    fn path(&self) -> PathBuf {
        generation_path(&self.directory, self.generation)
    }

    /// The number of the write that wrote the meta row, and the row.
    fn meta_row(&self) -> Result<Option<(u64, Bytes)>, StorageError> {
        let path = self.path();
        let row = self.db.get_cf(family(&self.db, META), META_ROW).map_err(StorageError::rocks(&path, "read"))?;
        row.map(|row| {
            let cut = row.get(..8).ok_or_else(|| StorageError::damaged(&path, "its meta row is too short"))?;
            let cut = cut.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            Ok((cut, Bytes::from(row).slice(8..)))
        })
        .transpose()
    }

    pub(crate) fn replace_noting(
        &mut self,
        rows: &mut dyn Iterator<Item = (Space, Bytes, Bytes)>,
        meta: &[u8],
        reached: &mut dyn FnMut(Replaced) -> io::Result<()>,
    ) -> io::Result<()> {
        let (old, new) = (self.generation, self.generation + 1);
        let path = generation_path(&self.directory, new);
        let error = |error| io::Error::from(StorageError::rocks(&path, "write")(error));
        remove_directory(&path)?;
        let db = create_generation(&self.directory, new, &self.identity)?;
        reached(Replaced::Created)?;

        let mut batch = WriteBatch::default();
        for (space, key, value) in rows {
            batch.put_cf(family(&db, space.name()), key, value);
            if batch.size_in_bytes() >= REPLACE_BATCH_BYTES {
                db.write_opt(std::mem::take(&mut batch), &self.without_wal).map_err(error)?;
            }
        }
        let cut = self.cut + 1;
        put_meta(&mut batch, &db, cut, meta);
        db.write_opt(batch, &self.without_wal).map_err(error)?;
        reached(Replaced::Written)?;
        flush(&db).map_err(error)?;
        sync_directory(&self.directory)?;
        reached(Replaced::Flushed)?;

        point_at(&self.directory, new)?;
        reached(Replaced::Renamed)?;
        drop(std::mem::replace(&mut self.db, db));
        (self.generation, self.cut) = (new, cut);
        self.durable_cut.store(cut, Ordering::Release);
        remove_directory(&generation_path(&self.directory, old))?;
        reached(Replaced::Removed)
    }
}

impl StateDevice for RocksState {
    fn meta(&self) -> io::Result<Option<Bytes>> {
        let _inside = exit::enter();
        Ok(self.meta_row()?.map(|(_, meta)| meta))
    }

    fn scan(&self, space: Space, visit: &mut dyn FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let _inside = exit::enter();
        let rows = family(&self.db, space.name());
        for row in self.db.iterator_cf_opt(rows, rocks::scan_options(), IteratorMode::Start) {
            let (key, value) = row.map_err(StorageError::rocks(&self.path(), "read"))?;
            visit(&key, &value)?;
        }
        Ok(())
    }

    fn write(&mut self, changes: &[RowChange], meta: &[u8]) -> io::Result<()> {
        let size = |change: &RowChange| match change {
            RowChange::Put(_, key, value) => key.len() + value.len(),
            RowChange::Delete(_, key) => key.len(),
            RowChange::DeleteRange(_, from, to) => from.len() + to.len(),
        };
        // In one piece: growing it copies it as often as it doubles.
        let bytes = changes.iter().map(|change| ROW_OVERHEAD_BYTES + size(change)).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        for change in changes {
            match change {
                RowChange::Put(space, key, value) => batch.put_cf(family(&self.db, space.name()), key, value),
                RowChange::Delete(space, key) => batch.delete_cf(family(&self.db, space.name()), key),
                RowChange::DeleteRange(space, from, to) => {
                    // RocksDB refuses a range that ends before it begins.
                    if from < to {
                        batch.delete_range_cf(family(&self.db, space.name()), from, to);
                    }
                }
            }
        }
        let _inside = exit::enter();
        put_meta(&mut batch, &self.db, self.cut + 1, meta);
        self.db.write_opt(batch, &self.without_wal).map_err(StorageError::rocks(&self.path(), "write"))?;
        self.cut += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _inside = exit::enter();
        flush(&self.db).map_err(StorageError::rocks(&self.path(), "flush"))?;
        self.flushes += 1;
        // The first writes the first tables; merging them comes after some.
        if self.flushes.is_power_of_two() {
            exit::mind();
        }
        self.durable_cut.store(self.cut, Ordering::Release);
        Ok(())
    }

    fn replace(&mut self, rows: &mut dyn Iterator<Item = (Space, Bytes, Bytes)>, meta: &[u8]) -> io::Result<()> {
        let _inside = exit::enter();
        self.replace_noting(rows, meta, &mut |_| Ok(()))
    }
}

impl std::fmt::Debug for RocksState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksState").field("path", &self.path()).field("cut", &self.cut).finish_non_exhaustive()
    }
}

fn put_meta(batch: &mut WriteBatch, db: &DB, cut: u64, meta: &[u8]) {
    batch.put_cf(family(db, META), META_ROW, [&cut.to_be_bytes()[..], meta].concat());
}

fn flush(db: &DB) -> Result<(), rocksdb::Error> {
    let families = FAMILIES.map(|name| family(db, name));
    // Waits until the tables and the manifest are synced.
    db.flush_cfs_opt(&families.each_ref().map(|family| *family), &rocksdb::FlushOptions::default())
}

fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("the database was opened with this column family")
}

fn create_generation(directory: &Path, generation: u64, identity: &Identity) -> Result<Database, StorageError> {
    let path = generation_path(directory, generation);
    let mut options = options(&path)?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_error_if_exists(true);
    let db = Database::open(&options, &path, &FAMILIES)?;
    let mut without_wal = WriteOptions::default();
    without_wal.disable_wal(true);
    db.put_cf_opt(family(&db, META), IDENT_ROW, identity.row(), &without_wal)
        .and_then(|()| flush(&db))
        .map_err(StorageError::rocks(&path, "write"))?;
    Ok(db)
}

fn generation_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{generation}"))
}

fn point_at(directory: &Path, generation: u64) -> io::Result<()> {
    replace_file(&directory.join(CURRENT), format!("{PREFIX}{generation}\n").as_bytes())
}

fn current(directory: &Path) -> Result<u64, StorageError> {
    let path = directory.join(CURRENT);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StorageError::damaged(&path, "it is missing"));
        }
        other => other.map_err(StorageError::io(&path, "read"))?,
    };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.strip_prefix(PREFIX)?.strip_suffix('\n'));
    number.and_then(|number| number.parse().ok()).ok_or_else(|| StorageError::damaged(&path, "it names no state"))
}

fn remove_others(directory: &Path, generation: u64) -> Result<(), StorageError> {
    for entry in fs::read_dir(directory).map_err(StorageError::io(directory, "list it"))? {
        let entry = entry.map_err(StorageError::io(directory, "list it"))?;
        let name = entry.file_name();
        let other = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok());
        if other.is_some_and(|other| other != generation) {
            remove_directory(&entry.path()).map_err(StorageError::io(&entry.path(), "remove"))?;
        }
    }
    Ok(())
}

fn options(path: &Path) -> Result<Options, StorageError> {
    let mut options = rocks::options(path)?;
    // More than what the persister lets gather between two flushes, so that it decides when there is one.
    options.set_write_buffer_size(if cfg!(test) { 256 << 10 } else { 32 << 20 });
    options.set_max_write_buffer_number(4);
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hither_protocol::{ClusterId, NodeId, UnixMillis};

    const IDENTITY: Identity = Identity { cluster: ClusterId([7; 16]), node: NodeId(1), created: UnixMillis(5) };

    fn create(directory: &Path) -> RocksState {
        RocksState::create(directory, &IDENTITY, Arc::new(Lock::take(directory).unwrap())).unwrap()
    }

    fn open(directory: &Path) -> RocksState {
        let state = RocksState::open(directory, &IDENTITY, Arc::new(Lock::take(directory).unwrap())).unwrap();
        state.remove_others().unwrap();
        state
    }

    fn rows(state: &RocksState) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        state.scan(Space::Kv, &mut visit).unwrap();
        rows
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(&from, &to).unwrap();
            }
        }
    }

    #[test]
    fn a_crash_of_a_replacement_leaves_the_old_state_or_the_new_one() {
        use Replaced::{Created, Flushed, Removed, Renamed, Written};

        let directory = tempfile::tempdir().unwrap();
        let live = directory.path().join("live");
        fs::create_dir(&live).unwrap();
        let mut state = create(&live);
        state.write(&[RowChange::Put(Space::Kv, "old".into(), "1".into())], b"old").unwrap();
        state.flush().unwrap();

        let new: Vec<(Space, Bytes, Bytes)> =
            (0..300_u32).map(|row| (Space::Kv, row.to_be_bytes().to_vec().into(), vec![9; 10_000].into())).collect();
        let image = |step| directory.path().join(format!("{step:?}"));
        let mut reached = Vec::new();
        let mut note = |step| {
            reached.push(step);
            copy(&live, &image(step));
            Ok(())
        };
        state.replace_noting(&mut new.iter().cloned(), b"new", &mut note).unwrap();
        assert_eq!(reached, [Created, Written, Flushed, Renamed, Removed]);
        let new: Vec<_> = new.into_iter().map(|(_, key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(rows(&state), new);
        assert_eq!(state.durable_cut.load(Ordering::Acquire), 2);

        for step in reached {
            let mut state = open(&image(step));
            let meta = state.meta().unwrap().unwrap();
            if matches!(step, Renamed | Removed) {
                assert_eq!((&meta[..], rows(&state)), (&b"new"[..], new.clone()), "{step:?}");
            } else {
                assert_eq!((&meta[..], rows(&state)), (&b"old"[..], vec![(b"old".into(), b"1".into())]), "{step:?}");
            }
            let names = fs::read_dir(image(step)).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(names.filter(|name| name.to_string_lossy().starts_with(PREFIX)).count(), 1, "{step:?}");
            state.replace(&mut std::iter::empty(), b"newer").unwrap();
            assert_eq!(state.meta().unwrap().as_deref(), Some(&b"newer"[..]), "{step:?}");
        }
    }

    #[test]
    fn a_write_is_not_durable_before_a_flush_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let (live, image) = (directory.path().join("live"), directory.path().join("image"));
        fs::create_dir(&live).unwrap();
        let mut state = create(&live);
        state.write(&[], b"1").unwrap();
        state.flush().unwrap();
        state.write(&[], b"2").unwrap();
        assert_eq!(state.durable_cut.load(Ordering::Acquire), 1);
        copy(&live, &image);
        assert_eq!(open(&image).meta().unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn when_rocksdb_flushes_by_itself_it_is_a_cut_through_all_tables() {
        let directory = tempfile::tempdir().unwrap();
        let (live, image) = (directory.path().join("live"), directory.path().join("image"));
        fs::create_dir(&live).unwrap();
        let mut state = create(&live);
        for number in 1..=500_u32 {
            let row = RowChange::Put(Space::Kv, number.to_be_bytes().to_vec().into(), vec![0; 4_000].into());
            state.write(&[row], &number.to_be_bytes()).unwrap();
        }
        state.db.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).unwrap();
        copy(&live, &image);
        let state = open(&image);
        let last = rows(&state).pop().expect("the memtable was full several times").0;
        assert_eq!(state.meta().unwrap().as_deref(), Some(&last[..]));
    }
}
