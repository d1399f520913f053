//! How fast the engine alone is: puts through batcher, raft, log thread and apply, on disks in memory, without sockets.
//!
//! `cargo run --release -p hither-server --example engine_bench [seconds]`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hither_protocol::message::{Consistency, Put};
use hither_protocol::{ClusterId, Namespace, NodeId, UnixMillis};
use hither_server::engine::{Engine, EngineConfig};
use hither_state::device::{MemoryLog, MemoryState};
use hither_state::{Action, Command};

const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 128;

fn main() {
    let seconds = std::env::args().nth(1).map_or(3.0, |text| text.parse().expect("seconds"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!(
        "{:>9} {:>10} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "in flight", "put/s", "p50 us", "p99 us", "max us", "per sync", "cpu us"
    );
    for in_flight in [1, 16, 256, 1024] {
        runtime.block_on(measure(in_flight, Duration::from_secs_f64(seconds)));
    }
    runtime.block_on(reads());
}

async fn measure(in_flight: u64, duration: Duration) {
    let log = MemoryLog::default();
    let engine = start(&log).await;
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let (syncs, cpu, begun) = (log.syncs(), cpu_time(), Instant::now());
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let (engine, stop, next) = (engine.clone(), stop.clone(), next.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    engine.propose(put(next.fetch_add(1, Ordering::Relaxed))).await.expect("is put");
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.expect("no panic"));
    }
    let (elapsed, cpu) = (begun.elapsed(), cpu_time() - cpu);
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1e3;
    println!(
        "{in_flight:>9} {:>10.0} {:>9.0} {:>9.0} {:>9.0} {:>8.1} {:>8.1}",
        took.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
        took.len() as f64 / (log.syncs() - syncs) as f64,
        cpu.as_nanos() as f64 / 1e3 / took.len() as f64,
    );
    engine.shutdown().await;
}

async fn reads() {
    let engine = start(&MemoryLog::default()).await;
    let (begun, count) = (Instant::now(), 100_000);
    for _ in 0..count {
        engine.barrier(Consistency::Linearizable).await.expect("leads");
    }
    println!(
        "a linearizable barrier of a node alone: {:.2} us",
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    );
    engine.shutdown().await;
}

async fn start(log: &MemoryLog) -> Engine {
    let config = EngineConfig::single(NodeId(1), ClusterId([1; 16]));
    Engine::start(config, log.clone(), MemoryState::default()).await.expect("starts")
}

fn put(number: u64) -> Command {
    let key = format!("services/bench/{:08}", number % KEYS);
    let put = Put { key: key.as_str().into(), value: vec![0; VALUE_BYTES].into(), lease: None, previous: false };
    Command {
        namespace: Namespace::default(),
        principal: "bench".into(),
        retry: None,
        at: UnixMillis(0),
        action: Action::Put(put),
    }
}

/// Processor time of the process so far.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    // In hundredths of a second, after the name: user and system.
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
