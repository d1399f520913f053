//! A message that is synced to a file before it goes on to somebody else, at a steady pace: a put and its event with
//! nothing in between.

use std::time::{Duration, Instant};

use super::{bytes, connect};
use crate::latency::Latencies;
use crate::process::Server;
use crate::workload::Figures;

/// So many messages, so many a second, each from when it is sent to when the other connection has it.
pub(crate) async fn relay_paced(server: &Server, messages: usize, per_second: f64) -> anyhow::Result<Figures> {
    let (listening, writing) = (connect(server).await?, connect(server).await?);
    let (mut listen, mut told) = listening.open_bi().await?;
    let (mut write, mut answered) = writing.open_bi().await?;
    let mut ready = [0];
    listen.write_all(b"L").await?;
    told.read_exact(&mut ready).await?;
    write.write_all(b"R").await?;
    answered.read_exact(&mut ready).await?;
    let (mut message, mut event) = (bytes(), bytes());
    let warm_up = messages / 10;
    let mut latencies = Latencies::new();
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    for n in 0..messages + warm_up {
        tick.tick().await;
        let start = Instant::now();
        write.write_all(&message).await?;
        let (seen, answer) = tokio::join!(
            async { told.read_exact(&mut event).await.map(|()| start.elapsed()) },
            answered.read_exact(&mut message)
        );
        answer?;
        if n >= warm_up {
            latencies.record(seen?);
        }
    }
    Ok(Figures::from([
        ("put to event p50 ms", latencies.quantile_ms(0.5)),
        ("put to event p99 ms", latencies.quantile_ms(0.99)),
    ]))
}
