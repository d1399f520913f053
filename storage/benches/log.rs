//! Synced writes of the log, beside what the disk can do without a database.
//!
//! `cargo bench -p hither-storage` measures in the system's temporary directory, `cargo bench -p hither-storage -- DIR`
//! in another. One writer, one write in flight: the pipelining above it is measured elsewhere.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails should say so and end")]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_state::device::{LogDevice, LogItem, LogRecord};
use hither_storage::{DataDir, Identity};

const PAYLOAD_BYTES: usize = 256;
const FOR: Duration = Duration::from_secs(2);
/// More than the plain file is written in that time.
const FILE_BYTES: u64 = 512 << 20;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let directory = tempfile::tempdir_in(given.unwrap_or_else(std::env::temp_dir)).unwrap();
    println!("records of {PAYLOAD_BYTES} B, one synced write in flight, {} s each", FOR.as_secs());
    println!("{:<34}{:>8}{:>12}{:>12}{:>9}{:>9}", "", "records", "writes/s", "records/s", "p50 µs", "p99 µs");
    for records in [1, 4, 16, 64, 256] {
        log(&directory.path().join(records.to_string()), records);
    }
    let filled = zero_filled(&directory.path().join("filled"));
    for records in [1, 4, 16, 64, 256] {
        plain("zero-filled file, fdatasync", &filled, records);
    }
    let growing = File::create(directory.path().join("growing")).unwrap();
    for records in [1, 4, 16, 64, 256] {
        plain("growing file, fdatasync", &growing, records);
    }
}

fn log(path: &Path, records: u64) {
    let identity = Identity { cluster: ClusterId([1; 16]), node: NodeId(1), created: UnixMillis(0) };
    let (mut log, _state) = DataDir::create(path, identity).unwrap().into_devices();
    let mut next = 1;
    let payload = bytes::Bytes::from(vec![7; PAYLOAD_BYTES]);
    measure("log, synced", records, || {
        let record = |index| LogRecord { index, payload: payload.clone() };
        log.write(&[LogItem::Append((next..next + records).map(record).collect())], true).unwrap();
        next += records;
    });
}

fn zero_filled(path: &Path) -> File {
    let mut file = File::create(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros).unwrap();
    }
    file.sync_all().unwrap();
    file
}

fn plain(name: &str, mut file: &File, records: u64) {
    let bytes = vec![7; usize::try_from(records).unwrap() * PAYLOAD_BYTES];
    let filled = name.starts_with("zero");
    if filled {
        file.seek(SeekFrom::Start(0)).unwrap();
    }
    let mut written = 0;
    measure(name, records, || {
        written += bytes.len() as u64;
        if filled && written > FILE_BYTES {
            file.seek(SeekFrom::Start(0)).unwrap();
            written = bytes.len() as u64;
        }
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
    });
}

fn measure(name: &str, records: u64, mut write: impl FnMut()) {
    let start = Instant::now();
    let mut took = Vec::new();
    while start.elapsed() < FOR {
        let before = Instant::now();
        write();
        took.push(before.elapsed());
    }
    let writes = took.len() as f64 / start.elapsed().as_secs_f64();
    took.sort_unstable();
    let percentile = |of: usize| took[took.len() * of / 100].as_micros();
    let (median, high) = (percentile(50), percentile(99));
    println!("{name:<34}{records:>8}{writes:>12.0}{:>12.0}{median:>9}{high:>9}", writes * records as f64);
}
