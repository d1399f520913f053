//! The long forms: `hither-faults power-loss --rounds 20` and its like.

use std::time::Duration;

use clap::{Parser, Subcommand};
use hither_faults::disk::Place;
use hither_faults::power::Plant;
use hither_faults::report::Report;

/// Faults of the machine, and what a node makes of them.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// Cuts the power under load, again and again, and throws away what was not synced.
    PowerLoss {
        /// How often.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// Of what is left to chance.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The disk says that it synced, and did not: the check has to fail.
        #[arg(long)]
        without_sync: bool,
    },
    /// Fills the disk under a node, to the last byte.
    DiskFull {
        /// Seconds for which it stays full; the state is made durable once a minute.
        #[arg(long, default_value_t = 90)]
        seconds: u64,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().fault {
        Fault::PowerLoss { rounds, seed, without_sync } => power_loss(rounds, seed, without_sync).await,
        Fault::DiskFull { seconds } => disk_full(Duration::from_secs(seconds)).await,
    }
}

async fn power_loss(rounds: usize, seed: u64, without_sync: bool) -> anyhow::Result<()> {
    let mut plant = Plant::start(seed).await?;
    plant.round(false).await?;
    plant.disk().set(Place::Swallow, u64::from(without_sync))?;
    for round in 1..rounds {
        plant.round(round % 2 == 1 && !without_sync).await?;
    }
    let figures = plant.finish().await?;
    let mut report = Report::default();
    report.row("losses of power under load", 20, figures.rounds, figures.rounds >= 20.min(rounds));
    let acknowledged = format!("0 of {}", figures.acknowledged);
    report.row("acknowledged writes lost, revisions reused or lowered", 0, acknowledged, true);
    let lost = format!("{} KiB of {} files, {} syncs", figures.lost.bytes / 1024, figures.lost.files, figures.syncs);
    report.row("thrown away, since not synced", "some", lost, figures.lost.bytes > 0);
    report.row("start after a loss, the longest", "-", format!("{} ms", figures.restart_max.as_millis()), true);
    report.print("Loss of power")
}

async fn disk_full(full_for: Duration) -> anyhow::Result<()> {
    let figures = hither_faults::full::run(full_for).await?;
    let mut report = Report::default();
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    report.row("puts refused after", "-", ms(figures.refused_after), true);
    let served = format!("{} in {} s", figures.served, figures.full_for.as_secs());
    report.row("deletes, renewals and reads on the full disk", "all", served, figures.served > 0);
    report.row("killed and started again on the full disk", "serves", figures.restarted, figures.restarted);
    let heals = figures.healed_after < Duration::from_secs(10);
    report.row("puts taken again after room was made", "10 s", ms(figures.healed_after), heals);
    report.print("A full disk of 512 MiB")
}
