use std::time::{Duration, Instant};

use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_state::device::LogReader;
use tempfile::TempDir;

use super::*;

const IDENTITY: Identity = Identity { cluster: ClusterId([7; 16]), node: NodeId(1), created: UnixMillis(5) };

fn open(directory: &Path) -> Result<RocksLog, StorageError> {
    let lock = Arc::new(Lock::take(directory).unwrap());
    RocksLog::open(directory, &IDENTITY, lock, Arc::default()).map(|(log, _)| log)
}

fn create() -> (TempDir, RocksLog) {
    let directory = tempfile::tempdir().unwrap();
    RocksLog::create(directory.path(), &IDENTITY).unwrap();
    let log = open(directory.path()).unwrap();
    (directory, log)
}

fn records(indexes: std::ops::RangeInclusive<u64>, payload: &[u8]) -> LogItem {
    LogItem::Append(indexes.map(|index| LogRecord { index, payload: Bytes::copy_from_slice(payload) }).collect())
}

/// The syncs of the write-ahead log, as RocksDB counts them.
fn syncs(log: &RocksLog) -> u64 {
    let statistics = log.shared.db.property_value("rocksdb.options-statistics").unwrap().unwrap();
    let line = statistics.lines().find_map(|line| line.strip_prefix("rocksdb.wal.synced COUNT : "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_synced_write_waits_for_one_sync_of_the_disk_and_another_for_none() {
    let (_directory, mut log) = create();
    let before = syncs(&log);
    for index in 1..=10 {
        log.write(&[records(index..=index, b"x"), LogItem::Vote("v".into())], index % 2 == 0).unwrap();
    }
    assert_eq!(syncs(&log) - before, 5);
}

#[test]
fn purged_files_go_without_waiting_for_a_compaction() {
    let (_directory, mut log) = create();
    let db = &log.shared.clone().db;
    let tables = || db.live_files().unwrap().iter().filter(|file| file.column_family_name == RUNS).count();
    for round in 0..5 {
        log.write(&[records(round * 10 + 1..=round * 10 + 10, &[1; 10_000])], true).unwrap();
        db.flush_cf(runs(db)).unwrap();
        // Down from level 0, where files are not looked at.
        db.compact_range_cf(runs(db), Some(key(round * 10 + 1)), Some(key(round * 10 + 10)));
    }
    assert_eq!(tables(), 5);
    log.write(&[LogItem::Purge { up_to: 39, last: "".into() }], true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while tables() > 2 {
        assert!(Instant::now() < deadline, "{} files are left", tables());
        std::thread::yield_now();
    }
    assert_eq!(log.reader().read(0, 99, 0).unwrap()[0].index, 40);
}

/// Puts a row back as it was before, as if the writes after it had been skipped.
#[test]
fn a_row_from_another_time_is_noticed_though_it_is_whole() {
    let (directory, mut log) = create();
    let row = |log: &RocksLog, name: &[u8]| log.shared.db.get(name).unwrap().unwrap();
    log.write(&[records(1..=5, b"1"), LogItem::Vote("1".into())], true).unwrap();
    log.write(&[records(6..=10, b"1"), LogItem::Purge { up_to: 2, last: "2".into() }], true).unwrap();
    let old_run = log.shared.db.get_cf(log.shared.runs(), key(6)).unwrap().unwrap();
    let (old_vote, old_purge, old_head) = (row(&log, VOTE), row(&log, PURGED), row(&log, HEAD));
    log.write(&[LogItem::TruncateAfter(Some(5)), records(6..=10, b"2"), LogItem::Vote("2".into())], true).unwrap();
    log.write(&[LogItem::Purge { up_to: 3, last: "3".into() }, records(11..=12, b"2")], true).unwrap();
    let (run, vote, purge, head) = {
        let run = log.shared.db.get_cf(log.shared.runs(), key(6)).unwrap().unwrap();
        (run, row(&log, VOTE), row(&log, PURGED), row(&log, HEAD))
    };
    drop(log);

    let with = |change: &dyn Fn(&DB)| {
        let path = directory.path().join(DIRECTORY);
        let db = rocks::open(&options(&path, TolerateCorruptedTailRecords).unwrap(), &path, &FAMILIES).unwrap();
        change(&db);
        drop(db);
        open(directory.path()).map(drop).map_err(|error| error.to_string())
    };
    let refused = |result: Result<(), String>, why: &str| {
        let error = result.unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    refused(with(&|db| db.put_cf(runs(db), key(6), &old_run).unwrap()), "does not continue");
    refused(with(&|db| db.delete_cf(runs(db), key(6)).unwrap()), "the one before ends at 6");
    refused(with(&|db| db.delete_cf(runs(db), key(1)).unwrap()), "should not be the first");
    let restore = |db: &DB| db.put_cf(runs(db), key(6), &run).unwrap();
    refused(with(&|db| (restore(db), db.delete_cf(runs(db), key(1)).unwrap()).1), "should not be the first");
    let first = Run { first: 1, chain: 0, payloads: vec!["1".into(); 5] }.encode().0;
    with(&|db| db.put_cf(runs(db), key(1), &first).unwrap()).expect("the log is whole again");

    let beyond = Run { first: 13, chain: 0, payloads: vec!["1".into()] }.encode().0;
    refused(with(&|db| db.put_cf(runs(db), key(13), &beyond).unwrap()), "does not continue");
    with(&|db| db.delete_cf(runs(db), key(13)).unwrap()).expect("the log is whole again");
    refused(with(&|db| db.put(VOTE, &old_vote).unwrap()), "its vote");
    with(&|db| db.put(VOTE, &vote).unwrap()).expect("the log is whole again");
    refused(with(&|db| db.put(PURGED, &old_purge).unwrap()), "its purge");
    with(&|db| db.put(PURGED, &purge).unwrap()).expect("the log is whole again");
    refused(with(&|db| db.put(HEAD, &old_head).unwrap()), "acknowledged writes are missing");
    with(&|db| db.put(HEAD, &head).unwrap()).expect("the log is whole again");
}
