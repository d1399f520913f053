//! Many watchers of one key over a few connections: what they cost idle, and how long one change takes to reach all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::tally::Tally;
use super::{Figures, VALUE_BYTES, same};
use crate::process::Server;
use crate::spent::Spent;
use crate::target::{Connection, System};

const CHANGES: usize = 20;

pub(crate) async fn run(
    system: System,
    server: &Server,
    watchers: usize,
    connections: usize,
) -> anyhow::Result<Figures> {
    let connections = connections.min(watchers);
    let mut pool = Connection::pool(system, server, connections).await?;
    let mut writer = Connection::open(system, server).await?;
    let value = vec![b'v'; VALUE_BYTES];
    writer.put("bench/fan-out", &value).await?;
    let memory_before = server.memory_at_rest().await?;
    let opening = Instant::now();
    let mut tally = Tally::default();
    let arrived = Arc::new(Notify::new());
    let mut tasks = Vec::new();
    for connection in &mut pool {
        let streams = connection.watch(same("bench/fan-out", watchers / connections)).await?;
        let watches = watchers / connections / streams.len();
        for (counter, mut stream) in tally.streams(streams.len(), watches).zip(streams) {
            let arrived = Arc::clone(&arrived);
            tasks.push(tokio::spawn(async move {
                while let Ok(events) = stream.next().await {
                    if counter.add(events).is_multiple_of(watchers) {
                        arrived.notify_one();
                    }
                }
            }));
        }
    }
    let opened = opening.elapsed();
    let memory = server.memory_at_rest().await?.saturating_sub(memory_before);

    let mut to_all = Vec::new();
    let (mut deliveries, mut took) = (0, Duration::ZERO);
    let spent = Spent::by(server)?;
    for change in 1..=CHANGES {
        let start = Instant::now();
        writer.put("bench/fan-out", &value).await?;
        let acknowledged = Instant::now();
        while tally.came() < change * watchers {
            tokio::time::timeout(Duration::from_secs(30), arrived.notified()).await?;
        }
        to_all.push(acknowledged.elapsed().as_secs_f64() * 1e3);
        deliveries += watchers;
        took += start.elapsed();
    }
    let spent = spent.since(server)?;
    let mut figures = tally.settle(CHANGES).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    to_all.sort_by(f64::total_cmp);
    figures.extend([
        ("open ms", opened.as_secs_f64() * 1e3),
        ("acknowledgement to last p50 ms", to_all[to_all.len() / 2]),
        ("deliveries/s", deliveries as f64 / took.as_secs_f64()),
        ("client CPU us/delivery", spent.own_us(deliveries)),
        ("server CPU us/delivery", spent.server_us(deliveries)),
        ("server KiB/idle watcher", memory as f64 / 1024.0 / watchers as f64),
    ]);
    Ok(figures)
}
