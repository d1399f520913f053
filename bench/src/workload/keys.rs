//! What a store with many keys costs: filling it, its memory, and a put and its event once it is full.

use std::time::Instant;

use tokio::task::JoinSet;

use super::{Figures, VALUE_BYTES, event};
use crate::process::Server;
use crate::target::{Connection, System};

const IN_FLIGHT: usize = 256;

pub(crate) async fn run(system: System, server: &Server, keys: usize, seconds: f64) -> anyhow::Result<Figures> {
    let connection = Connection::open(system, server).await?;
    let memory = server.memory_at_rest().await?;
    let cpu = server.cpu()?;
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..IN_FLIGHT {
        let mut connection = connection.clone();
        writers.spawn(async move {
            let value = vec![b'v'; VALUE_BYTES];
            for n in (writer..keys).step_by(IN_FLIGHT) {
                connection.put(&format!("keys/{n:08}"), &value).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let took = start.elapsed();
    let cpu = server.cpu()? - cpu;
    let memory = server.memory_at_rest().await?.saturating_sub(memory);
    let mut figures = event::run(system, server, seconds).await?;
    figures.extend([
        ("operations/s", keys as f64 / took.as_secs_f64()),
        ("server CPU us/op", cpu.as_secs_f64() * 1e6 / keys as f64),
        ("server bytes/key", memory as f64 / keys as f64),
    ]);
    Ok(figures)
}
