//! Puts at full speed beside watchers of a key that nobody writes.

use super::closed_loop::{self, Op};
use super::{Figures, median, same};
use crate::process::Server;
use crate::target::{Connection, System};

const IN_FLIGHT: usize = 256;
const CONNECTIONS: usize = 10;
/// With none, with some and with many, and the figure of each.
const WATCHERS: [(usize, &str); 3] =
    [(0, "puts/s beside none"), (1_000, "puts/s beside 1,000"), (10_000, "puts/s beside 10,000")];
/// Times that each has its turn. Who is first moves on, so that what the machine does meanwhile meets all of them.
const CYCLES: usize = 9;

/// All on one server, one after the other: watchers are to make the difference, and not the minute.
pub(crate) async fn run(system: System, server: &Server, seconds: f64) -> anyhow::Result<Figures> {
    let seconds = seconds / 2.0;
    // A server that has just begun is slower, whoever watches.
    turn(system, server, 0, seconds).await?;
    let mut seen = [const { Vec::new() }; WATCHERS.len()];
    for cycle in 0..CYCLES {
        for place in 0..WATCHERS.len() {
            let which = (cycle + place) % WATCHERS.len();
            seen[which].push(turn(system, server, WATCHERS[which].0, seconds).await?);
        }
    }
    Ok(WATCHERS.iter().zip(seen).map(|(&(_, name), seen)| (name, median(seen))).collect())
}

async fn turn(system: System, server: &Server, watchers: usize, seconds: f64) -> anyhow::Result<f64> {
    // Open until the puts are done.
    let mut pool = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(system, server).await?;
        idle.extend(connection.watch(same("bench/idle", watchers / CONNECTIONS)).await?);
        pool.push(connection);
    }
    // Else the puts beside few would pay for closing the many of before.
    server.at_rest().await?;
    let figures = closed_loop::run(system, server, Op::Put, IN_FLIGHT, 1, seconds).await?;
    Ok(figures["operations/s"])
}
