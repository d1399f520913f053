//! One message to each of very many streams.

use std::time::Instant;

use anyhow::Context;
use tokio::sync::mpsc;

use super::{bytes, connect};
use crate::process::Server;
use crate::spent::Spent;
use crate::workload::Figures;

/// From the trigger of a message to each stream to the last arrival.
pub(crate) async fn push_rounds(server: &Server, streams: usize, connections: usize) -> anyhow::Result<Figures> {
    const ROUNDS: usize = 20;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut triggers = Vec::new();
    let mut held = Vec::new();
    for _ in 0..connections {
        let connection = connect(server).await?;
        let (mut send, receive) = connection.open_bi().await?;
        let count = u32::try_from(streams / connections)?;
        send.write_all(b"P").await?;
        send.write_all(&count.to_le_bytes()).await?;
        for _ in 0..count {
            let mut stream = connection.accept_uni().await?;
            let arrived = arrived.clone();
            tokio::spawn(async move {
                let mut first = [0];
                stream.read_exact(&mut first).await?;
                let mut message = bytes();
                while stream.read_exact(&mut message).await.is_ok() {
                    if arrived.send(()).is_err() {
                        break;
                    }
                }
                anyhow::Ok(())
            });
        }
        triggers.push(send);
        held.push((connection, receive));
    }
    let mut times = Vec::new();
    let spent = Spent::by(server)?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for trigger in &mut triggers {
            trigger.write_all(&[0]).await?;
        }
        for _ in 0..streams {
            arrivals.recv().await.context("every message arrives")?;
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let spent = spent.since(server)?;
    let total: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    let deliveries = ROUNDS * streams;
    Ok(Figures::from([
        ("acknowledgement to last p50 ms", times[times.len() / 2]),
        ("deliveries/s", deliveries as f64 / total * 1e3),
        ("client CPU us/delivery", spent.own_us(deliveries)),
        ("server CPU us/delivery", spent.server_us(deliveries)),
    ]))
}
