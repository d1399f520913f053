//! As many keys as watchers, each watched by one, and one writer over all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Figures, VALUE_BYTES};
use crate::latency::Latencies;
use crate::process::Server;
use crate::spent::Spent;
use crate::target::{Connection, System};

const IN_FLIGHT: usize = 64;
/// Times that each key is written.
const ROUNDS: usize = 3;

fn key(n: usize) -> String {
    format!("bench/distinct/{n:06}")
}

fn number(key: &[u8]) -> usize {
    std::str::from_utf8(key).ok().and_then(|key| key.rsplit('/').next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

pub(crate) async fn run(
    system: System,
    server: &Server,
    watchers: usize,
    connections: usize,
) -> anyhow::Result<Figures> {
    let mut pool = Connection::pool(system, server, connections).await?;
    let writer = Connection::open(system, server).await?;
    let memory_before = server.memory_at_rest().await?;
    let start = Instant::now();
    // When each key was last written, and how long its event took.
    let written: Arc<Vec<AtomicU64>> = Arc::new((0..watchers).map(|_| AtomicU64::new(0)).collect());
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for (n, connection) in pool.iter_mut().enumerate() {
        let keys = (n..watchers).step_by(connections).map(key);
        for mut watcher in connection.watch(keys).await? {
            let (written, arrived) = (Arc::clone(&written), arrived.clone());
            let show = move |key: &[u8]| {
                let since = written[number(key)].load(Ordering::Relaxed);
                let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                // Nobody listens once the figures are made.
                let _ = arrived.send(now.saturating_sub(since));
            };
            tasks.push(tokio::spawn(async move { while watcher.next_keys(&show).await.is_ok() {} }));
        }
    }
    let opened = start.elapsed();
    let memory = server.memory_at_rest().await?.saturating_sub(memory_before);

    let puts = ROUNDS * watchers;
    let next = Arc::new(AtomicUsize::new(0));
    let spent = Spent::by(server)?;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (mut writer, written, next) = (writer.clone(), Arc::clone(&written), Arc::clone(&next));
        callers.spawn(async move {
            let value = vec![b'v'; VALUE_BYTES];
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= puts {
                    return anyhow::Ok(());
                }
                let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                written[n % watchers].store(now, Ordering::Relaxed);
                writer.put(&key(n % watchers), &value).await?;
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    let mut latencies = Latencies::new();
    let mut came = 0;
    // All, or nothing more for a second: then the rest is lost.
    while came < puts
        && let Ok(Some(nanos)) = tokio::time::timeout(Duration::from_secs(1), arrivals.recv()).await
    {
        latencies.record(Duration::from_nanos(nanos));
        came += 1;
    }
    let took = began.elapsed();
    let spent = spent.since(server)?;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let doubled = std::iter::from_fn(|| arrivals.try_recv().ok()).count();
    Ok(Figures::from([
        ("open ms", opened.as_secs_f64() * 1e3),
        ("deliveries/s", came as f64 / took.as_secs_f64()),
        ("put to event p50 ms", latencies.quantile_ms(0.5)),
        ("put to event p99 ms", latencies.quantile_ms(0.99)),
        ("client CPU us/delivery", spent.own_us(came)),
        ("server CPU us/delivery", spent.server_us(came)),
        ("server KiB/idle watcher", memory as f64 / 1024.0 / watchers as f64),
        ("lost", (puts - came) as f64),
        ("doubled", doubled as f64),
    ]))
}
