//! Reading very many keys at once.

use std::time::Instant;

use tokio::task::JoinSet;

use super::{Figures, VALUE_BYTES};
use crate::process::Server;
use crate::target::{Connection, System};

pub(crate) async fn run(system: System, server: &Server, keys: usize) -> anyhow::Result<Figures> {
    let connection = Connection::open(system, server).await?;
    let before = server.memory_at_rest().await?;
    let mut writers = JoinSet::new();
    for writer in 0..256 {
        let mut connection = connection.clone();
        writers.spawn(async move {
            let value = vec![b'v'; VALUE_BYTES];
            for n in (writer..keys).step_by(256) {
                connection.put(&format!("list/{n:08}"), &value).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let memory = server.memory_at_rest().await?.saturating_sub(before);
    let mut connection = connection;
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let listed = connection.list("list/").await?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(listed == keys, "listed {listed} of {keys} keys");
    }
    times.sort_by(f64::total_cmp);
    Ok(Figures::from([("list p50 ms", times[times.len() / 2]), ("server bytes/key", memory as f64 / keys as f64)]))
}
