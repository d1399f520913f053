//! From a put to its event at a watcher on another connection, at a steady 200 puts a second.

use std::time::{Duration, Instant};

use super::{Figures, VALUE_BYTES};
use crate::latency::Latencies;
use crate::process::Server;
use crate::target::{Connection, System};

pub(crate) const PUTS_PER_SECOND: f64 = 200.0;

/// Fewer puts would leave the slowest hundredth of them a handful.
pub(crate) const PUTS_MIN: usize = 2_000;

/// The puts of a run of so many seconds, or more.
pub(crate) fn puts(seconds: f64) -> usize {
    ((seconds * PUTS_PER_SECOND) as usize).max(PUTS_MIN)
}

pub(crate) async fn run(system: System, server: &Server, seconds: f64) -> anyhow::Result<Figures> {
    let mut watching = Connection::open(system, server).await?;
    let mut writer = Connection::open(system, server).await?;
    let mut watcher = watching.watch(["bench/event".to_owned()]).await?.remove(0);
    let value = vec![b'v'; VALUE_BYTES];
    let puts = puts(seconds);
    let (mut from_put, mut from_ack) = (Latencies::new(), Latencies::new());
    let mut before_ack = 0;
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / PUTS_PER_SECOND));
    let warm_up = puts / 10;
    for n in 0..puts + warm_up {
        tick.tick().await;
        let start = Instant::now();
        let (acknowledged, seen) =
            tokio::join!(async { writer.put("bench/event", &value).await.map(|()| Instant::now()) }, async {
                watcher.next().await.map(|_| Instant::now())
            },);
        let (acknowledged, seen) = (acknowledged?, seen?);
        if n >= warm_up {
            from_put.record(seen - start);
            from_ack.record(seen.saturating_duration_since(acknowledged));
            before_ack += usize::from(seen < acknowledged);
        }
    }
    Ok(Figures::from([
        ("put to event p50 ms", from_put.quantile_ms(0.5)),
        ("put to event p99 ms", from_put.quantile_ms(0.99)),
        ("acknowledgement to event p50 ms", from_ack.quantile_ms(0.5)),
        ("acknowledgement to event p99 ms", from_ack.quantile_ms(0.99)),
        ("events before it, %", before_ack as f64 / puts as f64 * 100.0),
    ]))
}
