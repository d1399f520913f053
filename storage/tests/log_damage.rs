//! Damage to the log is told from a crash, and never costs what was acknowledged.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use hither_state::device::{LogDevice, LogItem, LogRecord};
use hither_storage::{DataDir, FileLog, StorageError};
use tempfile::TempDir;

const RECORDS: u64 = 400;

/// A directory whose process was killed.
struct Killed {
    directory: TempDir,
    image: PathBuf,
}

impl Killed {
    /// It had acknowledged `RECORDS` records.
    fn new() -> Self {
        Self::after(|log, _| append_each(log, 1..=RECORDS, true)).0
    }

    /// It had done this with a new log, in this directory.
    fn after<T>(work: impl FnOnce(&mut FileLog, &Path) -> T) -> (Self, T) {
        let directory = tempfile::tempdir().unwrap();
        let (live, image) = (directory.path().join("live"), directory.path().join("image"));
        let (mut log, _state) = create(&live);
        let worked = work(&mut log, &live);
        crash_image(&live, &image);
        (Self { directory, image }, worked)
    }

    /// 20 records were acknowledged, up to this byte, and three more were written.
    fn behind() -> (Self, u64) {
        Self::after(|log, live| {
            append_each(log, 1..=20, true);
            let acknowledged = written(&segment(live));
            append_each(log, 21..=23, false);
            acknowledged
        })
    }

    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.directory.path().join(name);
        crash_image(&self.image, &copy);
        copy
    }
}

/// The segments of the log, the oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let mut segments = files(&data.join("log"), "seg");
    segments.sort();
    segments
}

fn segment(data: &Path) -> PathBuf {
    segments(data).remove(0)
}

/// Where what was written to a segment ends.
fn written(segment: &Path) -> u64 {
    let bytes = fs::read(segment).unwrap();
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

/// Overwrites a segment by zeros from here to its end, as if nothing had been written there.
fn clear(segment: &Path, from: u64) {
    zero(segment, from, usize::try_from(length(segment) - from).unwrap());
}

fn assert_refused(data: &Path) {
    let before = segments(data).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    let error = open(data).map(drop).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    assert_eq!(error.exit_code(), 74);
    let names: Vec<_> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with("log.")), "nothing is set aside: {names:?}");
    let after = segments(data).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    assert!(before == after, "the log stays as it is");
    assert!(open(data).is_err(), "and a second try changes nothing");
}

/// A header of the log's, as a client could write it into a value.
fn forged(cycle: u64, synced: u64, segment: u64) -> Vec<u8> {
    let mut header = [b"Hlg1".as_slice(), &9_u32.to_be_bytes()].concat();
    [cycle, synced, segment].iter().for_each(|number| header.extend(number.to_be_bytes()));
    header.extend(7_u32.to_be_bytes());
    header.extend(crc32c::crc32c(&header).to_be_bytes());
    header
}

#[test]
fn what_a_client_wrote_into_a_torn_write_is_not_taken_for_the_logs_own_word() {
    for (cycle, synced, segment_number) in
        [(u64::MAX, u64::MAX - 1, 1), (1_000, 900, 1), (1_000, 2_000, 1), (1_000, 900, 7)]
    {
        let (killed, acknowledged) = Killed::after(|log, live| {
            append_each(log, 1..=20, true);
            let acknowledged = written(&segment(live));
            let payload = forged(cycle, synced, segment_number).repeat(1_000).into();
            log.write(&[LogItem::Append(vec![LogRecord { index: 21, payload }])], false).unwrap();
            acknowledged
        });
        let segment = segment(&killed.image);
        clear(&segment, acknowledged + 20_000);
        let (log, _state) = open(&killed.image).unwrap();
        assert_eq!(indexes(&log), Some((1, 20)));
    }
}

#[test]
fn a_log_that_was_not_damaged_opens_with_every_record() {
    let killed = Killed::new();
    let (log, _state) = open(&killed.image).unwrap();
    assert_eq!(indexes(&log), Some((1, RECORDS)));
}

#[test]
fn a_flipped_byte_in_the_middle_is_damage() {
    let killed = Killed::new();
    let segment = segment(&killed.image);
    flip(&segment, written(&segment) / 2);
    assert_refused(&killed.image);
}

#[test]
fn a_log_cut_in_half_is_damage_though_what_is_left_is_whole() {
    let killed = Killed::new();
    for (name, make) in [("cut", cut as fn(&Path, u64)), ("cleared", clear)] {
        let copy = killed.copy(name);
        let half = written(&segment(&copy)) / 2;
        make(&segment(&copy), half);
        assert_refused(&copy);
    }
}

#[test]
fn a_zeroed_page_is_damage_wherever_it_lies() {
    let killed = Killed::new();
    let pages = written(&segment(&killed.image)).div_ceil(4096);
    for page in [0, 1, pages / 3, pages / 2, pages - 1] {
        let copy = killed.copy(&format!("page-{page}"));
        zero(&segment(&copy), page * 4096, 4096);
        assert_refused(&copy);
    }
}

#[test]
fn a_flipped_byte_in_the_last_record_is_damage_once_it_was_acknowledged() {
    let killed = Killed::new();
    let segment = segment(&killed.image);
    flip(&segment, written(&segment) - 40);
    assert_refused(&killed.image);
}

#[test]
fn a_flip_is_noticed_wherever_something_was_written() {
    let killed = Killed::new();
    let length = written(&segment(&killed.image));
    for step in 0..24 {
        let copy = killed.copy(&format!("flip-{step}"));
        flip(&segment(&copy), length * step / 24 + step);
        assert_refused(&copy);
        fs::remove_dir_all(copy).unwrap();
    }
}

#[test]
fn a_vote_that_vanished_is_damage() {
    let (killed, before) = Killed::after(|log, live| {
        append_each(log, 1..=10, true);
        let before = written(&segment(live));
        log.write(&[LogItem::Vote("me".into())], true).unwrap();
        before
    });
    clear(&segment(&killed.image), before);
    assert_refused(&killed.image);
}

/// After a loss of power the mark may be old. What the log says of itself has to do.
#[test]
fn damage_in_the_middle_is_noticed_with_an_old_mark() {
    let (killed, old_mark) = Killed::after(|log, live| {
        let old_mark = fs::read(live.join("durable.mark")).unwrap();
        append_each(log, 1..=100, true);
        old_mark
    });
    fs::write(killed.image.join("durable.mark"), &old_mark).unwrap();
    let segment = segment(&killed.image);
    flip(&segment, written(&segment) / 2);
    assert_refused(&killed.image);
}

#[test]
fn a_crash_at_any_byte_after_the_last_acknowledgement_is_no_damage() {
    let (killed, acknowledged) = Killed::behind();
    let image = &killed.image;
    let end = written(&segment(image));
    assert!(end > acknowledged);

    for (number, length) in (acknowledged..=end).step_by(37).chain([end]).enumerate() {
        let copy = killed.copy("copy");
        let make = if number % 2 == 0 { clear } else { cut };
        make(&segment(&copy), length);
        let (mut log, _state) = open(&copy).unwrap_or_else(|error| panic!("cut to {length} of {end}: {error}"));
        let last = indexes(&log).unwrap().1;
        assert!((20..=23).contains(&last));
        append_each(&mut log, last + 1..=30, true);
        assert_eq!(indexes(&log), Some((1, 30)), "and the log goes on");
        drop((log, _state));
        assert_eq!(indexes(&open(&copy).unwrap().0), Some((1, 30)), "and opens again");
        fs::remove_dir_all(copy).unwrap();
    }
    for length in [acknowledged - 1, acknowledged - 100, acknowledged / 2, 1, 0] {
        for make in [clear, cut] {
            let copy = killed.copy("copy");
            make(&segment(&copy), length);
            assert_refused(&copy);
            fs::remove_dir_all(copy).unwrap();
        }
    }
}

#[test]
fn garbage_where_nobody_was_told_of_anything_is_cut_off_and_kept() {
    let (killed, acknowledged) = Killed::behind();
    let image = &killed.image;
    flip(&segment(image), acknowledged + 30);
    let torn = fs::read(segment(image)).unwrap();

    let (mut log, state) = open(image).unwrap();
    assert_eq!(log.recover().unwrap().range, Some((1, 20)));
    append_each(&mut log, 21..=40, true);
    drop((log, state));
    assert_eq!(fs::read(&files(&image.join("log.damaged-1"), "seg")[0]).unwrap(), torn, "as it was");
    assert_eq!(indexes(&open(image).unwrap().0), Some((1, 40)), "the old garbage is not looked at again");
    assert!(!image.join("log.damaged-2").exists());
}

/// Does something to one of the segments.
type Damage<'d> = &'d dyn Fn(&[PathBuf]);

/// Over several segments: 20 records of 1 MiB.
fn large(path: &Path) -> Vec<PathBuf> {
    let (mut log, state) = create(path);
    for index in 1..=20 {
        let record = LogRecord { index, payload: vec![index as u8; 1 << 20].into() };
        log.write(&[LogItem::Append(vec![record])], index % 2 == 0).unwrap();
    }
    drop((log, state));
    let segments = segments(path);
    assert!(segments.len() >= 3, "{segments:?}");
    segments
}

#[test]
fn a_log_of_many_segments_opens_with_every_record_and_without_what_was_made_in_advance() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let made = large(&data);
    for _ in 0..2 {
        let (mut log, _state) = open(&data).unwrap();
        assert_eq!(log.recover().unwrap().range, Some((1, 20)));
    }
    let kept = segments(&data);
    assert!(kept.iter().all(|path| written(path) > 0), "{kept:?} of {made:?}");
}

#[test]
fn a_segment_that_is_missing_damaged_or_from_another_place_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    large(&data);
    drop(open(&data).unwrap());
    let count = segments(&data).len();
    for number in 0..count {
        let remove = |paths: &[PathBuf]| fs::remove_file(&paths[number]).unwrap();
        let flip_first = |paths: &[PathBuf]| flip(&paths[number], 50);
        let flip_middle = |paths: &[PathBuf]| flip(&paths[number], written(&paths[number]) / 2);
        let zeros = |paths: &[PathBuf]| clear(&paths[number], 0);
        let other = |paths: &[PathBuf]| {
            fs::copy(&paths[(number + 1) % count], &paths[number]).unwrap();
        };
        let damages: [Damage<'_>; 5] = [&remove, &flip_first, &flip_middle, &zeros, &other];
        for damage in damages {
            let copy = directory.path().join("copy");
            crash_image(&data, &copy);
            damage(&segments(&copy));
            assert_refused(&copy);
            fs::remove_dir_all(copy).unwrap();
        }
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

/// The contents of two writes that happened at different times under the same number.
#[test]
fn a_write_from_another_time_is_damage_though_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    let (mut log, state) = create(&one);
    append_each(&mut log, 1..=5, true);
    drop((log, state));
    crash_image(&one, &two);
    for (path, vote) in [(&one, "1"), (&two, "2")] {
        let (mut log, _state) = open(path).unwrap();
        log.write(&[LogItem::Vote(vote.into())], true).unwrap();
        append_each(&mut log, 6..=9, true);
    }
    let (ours, theirs) = (fs::read(segment(&one)).unwrap(), fs::read(segment(&two)).unwrap());
    assert_eq!(written(&segment(&one)), written(&segment(&two)));
    // The last record is that of the other time; both are of the same length, and each is whole.
    let at = ours.len() - ours.iter().rev().zip(theirs.iter().rev()).position(|(one, two)| one != two).unwrap();
    let begin = ours[..at].windows(4).rposition(|window| window == b"Hlg1").unwrap();
    let mixed = [&ours[..begin], &theirs[begin..]].concat();
    fs::write(segment(&one), mixed).unwrap();
    assert_refused(&one);
}
