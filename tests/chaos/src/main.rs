//! `hither-chaos exact` proves watches exact over a real server: what each watcher's application was told is compared
//! with all of history, while connections are cut, the server is killed and history is trimmed.
//!
//! docs/chaos.md says what is checked and how a run is repeated.

mod exact;
mod finding;
mod history;
mod judge;
mod ledger;
#[cfg(feature = "planted")]
mod planted;
mod sim;
mod verdict;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Proves Hither's promises under faults.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watches lose nothing, repeat nothing and tear nothing, whatever is cut, killed and forgotten.
    Exact(exact::Options),
    /// The same over a simulation: many seeds in seconds, each the same every time.
    Sim(sim::Options),
    /// Every planted bug is caught: runs `exact` against `hither-planted` once for each.
    #[cfg(feature = "planted")]
    Planted(planted::Options),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Exact(options) => exact::run(&options),
        Command::Sim(options) => sim::run(&options),
        #[cfg(feature = "planted")]
        Command::Planted(options) => planted::run(&options),
    }
}
