//! What the tests of the data directory share.
#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use bytes::Bytes;
use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_state::device::{LogDevice, LogItem, LogReader, LogRecord};
use hither_storage::{DataDir, FileLog, Identity, RocksState, StorageError};

pub const IDENTITY: Identity =
    Identity { cluster: ClusterId(*b"0123456789abcdef"), node: NodeId(1), created: UnixMillis(1_790_000_000_000) };

pub fn create(path: &Path) -> (FileLog, RocksState) {
    DataDir::create(path, IDENTITY).unwrap().into_devices()
}

pub fn open(path: &Path) -> Result<(FileLog, RocksState), StorageError> {
    DataDir::open(path, None).map(DataDir::into_devices)
}

/// Where a child finds its directory.
pub const DIRECTORY: &str = "HITHER_STORAGE_TEST_DIRECTORY";

/// Runs one of this file's ignored tests, which do nothing otherwise, as a process of its own on this directory.
pub fn child(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", name]).env(DIRECTORY, directory);
    command
}

/// The directory of a child; none if this is no child.
pub fn own_directory() -> Option<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from)
}

pub fn payload(index: u64) -> Bytes {
    format!("{index:0>100}").into()
}

pub fn append(index: u64) -> LogItem {
    LogItem::Append(vec![LogRecord { index, payload: payload(index) }])
}

/// A write for each index.
pub fn append_each(log: &mut FileLog, indexes: std::ops::RangeInclusive<u64>, sync: bool) {
    for index in indexes {
        log.write(&[append(index)], sync).unwrap();
    }
}

/// Everything in the log, each record with the payload that it must have.
pub fn indexes(log: &FileLog) -> Option<(u64, u64)> {
    let records = log.reader().read(0, u64::MAX, usize::MAX).unwrap();
    for record in &records {
        assert_eq!(record.payload, payload(record.index));
    }
    Some((records.first()?.index, records.last()?.index))
}

/// What a crash at this moment leaves on disk, if the machine stays up.
pub fn crash_image(of: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(of).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            crash_image(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// The files with this extension, the largest first.
pub fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort_by_key(|path| std::cmp::Reverse(length(path)));
    files
}

pub fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

pub fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

pub fn zero(path: &Path, at: u64, length: usize) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(&vec![0; length], at).unwrap();
}

pub fn cut(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}
