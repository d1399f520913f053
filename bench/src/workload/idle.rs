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
/// Two of them, and what one is of the other.
const RATIOS: [(usize, usize, &str); 3] =
    [(1, 0, "beside 1,000, % of none"), (2, 0, "beside 10,000, % of none"), (2, 1, "beside 10,000, % of 1,000")];
/// Times that each has its turn. Who is first moves on, so that what the machine does meanwhile meets all of them.
const CYCLES: usize = 9;

/// All on one server, one after the other: watchers are to make the difference, and not the minute.
pub(crate) async fn run(system: System, server: &Server, seconds: f64) -> anyhow::Result<Figures> {
    let seconds = seconds / 2.0;
    // A server that has just begun is slower, whoever watches.
    turn(system, server, 0, seconds).await?;
    let mut cycles = Vec::new();
    for cycle in 0..CYCLES {
        let mut rates = [0.0; WATCHERS.len()];
        for place in 0..WATCHERS.len() {
            let which = (cycle + place) % WATCHERS.len();
            rates[which] = turn(system, server, WATCHERS[which].0, seconds).await?;
        }
        cycles.push(rates);
    }
    Ok(figures(&cycles))
}

/// What one is of the other is taken cycle by cycle: within these few seconds the machine changes least.
fn figures(cycles: &[[f64; WATCHERS.len()]]) -> Figures {
    let of_all = |of: &dyn Fn(&[f64; WATCHERS.len()]) -> f64| median(cycles.iter().map(of).collect());
    let rates = WATCHERS.iter().enumerate().map(|(which, &(_, name))| (name, of_all(&|rates| rates[which])));
    let ratios = RATIOS.iter().map(|&(one, other, name)| (name, of_all(&|rates| 100.0 * rates[one] / rates[other])));
    rates.chain(ratios).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slows_down_does_not_tell_one_from_the_other() {
        let seen = figures(&[[400.0, 396.0, 392.0], [200.0, 198.0, 196.0], [100.0, 99.0, 98.0]]);
        assert_eq!(seen["puts/s beside none"], 200.0);
        assert_eq!((seen["beside 1,000, % of none"], seen["beside 10,000, % of none"]), (99.0, 98.0));
        let one_below = figures(&[[100.0, 50.0, 100.0]]);
        assert_eq!(one_below["beside 10,000, % of 1,000"], 200.0);
    }
}
