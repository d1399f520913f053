//! Damage to the write-ahead log of the log is told from a crash, and never costs what was acknowledged.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use hither_state::device::{LogDevice, LogItem};
use hither_storage::{DataDir, StorageError};
use rocksdb::{DB, DBRecoveryMode, IteratorMode, Options};
use tempfile::TempDir;

const RECORDS: u64 = 400;

/// A directory whose process was killed after it acknowledged `RECORDS` records.
struct Killed {
    directory: TempDir,
    image: PathBuf,
}

impl Killed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (live, image) = (directory.path().join("live"), directory.path().join("image"));
        let (mut log, _state) = create(&live);
        append_each(&mut log, 1..=RECORDS, true);
        crash_image(&live, &image);
        Self { directory, image }
    }

    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.directory.path().join(name);
        crash_image(&self.image, &copy);
        copy
    }
}

fn wal(data: &Path) -> PathBuf {
    files(&data.join("log"), "log").remove(0)
}

/// How many records RocksDB gives back by itself; each is a row here.
fn rocksdb_alone(data: &Path, mode: DBRecoveryMode) -> Result<u64, rocksdb::Error> {
    let mut options = Options::default();
    options.set_wal_recovery_mode(mode);
    let db = DB::open_cf_for_read_only(&options, data.join("log"), ["default", "log"], false)?;
    Ok(db.iterator_cf(db.cf_handle("log").unwrap(), IteratorMode::Start).count() as u64)
}

fn assert_refused(data: &Path) {
    let error = open(data).map(drop).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    assert_eq!(error.exit_code(), 74);
    let names: Vec<_> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with("log.")), "the log stays as it is: {names:?}");
    assert!(open(data).is_err(), "and a second try changes nothing");
}

#[test]
fn a_log_that_was_not_damaged_opens_with_every_record() {
    let killed = Killed::new();
    let (log, _state) = open(&killed.image).unwrap();
    assert_eq!(indexes(&log), Some((1, RECORDS)));
}

#[test]
fn a_flipped_byte_is_damage_where_rocksdb_would_open_half_the_log() {
    let killed = Killed::new();
    let middle = length(&wal(&killed.image)) / 2;
    flip(&wal(&killed.image), middle);

    let silent = rocksdb_alone(&killed.copy("alone"), DBRecoveryMode::PointInTime).unwrap();
    assert!(silent < RECORDS * 6 / 10, "RocksDB's default loses without a word: {silent} of {RECORDS} are left");
    assert_refused(&killed.image);
}

#[test]
fn a_log_cut_in_half_is_damage_where_rocksdb_sees_nothing() {
    let killed = Killed::new();
    let half = length(&wal(&killed.image)) / 2;
    cut(&wal(&killed.image), half);

    for mode in [DBRecoveryMode::PointInTime, DBRecoveryMode::TolerateCorruptedTailRecords] {
        let silent = rocksdb_alone(&killed.copy("alone"), mode).unwrap();
        assert!(silent < RECORDS * 6 / 10, "{silent} of {RECORDS} are left");
        fs::remove_dir_all(killed.directory.path().join("alone")).unwrap();
    }
    assert_refused(&killed.image);
}

#[test]
fn a_zeroed_page_is_damage_wherever_it_lies() {
    let killed = Killed::new();
    let pages = length(&wal(&killed.image)) / 4096;
    for page in [0, 1, pages / 3, pages / 2, pages - 1] {
        let copy = killed.copy(&format!("page-{page}"));
        zero(&wal(&copy), page * 4096, 4096);
        assert_refused(&copy);
    }
}

#[test]
fn a_flipped_byte_in_the_last_record_is_damage_once_it_was_acknowledged() {
    let killed = Killed::new();
    let end = length(&wal(&killed.image));
    flip(&wal(&killed.image), end - 40);
    assert_refused(&killed.image);
}

#[test]
fn a_flip_is_noticed_whatever_it_hits() {
    let killed = Killed::new();
    let length = length(&wal(&killed.image));
    for step in 0..24 {
        let copy = killed.copy(&format!("flip-{step}"));
        flip(&wal(&copy), length * step / 24 + step);
        match open(&copy) {
            Ok((log, _state)) => assert_eq!(indexes(&log), Some((1, RECORDS)), "step {step}"),
            Err(error) => assert_eq!(error.exit_code(), 74, "{error}"),
        }
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn a_vote_that_vanished_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (live, image) = (directory.path().join("live"), directory.path().join("image"));
    let (mut log, _state) = create(&live);
    append_each(&mut log, 1..=10, true);
    let before = length(&wal(&live));
    log.write(&[LogItem::Vote("me".into())], true).unwrap();
    crash_image(&live, &image);
    cut(&wal(&image), before);
    assert_refused(&image);
}

/// After a loss of power the mark may be old. What the log says of itself has to do.
#[test]
fn damage_in_the_middle_is_noticed_with_an_old_mark() {
    let directory = tempfile::tempdir().unwrap();
    let (live, image) = (directory.path().join("live"), directory.path().join("image"));
    let (mut log, _state) = create(&live);
    let old_mark = fs::read(live.join("durable.mark")).unwrap();
    append_each(&mut log, 1..=100, true);
    crash_image(&live, &image);
    fs::write(image.join("durable.mark"), &old_mark).unwrap();
    flip(&wal(&image), length(&wal(&image)) / 2);
    assert_refused(&image);
}

#[test]
fn a_crash_at_any_byte_after_the_last_acknowledgement_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (live, image) = (directory.path().join("live"), directory.path().join("image"));
    let (mut log, _state) = create(&live);
    append_each(&mut log, 1..=20, true);
    let acknowledged = length(&wal(&live));
    append_each(&mut log, 21..=23, false);
    crash_image(&live, &image);
    let end = length(&wal(&image));
    assert!(end > acknowledged);

    for length in (acknowledged..=end).step_by(37).chain([end]) {
        let copy = directory.path().join("copy");
        crash_image(&image, &copy);
        cut(&wal(&copy), length);
        let (mut log, _state) = open(&copy).unwrap_or_else(|error| panic!("cut to {length} of {end}: {error}"));
        let last = indexes(&log).unwrap().1;
        assert!((20..=23).contains(&last));
        append_each(&mut log, last + 1..=30, true);
        assert_eq!(indexes(&log), Some((1, 30)), "and the log goes on");
        drop((log, _state));
        fs::remove_dir_all(copy).unwrap();
    }
    for length in [acknowledged - 1, acknowledged - 100, acknowledged / 2, 1, 0] {
        let copy = directory.path().join("copy");
        crash_image(&image, &copy);
        cut(&wal(&copy), length);
        assert_refused(&copy);
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn garbage_where_nobody_was_told_of_anything_is_cut_off_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (live, image) = (directory.path().join("live"), directory.path().join("image"));
    let (mut log, _state) = create(&live);
    append_each(&mut log, 1..=20, true);
    let acknowledged = length(&wal(&live));
    append_each(&mut log, 21..=23, false);
    crash_image(&live, &image);
    flip(&wal(&image), acknowledged + 30);

    let alone = directory.path().join("alone");
    crash_image(&image, &alone);
    rocksdb_alone(&alone, DBRecoveryMode::TolerateCorruptedTailRecords).unwrap_err();

    let (mut log, state) = open(&image).unwrap();
    assert_eq!(log.recover().unwrap().range, Some((1, 20)));
    append_each(&mut log, 21..=40, true);
    drop((log, state));
    assert!(image.join("log.damaged-1").is_dir());
    assert_eq!(indexes(&open(&image).unwrap().0), Some((1, 40)));
}

#[test]
fn a_salvage_that_was_interrupted_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live");
    let (mut log, state) = create(&live);
    append_each(&mut log, 1..=20, true);
    drop((log, state));
    for (number, stage) in ["accepted", "set aside"].into_iter().enumerate() {
        let image = directory.path().join(format!("image-{number}"));
        crash_image(&live, &image);
        crash_image(&live.join("log"), &image.join("log.accepted"));
        fs::create_dir(image.join("log.copy")).unwrap();
        if stage == "set aside" {
            fs::rename(image.join("log"), image.join("log.damaged-1")).unwrap();
        }
        assert_eq!(indexes(&open(&image).unwrap().0), Some((1, 20)), "{stage}");
        assert!(image.join("log.damaged-1").is_dir(), "{stage}");
        assert!(!image.join("log.accepted").exists() && !image.join("log.copy").exists(), "{stage}");
    }
}

#[test]
fn a_mark_that_is_missing_or_unreadable_is_damage() {
    let killed = Killed::new();
    let (missing, unreadable) = (killed.copy("missing"), killed.copy("unreadable"));
    fs::remove_file(missing.join("durable.mark")).unwrap();
    zero(&unreadable.join("durable.mark"), 0, 8192);
    for data in [missing, unreadable] {
        assert_eq!(DataDir::open(data, None).map(drop).unwrap_err().exit_code(), 74);
    }
}

#[test]
fn an_older_copy_of_the_log_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (live, older) = (directory.path().join("live"), directory.path().join("older"));
    let (mut log, state) = create(&live);
    append_each(&mut log, 1..=5, true);
    drop((log, state));
    crash_image(&live, &older);
    let (mut log, state) = open(&live).unwrap();
    append_each(&mut log, 6..=6, true);
    drop((log, state));
    fs::remove_dir_all(live.join("log")).unwrap();
    crash_image(&older.join("log"), &live.join("log"));
    assert_refused(&live);
}
