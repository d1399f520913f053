//! From exec to the first acknowledged put, on an empty directory.

use super::{Figures, VALUE_BYTES};
use crate::process::Server;
use crate::target::{Connection, System};

pub(crate) async fn run(system: System, server: &Server) -> anyhow::Result<Figures> {
    let mut connection = Connection::open(system, server).await?;
    connection.put("bench/first", &[b'v'; VALUE_BYTES]).await?;
    let took = server.started.elapsed();
    Ok(Figures::from([
        ("exec to first put ms", took.as_secs_f64() * 1e3),
        ("server MiB", server.memory_bytes()? as f64 / 1024.0 / 1024.0),
    ]))
}
