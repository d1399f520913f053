//! From exec to the first acknowledged put, on an empty directory.

use super::{Figures, VALUE_BYTES, median};
use crate::process::Server;
use crate::target::{Connection, System};

/// A server that waits for an election takes 0.1 to 0.9 s, by chance.
const STARTS: usize = 9;

/// Beginning with `server`, one after the other.
pub(crate) async fn run(
    system: System,
    mut server: Server,
    another: impl Fn() -> anyhow::Result<Server>,
) -> anyhow::Result<Figures> {
    let (mut took, mut memory) = (Vec::new(), Vec::new());
    loop {
        let mut connection = Connection::open(system, &server).await?;
        connection.put("bench/first", &[b'v'; VALUE_BYTES]).await?;
        took.push(server.started.elapsed().as_secs_f64() * 1e3);
        memory.push(server.memory_bytes()? as f64 / 1024.0 / 1024.0);
        drop((connection, server));
        if took.len() == STARTS {
            break;
        }
        server = another()?;
    }
    Ok(Figures::from([("exec to first put ms", median(took)), ("server MiB", median(memory))]))
}
