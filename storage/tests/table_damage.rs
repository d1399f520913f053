//! Damage to the tables (SST files) of the state shows; nothing is read as if it were good.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::*;
use hither_state::device::{LogDevice, LogItem, RowChange, Space, StateDevice};
use hither_storage::{RocksState, StorageError};

const ROWS: u32 = 500;

/// A directory with tables in it, closed.
fn closed(path: &Path) {
    let (mut log, mut state) = create(path);
    append_each(&mut log, 1..=200, true);
    let row = |number: u32| RowChange::Put(Space::Kv, number.to_be_bytes().to_vec().into(), payload(number.into()));
    state.write(&(0..ROWS).map(row).collect::<Vec<_>>(), b"meta").unwrap();
    state.flush().unwrap();
    drop((log, state));
    // Opening writes the manifest anew.
    drop(open(path).unwrap());
}

fn largest_table(directory: &Path) -> PathBuf {
    files(directory, "sst").remove(0)
}

/// Everything in the state, or the first complaint.
fn whole(state: &RocksState) -> std::io::Result<Vec<(Bytes, Bytes)>> {
    let mut rows = Vec::new();
    assert_eq!(state.meta()?.as_deref(), Some(&b"meta"[..]));
    for space in Space::ALL {
        state.scan(space, &mut |key, value| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            Ok(())
        })?;
    }
    Ok(rows)
}

/// Does `damage` to copies of the file, and says how many copies were found damaged. Those that were not must be whole.
fn found(table: impl Fn(&Path) -> PathBuf, damage: impl Fn(&Path, u64)) -> u32 {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    closed(&data);
    let mut found = 0;
    for step in 0..16 {
        let copy = directory.path().join("copy");
        crash_image(&data, &copy);
        let file = table(&copy);
        damage(&file, length(&file) * step / 16 + step);
        match open(&copy) {
            Err(error @ StorageError::Damaged { .. }) => {
                assert_eq!(error.exit_code(), 74);
                found += 1;
            }
            Err(error) => panic!("{error}"),
            Ok((log, state)) => {
                assert_eq!(indexes(&log), Some((1, 200)));
                match whole(&state) {
                    Ok(rows) => assert_eq!(rows.len(), ROWS as usize),
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
                        found += 1;
                    }
                }
            }
        }
        fs::remove_dir_all(copy).unwrap();
    }
    found
}

fn of_state(data: &Path) -> PathBuf {
    largest_table(&data.join("state-1"))
}

#[test]
fn a_flipped_byte_in_a_table_shows() {
    // A few bytes of a table, such as the padding of its footer, are never read.
    assert!(found(of_state, flip) >= 14);
}

#[test]
fn zeroed_bytes_in_a_table_show() {
    assert!(found(of_state, |file, at| zero(file, at.min(length(file) - 512), 512)) >= 14);
}

#[test]
fn a_table_that_was_cut_shows() {
    assert_eq!(found(of_state, cut), 16);
}

#[test]
fn a_table_that_is_missing_shows() {
    let remove = |file: &Path, _| fs::remove_file(file).unwrap();
    assert_eq!(found(of_state, remove), 16);
}

#[test]
fn a_flipped_byte_in_a_manifest_shows() {
    let manifest = |directory: PathBuf| {
        let mut names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST")).unwrap()
    };
    assert!(found(|data| manifest(data.join("state-1")), flip) >= 14);
}

#[test]
fn a_state_older_than_the_purge_of_the_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (data, older) = (directory.path().join("data"), directory.path().join("older"));
    closed(&data);
    crash_image(&data, &older);
    let (mut log, mut state) = open(&data).unwrap();
    state.write(&[], b"newer").unwrap();
    state.flush().unwrap();
    log.write(&[LogItem::Purge { up_to: 100, last: Bytes::new() }], true).unwrap();
    drop((log, state));
    drop(open(&data).unwrap());

    fs::remove_dir_all(data.join("state-1")).unwrap();
    crash_image(&older.join("state-1"), &data.join("state-1"));
    let error = open(&data).map(drop).unwrap_err();
    assert!(error.to_string().contains("older than the purge"), "{error}");
    assert_eq!(error.exit_code(), 74);
}

#[test]
fn a_log_or_a_state_of_another_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (data, other) = (directory.path().join("data"), directory.path().join("other"));
    let mut identity = IDENTITY;
    identity.node.0 = 2;
    drop(hither_storage::DataDir::create(&other, identity).unwrap());
    for part in ["log", "state-1"] {
        drop(create(&data));
        fs::remove_dir_all(data.join(part)).unwrap();
        crash_image(&other.join(part), &data.join(part));
        let error = open(&data).map(drop).unwrap_err();
        assert!(error.to_string().contains("another data directory"), "{error}");
        fs::remove_dir_all(&data).unwrap();
    }
}
