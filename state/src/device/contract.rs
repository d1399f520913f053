//! The contract of the two devices, as tests that any implementation runs.
//!
//! `open` gives the device as it is after a clean restart: the one it gave before has been dropped, and what was
//! written is there again.

use std::io;

use super::{LogDevice, LogItem, LogReader, LogRecord, RowChange, Space, StateDevice};

/// Records with these indexes, whose payloads tell the index and `term`.
#[must_use]
pub fn records(indexes: std::ops::RangeInclusive<u64>, term: u64) -> LogItem {
    let record = |index| LogRecord { index, payload: format!("{term}:{index}").into() };
    LogItem::Append(indexes.map(record).collect())
}

/// Everything that a log promises while nothing crashes.
///
/// # Panics
/// A promise is not kept.
pub fn log<L: LogDevice>(mut open: impl FnMut() -> L) {
    a_new_log_is_empty(&mut open);
    what_was_written_is_there_after_a_restart(&mut open);
    a_reader_sees_what_was_written_and_stops_where_it_must(&mut open);
    records_that_do_not_follow_are_refused(&mut open);
    a_truncation_inside_a_write_keeps_the_order(&mut open);
    a_purge_takes_the_front_and_remembers(&mut open);
    a_truncation_takes_the_end(&mut open);
    a_purge_beyond_the_end_says_where_the_log_goes_on(&mut open);
}

fn write<L: LogDevice>(log: &mut L, items: &[LogItem]) {
    log.write(items, true).expect("a write");
}

fn read<L: LogDevice>(log: &L, first: u64, end: u64) -> Vec<String> {
    let records = log.reader().read(first, end, usize::MAX).expect("a read");
    for (record, after) in records.iter().zip(records.iter().skip(1)) {
        assert_eq!(record.index + 1, after.index, "records follow each other");
    }
    let first = records.first().map(|record| record.index);
    let text = |record: &LogRecord| String::from_utf8(record.payload.to_vec()).expect("text");
    first.map(|index| format!("from {index}")).into_iter().chain(records.iter().map(text)).collect()
}

fn a_new_log_is_empty<L: LogDevice>(open: &mut impl FnMut() -> L) {
    let mut log = open();
    assert_eq!(log.recover().expect("recovery"), super::Recovered::default());
    assert!(read(&log, 0, u64::MAX).is_empty());
}

fn what_was_written_is_there_after_a_restart<L: LogDevice>(open: &mut impl FnMut() -> L) {
    let mut log = open();
    write(&mut log, &[LogItem::Vote("v1".into()), records(0..=1, 1), LogItem::Vote("v2".into()), records(2..=2, 1)]);
    log.write(&[LogItem::Committed("c".into()), records(3..=9, 1)], false).expect("a write");
    drop(log);
    let recovered = open().recover().expect("recovery");
    assert_eq!(recovered.vote.as_deref(), Some(&b"v2"[..]));
    assert_eq!(recovered.committed.as_deref(), Some(&b"c"[..]));
    assert_eq!(recovered.purged, None);
    assert_eq!(recovered.range, Some((0, 9)));
}

fn a_reader_sees_what_was_written_and_stops_where_it_must<L: LogDevice>(open: &mut impl FnMut() -> L) {
    let mut log = open();
    let reader = log.reader();
    write(&mut log, &[records(10..=10, 1)]);
    assert_eq!(reader.read(10, 11, 0).expect("a read").len(), 1, "a reader made before sees it too");
    assert_eq!(read(&log, 2, 5), ["from 2", "1:2", "1:3", "1:4"]);
    assert_eq!(read(&log, 9, 99), ["from 9", "1:9", "1:10"]);
    assert!(read(&log, 11, 99).is_empty());
    assert!(read(&log, 5, 5).is_empty());
    assert!(read(&log, 5, 4).is_empty());
    assert_eq!(reader.read(0, 99, 0).expect("a read").len(), 1, "the first record comes however small the limit");
    assert_eq!(reader.read(0, 99, 6).expect("a read").len(), 2, "payloads up to the limit");
}

fn records_that_do_not_follow_are_refused<L: LogDevice>(open: &mut impl FnMut() -> L) {
    for wrong in [12, 10] {
        let mut log = open();
        assert!(log.write(&[records(wrong..=wrong, 1)], true).is_err(), "{wrong} after 10");
        drop(log);
        assert_eq!(open().recover().expect("recovery").range, Some((0, 10)), "and nothing of it is there");
    }
}

fn a_truncation_inside_a_write_keeps_the_order<L: LogDevice>(open: &mut impl FnMut() -> L) {
    let mut log = open();
    let after = LogItem::TruncateAfter;
    write(&mut log, &[after(Some(5)), records(6..=15, 2), after(Some(12)), records(13..=14, 3), after(Some(99))]);
    write(&mut log, &[records(15..=20, 3), after(Some(17)), after(Some(16))]);
    let expected = ["from 4", "1:4", "1:5", "2:6", "2:7", "2:8", "2:9", "2:10", "2:11", "2:12"];
    assert_eq!(read(&log, 4, 13), expected);
    assert_eq!(read(&log, 13, 99), ["from 13", "3:13", "3:14", "3:15", "3:16"]);
    drop(log);
    let log = open();
    assert_eq!(read(&log, 4, 13), expected);
    assert_eq!(read(&log, 13, 99), ["from 13", "3:13", "3:14", "3:15", "3:16"]);
}

fn a_purge_takes_the_front_and_remembers<L: LogDevice>(open: &mut impl FnMut() -> L) {
    let mut log = open();
    let purge = |up_to: u64| LogItem::Purge { up_to, last: format!("p{up_to}").into() };
    write(&mut log, &[purge(3)]);
    assert_eq!(read(&log, 0, 6), ["from 4", "1:4", "1:5"]);
    write(&mut log, &[records(17..=18, 4), purge(7), records(19..=19, 4), purge(9)]);
    assert_eq!(read(&log, 0, 12), ["from 10", "2:10", "2:11"]);
    drop(log);
    let mut log = open();
    let recovered = log.recover().expect("recovery");
    assert_eq!(recovered.purged, Some((9, "p9".into())));
    assert_eq!(recovered.range, Some((10, 19)));
    assert_eq!(read(&log, 18, 99), ["from 18", "4:18", "4:19"]);
}

fn a_truncation_takes_the_end<L: LogDevice>(open: &mut impl FnMut() -> L) {
    let mut log = open();
    write(&mut log, &[LogItem::TruncateAfter(Some(9))]);
    assert!(read(&log, 0, 99).is_empty());
    drop(log);
    let mut log = open();
    assert_eq!(log.recover().expect("recovery").range, None);
    assert!(log.write(&[records(9..=9, 5)], true).is_err(), "the purge still says where the log goes on");
    drop(log);
    let mut log = open();
    write(&mut log, &[records(10..=12, 5)]);
    assert_eq!(read(&log, 0, 99), ["from 10", "5:10", "5:11", "5:12"]);
}

fn a_purge_beyond_the_end_says_where_the_log_goes_on<L: LogDevice>(open: &mut impl FnMut() -> L) {
    let mut log = open();
    write(&mut log, &[LogItem::Purge { up_to: 40, last: "p40".into() }]);
    assert!(read(&log, 0, 99).is_empty());
    drop(log);
    let mut log = open();
    let recovered = log.recover().expect("recovery");
    assert_eq!((recovered.purged, recovered.range), (Some((40, "p40".into())), None));
    assert!(log.write(&[records(13..=13, 6)], true).is_err());
    drop(log);
    let mut log = open();
    write(&mut log, &[records(41..=41, 6)]);
    drop(log);
    let mut log = open();
    assert_eq!(log.recover().expect("recovery").range, Some((41, 41)));
    assert_eq!(read(&log, 0, 99), ["from 41", "6:41"]);
}

/// Everything that a state promises while nothing crashes.
///
/// # Panics
/// A promise is not kept.
pub fn state<S: StateDevice>(mut open: impl FnMut() -> S) {
    let put = |space, key: &'static str, value: &'static str| RowChange::Put(space, key.into(), value.into());
    let mut state = open();
    assert_eq!(state.meta().expect("meta"), None, "a new state is empty");
    for space in Space::ALL {
        assert!(rows(&state, space).is_empty());
    }
    state.flush().expect("an empty flush");

    let changes = [
        put(Space::Kv, "b", "2"),
        put(Space::Kv, "a", "1"),
        put(Space::Lease, "a", "lease"),
        put(Space::Kv, "b", "3"),
        put(Space::History, "\0\0", ""),
    ];
    state.write(&changes, b"m1").expect("a write");
    assert_eq!(rows(&state, Space::Kv), ["a=1", "b=3"], "in order of keys, the last write wins");
    state.flush().expect("a flush");
    drop(state);

    let mut state = open();
    assert_eq!(state.meta().expect("meta").as_deref(), Some(&b"m1"[..]));
    assert_eq!(rows(&state, Space::Kv), ["a=1", "b=3"]);
    assert_eq!(rows(&state, Space::Lease), ["a=lease"]);
    assert_eq!(rows(&state, Space::Session), [""; 0]);
    assert_eq!(rows(&state, Space::History), ["\0\0="]);

    let changes = [
        put(Space::Kv, "c", "4"),
        RowChange::DeleteRange(Space::Kv, "a".into(), "c".into()),
        put(Space::Kv, "aa", "5"),
        RowChange::Delete(Space::Lease, "a".into()),
        RowChange::Delete(Space::Lease, "never there".into()),
        RowChange::DeleteRange(Space::History, "z".into(), "a".into()),
    ];
    state.write(&changes, b"").expect("a write");
    state.flush().expect("a flush");
    drop(state);

    let mut state = open();
    assert_eq!(state.meta().expect("meta").as_deref(), Some(&b""[..]), "an empty meta row is not none");
    assert_eq!(rows(&state, Space::Kv), ["aa=5", "c=4"]);
    assert_eq!(rows(&state, Space::Lease), [""; 0]);
    let refused = state.scan(Space::Kv, &mut |_, _| Err(io::Error::other("enough")));
    assert_eq!(refused.expect_err("what the visitor said").to_string(), "enough");

    let new = [(Space::Kv, "n", "1"), (Space::Session, "s", "2")];
    let mut rows_of_new = new.iter().map(|&(space, key, value)| (space, key.into(), value.into()));
    state.replace(&mut rows_of_new, b"m3").expect("a replacement");
    state.write(&[put(Space::Kv, "o", "2")], b"m4").expect("a write after it");
    state.flush().expect("a flush");
    drop(state);

    let mut state = open();
    assert_eq!(state.meta().expect("meta").as_deref(), Some(&b"m4"[..]));
    assert_eq!(rows(&state, Space::Kv), ["n=1", "o=2"]);
    assert_eq!(rows(&state, Space::Session), ["s=2"]);
    state.replace(&mut std::iter::empty(), b"m5").expect("a replacement by nothing");
    drop(state);
    let state = open();
    assert_eq!(state.meta().expect("meta").as_deref(), Some(&b"m5"[..]), "a replacement needs no flush");
    assert!(rows(&state, Space::Kv).is_empty());
}

fn rows<S: StateDevice>(state: &S, space: Space) -> Vec<String> {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
        Ok(())
    };
    state.scan(space, &mut visit).expect("a scan");
    rows
}
