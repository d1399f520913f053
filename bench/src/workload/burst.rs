//! One writer at full speed, many watchers, each of which must see every change once.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::tally::Tally;
use super::{Figures, VALUE_BYTES, same};
use crate::process::Server;
use crate::spent::Spent;
use crate::target::{Connection, System};

const IN_FLIGHT: usize = 64;
const CONNECTIONS: usize = 10;

pub(crate) async fn run(system: System, server: &Server, watchers: usize, puts: usize) -> anyhow::Result<Figures> {
    let mut watching = Connection::pool(system, server, CONNECTIONS).await?;
    let writer = Connection::open(system, server).await?;
    let mut tally = Tally::default();
    let mut readers = Vec::new();
    for connection in &mut watching {
        let streams = connection.watch(same("bench/burst", watchers / CONNECTIONS)).await?;
        let watches = watchers / CONNECTIONS / streams.len();
        for (counter, mut stream) in tally.streams(streams.len(), watches).zip(streams) {
            readers.push(tokio::spawn(async move {
                while let Ok(events) = stream.next().await {
                    counter.add(events);
                }
            }));
        }
    }
    let start = Instant::now();
    let spent = Spent::by(server)?;
    let mut callers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let mut writer = writer.clone();
        callers.spawn(async move {
            let value = vec![b'v'; VALUE_BYTES];
            for _ in 0..puts / IN_FLIGHT {
                writer.put("bench/burst", &value).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    let puts = puts / IN_FLIGHT * IN_FLIGHT;
    let expected = puts * watchers;
    // All delivered, or nothing more for a second: then the rest is lost.
    let (mut last, mut since) = (0, Instant::now());
    while last < expected && since.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = tally.came();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    let took = since.duration_since(start).as_secs_f64();
    let spent = spent.since(server)?;
    let mut figures = tally.settle(puts).await;
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    figures.extend([
        ("deliveries/s", last as f64 / took),
        ("client CPU us/delivery", spent.own_us(last)),
        ("server CPU us/delivery", spent.server_us(last)),
    ]);
    Ok(figures)
}
