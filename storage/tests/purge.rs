//! Purging frees the disk, those who read meanwhile are not disturbed, and few files are open.

#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use hither_state::device::{LogDevice, LogItem, LogReader, LogRecord, RowChange, Space, StateDevice};

const PAYLOAD_BYTES: usize = 64 << 10;
/// 125 MiB in all.
const RECORDS: u64 = 2_000;
const KEPT: u64 = 40;

#[test]
fn what_was_purged_is_freed_while_readers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let (mut log, _state) = create(&path);
    let (written, purged) = (AtomicU64::new(0), AtomicU64::new(0));
    let size = || files(&path.join("log"), "seg").iter().map(|file| length(file)).sum::<u64>();

    thread::scope(|scope| {
        for _ in 0..2 {
            let reader = log.reader();
            scope.spawn(|| {
                let reader = reader;
                let mut reads = 0;
                while written.load(Ordering::Acquire) < RECORDS || reads == 0 {
                    let last = written.load(Ordering::Acquire);
                    let kept = purged.load(Ordering::Acquire);
                    // From before the purge to beyond the end: what comes is one piece and reaches the end.
                    let records = reader.read(kept.saturating_sub(10), u64::MAX, usize::MAX).unwrap();
                    assert!(records.iter().zip(&records[1.min(records.len())..]).all(|(a, b)| a.index + 1 == b.index));
                    assert!(records.last().map_or(0, |record| record.index) >= last);
                    reads += 1;
                }
            });
        }
        for index in 1..=RECORDS {
            let record = LogRecord { index, payload: vec![index as u8; PAYLOAD_BYTES].into() };
            let purge = index % 20 == 0 && index > KEPT;
            log.write(&[LogItem::Append(vec![record])], purge).unwrap();
            written.store(index, Ordering::Release);
            if purge {
                let up_to = index - KEPT;
                log.write(&[LogItem::Purge { up_to, last: "".into() }], false).unwrap();
                purged.store(up_to, Ordering::Release);
            }
        }
    });
    log.write(&[LogItem::Vote("".into())], true).unwrap();

    let deadline = Instant::now() + Duration::from_secs(30);
    while size() > 48 << 20 {
        assert!(Instant::now() < deadline, "{} MiB are still on disk", size() >> 20);
        thread::yield_now();
    }
    drop((log, _state));
    let (mut log, _state) = open(&path).unwrap();
    assert_eq!(log.recover().unwrap().range, Some((RECORDS - KEPT + 1, RECORDS)));
}

/// The names in this directory, at any depth, that this process has open.
fn open_in(directory: &Path) -> Vec<PathBuf> {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    // Another test may close one meanwhile.
    let names = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    names.filter(|name| name.starts_with(directory)).collect()
}

#[test]
fn however_much_there_is_few_files_are_open() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, mut state) = create(&directory.path().join("data"));
    let payload = Bytes::from(vec![7; 1 << 20]);
    for index in 1..=60_u64 {
        log.write(&[LogItem::Append(vec![LogRecord { index, payload: payload.clone() }])], true).unwrap();
        let row = RowChange::Put(Space::Kv, index.to_be_bytes().to_vec().into(), "value".into());
        state.write(&[row], b"meta").unwrap();
        state.flush().unwrap();
    }
    assert_eq!(log.reader().read(1, 61, usize::MAX).unwrap().len(), 60);
    let segments = files(&directory.path().join("data/log"), "seg").len();
    assert!(segments > 6, "{segments} segments");
    let tables = files(&directory.path().join("data/state-1"), "sst").len();
    assert!(tables > 10, "{tables} tables");
    // Of segments the one that is written to, twice, and the next; tables that are being merged are open beside the ten.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let open = open_in(directory.path());
        let count = |end: &str| open.iter().filter(|name| name.extension().is_some_and(|of| of == end)).count();
        if count("seg") <= 3 && count("sst") <= 10 {
            break;
        }
        assert!(Instant::now() < deadline, "{open:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
