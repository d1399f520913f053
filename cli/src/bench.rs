//! `hither bench`: a simple load against a running server, with percentiles.
//!
//! Closed loop: each of `--in-flight` callers asks again when it is answered. That measures what a client sees at this
//! load; it does not measure what an overloaded server does to callers that do not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use hither::{Client, Event, KeyRange, Start};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::session::{Global, duration};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Durable writes.
    Put,
    /// Linearizable reads.
    Get,
    /// From a write's beginning until a watcher on another connection has its event.
    Watch,
}

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    load: Load,
    /// For how long.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    duration: Duration,
    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Requests under way at once, over all connections.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: u16,
    /// Bytes in a value.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    value_bytes: usize,
    /// Different keys. They are deleted in the end.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
}

#[derive(Serialize)]
struct Outcome {
    load: &'static str,
    connections: u16,
    in_flight: u16,
    value_bytes: usize,
    seconds: f64,
    operations: u64,
    errors: u64,
    per_second: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

pub(crate) async fn run(global: &Global, args: BenchArgs) -> Result<(), Failure> {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(global.connect().await?);
    }
    // A prefix of its own, so that two runs do not meet.
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let prefix = format!("hither-bench/{run:x}/");
    let measured = measure(global, &args, &clients, &prefix).await;
    let cleaned = clients[0].delete_range(KeyRange::prefix(prefix.as_str())).await;
    for client in &clients {
        client.close().await;
    }
    let outcome = measured?;
    cleaned?;
    let lines = format!(
        "{} {} in {:.1} s, {} failed: {:.0}/s\n{} connections, {} in flight, values of {} bytes\n\
         p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        outcome.operations,
        match args.load {
            Load::Put => "durable writes",
            Load::Get => "linearizable reads",
            Load::Watch => "writes seen by a watcher",
        },
        outcome.seconds,
        outcome.errors,
        outcome.per_second,
        outcome.connections,
        outcome.in_flight,
        outcome.value_bytes,
        micros(outcome.p50_us),
        micros(outcome.p90_us),
        micros(outcome.p99_us),
        micros(outcome.p999_us),
        micros(outcome.max_us),
    );
    global.printer().fact(&lines, &outcome, &lines)?;
    Ok(())
}

fn micros(us: u64) -> String {
    if us < 10_000 { format!("{us} us") } else { format!("{:.1} ms", us as f64 / 1_000.0) }
}

async fn measure(global: &Global, args: &BenchArgs, clients: &[Client], prefix: &str) -> Result<Outcome, Failure> {
    let value = Bytes::from(vec![b'x'; args.value_bytes]);
    let keys = if args.load == Load::Watch { u64::from(args.in_flight) } else { args.keys };
    if args.load == Load::Get {
        for number in 0..keys {
            clients[0].put(format!("{prefix}{number}"), value.clone()).await?;
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    let begin = Instant::now();
    for caller in 0..u64::from(args.in_flight) {
        let client = clients[usize::try_from(caller).unwrap_or_default() % clients.len()].clone();
        let (stop, next, value, prefix) = (Arc::clone(&stop), Arc::clone(&next), value.clone(), prefix.to_owned());
        match args.load {
            Load::Put => callers.spawn(repeat(stop, async move || {
                let key = format!("{prefix}{}", next.fetch_add(1, Ordering::Relaxed) % keys);
                client.put(key, value.clone()).await.map(drop)
            })),
            Load::Get => callers.spawn(repeat(stop, async move || {
                let key = format!("{prefix}{}", next.fetch_add(1, Ordering::Relaxed) % keys);
                client.get(key).await.map(drop)
            })),
            Load::Watch => {
                let key = format!("{prefix}{caller}");
                let watcher = global.connect().await?;
                let mut watch = watcher.watch(KeyRange::One(key.as_str().into())).start(Start::Now).await?;
                callers.spawn(repeat(stop, async move || {
                    let revision = client.put(key.as_str(), value.clone()).await?.revision;
                    // The watcher lives as long as the watch.
                    let _ = &watcher;
                    while let Some(update) = watch.next().await {
                        if update?.events.iter().map(Event::revision).any(|seen| seen == revision) {
                            break;
                        }
                    }
                    Ok(())
                }))
            }
        };
    }
    tokio::time::sleep(args.duration).await;
    stop.store(true, Ordering::Relaxed);
    // Up to a minute in microseconds, to three digits.
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)
        .map_err(|error| Failure::failed(format!("no histogram: {error}")))?;
    let mut errors = 0;
    let mut last = None;
    while let Some(caller) = callers.join_next().await {
        let caller = caller.map_err(|error| Failure::failed(format!("a caller died: {error}")))?;
        caller.times.iter().for_each(|&us| times.saturating_record(us));
        errors += caller.errors;
        last = caller.last.or(last);
    }
    if let (0, Some(error)) = (times.len(), last) {
        return Err(error.into());
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Outcome {
        load: match args.load {
            Load::Put => "put",
            Load::Get => "get",
            Load::Watch => "watch",
        },
        connections: args.connections,
        in_flight: args.in_flight,
        value_bytes: args.value_bytes,
        seconds,
        operations: times.len(),
        errors,
        per_second: times.len() as f64 / seconds,
        p50_us: times.value_at_quantile(0.5),
        p90_us: times.value_at_quantile(0.9),
        p99_us: times.value_at_quantile(0.99),
        p999_us: times.value_at_quantile(0.999),
        max_us: times.max(),
    })
}

/// What one caller saw.
#[derive(Default)]
struct Caller {
    times: Vec<u64>,
    errors: u64,
    last: Option<hither::Error>,
}

async fn repeat<F>(stop: Arc<AtomicBool>, mut call: F) -> Caller
where
    F: AsyncFnMut() -> Result<(), hither::Error>,
{
    let mut caller = Caller::default();
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        match call().await {
            Ok(()) => caller.times.push(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX)),
            Err(error) => {
                caller.errors += 1;
                caller.last = Some(error);
                // A server that refuses everything must not make this loop spin.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    caller
}
