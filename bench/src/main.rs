//! One load generator for Hither and etcd: side by side, in one run, on one machine.
//!
//! `hither-bench run` starts each server fresh in a directory of its own, drives it from this process, stops it, and
//! takes turns (A/B/A/B), so that a noisy minute hits both. A bare QUIC echo and raw QUIC streams of the same sizes run
//! along: they are what the machine allows. The result is a page of tables, `docs/benchmarks.md`.

mod asked;
mod holding;
mod kept;
mod latency;
mod limits;
mod machine;
mod pace;
mod plan;
mod process;
mod registry;
mod report;
mod spent;
mod target;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// The generator's, and that of the raw streams: with the C library's a third of a delivery was allocating.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs every workload and writes the page.
    Run(Run),
    /// What finding a service costs the caller, and what instances cost the server; prints one JSON object.
    Registry {
        /// The `hither` binary to measure.
        #[arg(long, default_value = "hither")]
        hither: PathBuf,
        /// Instances to register.
        #[arg(long, default_value_t = 100_000)]
        instances: usize,
        /// Clients that register them and keep them alive.
        #[arg(long, default_value_t = 100)]
        clients: usize,
    },
    /// Registers instances and keeps them until it is killed; started by `run`.
    #[command(hide = true)]
    Hold(holding::Hold),
    /// The bare QUIC server that the limits are measured against; started by `run`.
    #[command(hide = true)]
    LimitsServer,
}

/// What to run and where to write it.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// The `hither` binary to measure.
    #[arg(long, default_value = "hither")]
    hither: PathBuf,
    /// The `etcd` binary to measure beside it; left out if it is not there.
    #[arg(long, default_value = "/usr/bin/etcd")]
    etcd: PathBuf,
    /// Which Hither that is, for the page: a commit.
    #[arg(long, default_value = "(unknown)")]
    commit: String,
    /// The page to write.
    #[arg(long, default_value = "docs/benchmarks.md")]
    out: PathBuf,
    /// Results so far: a run that was cut off goes on where it was.
    #[arg(long, default_value = "target/bench-results.jsonl")]
    kept: PathBuf,
    /// Seconds of each closed loop.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often each system gets its turn; the tables show medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Minutes to spend on waiting for the machine, if it slows down, and on rounds that are measured again because its pace
    /// changed meanwhile; with 0 its pace is not looked at.
    #[arg(long, default_value_t = 20)]
    patience: u32,
    /// Systems left out: `etcd`, `Hither` or `bare QUIC`.
    #[arg(long)]
    without: Vec<String>,
    /// Workloads left out: those whose name contains this, such as `1,000,000 keys`.
    #[arg(long)]
    skip: Vec<String>,
    /// Only workloads whose name contains this; the tables go to standard output.
    #[arg(long)]
    only: Option<String>,
    /// Ask each server to end instead of killing it: one that counts what it runs writes its counts then.
    #[arg(long)]
    end_gently: bool,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Run(run) => {
            // One thread for the generator, so that the server has the other core of a small machine to itself.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(plan::run(&run))
        }
        Command::Registry { hither, instances, clients } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(registry::run(&hither, instances, clients))
        }
        Command::Hold(hold) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(holding::run(&hold))
        }
        Command::LimitsServer => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(limits::server())
        }
    }
}
