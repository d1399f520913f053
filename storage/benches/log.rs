//! What the log costs for each write, and what the disk could do without a log: `cargo bench -p hither-storage`. `TMPDIR`
//! says on which disk; in memory it says little.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_state::device::{LogDevice, LogItem, LogRecord};
use hither_storage::{DataDir, FileLog, Identity};

/// An entry with one put of 256 bytes.
const RECORD_BYTES: usize = 300;
const BATCHES: [u64; 2] = [1, 64];
/// Records that are made before the clock starts, and after which those before them are dropped: the disk stays small.
const RECORDS: u64 = 64 * 64;
/// Round which the plain file is written.
const FILE_BYTES: u64 = 16 << 20;

/// A log of its own, and the next index of it.
struct Writing {
    log: FileLog,
    next: u64,
    payload: Bytes,
}

impl Writing {
    fn new(directory: &Path) -> Self {
        let identity = Identity { cluster: ClusterId([1; 16]), node: NodeId(1), created: UnixMillis(0) };
        let directory = DataDir::create(directory, identity).expect("the directory is new");
        let (log, _state) = directory.into_devices();
        Self { log, next: 1, payload: vec![7; RECORD_BYTES].into() }
    }

    /// How long it takes to append so many batches, each with one write.
    fn time(&mut self, batches: u64, records: u64, sync: bool) -> Duration {
        let items: Vec<LogItem> = (0..batches).map(|_| self.batch(records)).collect();
        let start = Instant::now();
        for item in items {
            self.log.write(&[item], sync).expect("the disk takes it");
        }
        start.elapsed()
    }

    fn batch(&mut self, records: u64) -> LogItem {
        let first = self.next;
        self.next += records;
        LogItem::Append((first..self.next).map(|index| LogRecord { index, payload: self.payload.clone() }).collect())
    }

    fn drop_all(&mut self) {
        let purge = LogItem::Purge { up_to: self.next - 1, last: Bytes::new() };
        self.log.write(&[purge], true).expect("the disk takes it");
    }
}

fn append(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a temporary directory");
    for (name, sync) in [("append to the log", false), ("append to the log and sync", true)] {
        let mut group = criterion.benchmark_group(name);
        for records in BATCHES {
            let mut writing = Writing::new(&home.path().join(format!("{sync}-{records}")));
            group.throughput(Throughput::Elements(records));
            group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
                bencher.iter_custom(|iterations| {
                    let at_once = RECORDS / records;
                    let mut took = Duration::ZERO;
                    for from in (0..iterations).step_by(at_once as usize) {
                        took += writing.time(at_once.min(iterations - from), records, sync);
                        writing.drop_all();
                    }
                    took
                });
            });
        }
        group.finish();
    }
}

/// The limit: a file that has all its blocks, of which as many bytes are written and synced.
fn disk(criterion: &mut Criterion) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let file = File::create(home.path().join("plain")).expect("the disk takes it");
    file.write_all_at(&vec![0; FILE_BYTES as usize], 0).expect("the disk takes it");
    file.sync_all().expect("the disk takes it");
    let mut group = criterion.benchmark_group("write to a file and sync");
    for records in BATCHES {
        let (bytes, mut at) = (vec![7; records as usize * RECORD_BYTES], 0);
        group.throughput(Throughput::Elements(records));
        group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
            bencher.iter(|| {
                file.write_all_at(&bytes, at).expect("the disk takes it");
                file.sync_data().expect("the disk takes it");
                at = (at + bytes.len() as u64) % (FILE_BYTES - bytes.len() as u64);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, disk);
criterion_main!(benches);
