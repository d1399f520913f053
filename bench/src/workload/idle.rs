//! Puts at full speed beside watchers of a key that nobody writes.

use super::closed_loop::{self, Op};
use super::{Figures, same};
use crate::process::Server;
use crate::target::{Connection, System};

const IN_FLIGHT: usize = 256;
const CONNECTIONS: usize = 10;

pub(crate) async fn run(system: System, server: &Server, watchers: usize, seconds: f64) -> anyhow::Result<Figures> {
    // Open until the puts are done.
    let mut pool = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(system, server).await?;
        idle.extend(connection.watch(same("bench/idle", watchers / CONNECTIONS)).await?);
        pool.push(connection);
    }
    closed_loop::run(system, server, Op::Put, IN_FLIGHT, 1, seconds).await
}
