//! The long forms: `hither-faults power-loss --rounds 20` and its like.

use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use hither_faults::disk::Place;
use hither_faults::ledger::Broken;
use hither_faults::losses::Figures;
use hither_faults::power::{Pace, Plant};
use hither_faults::report::Report;

/// Losses of power, from which on the report is asked for everything that they may hurt.
const LONG: usize = 20;

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
    /// Kills the server of very many clients and starts it again.
    Storm {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        clients: usize,
        /// How many of them hold a lease.
        #[arg(long, default_value_t = 1_000)]
        holders: usize,
    },
    /// A long mixed load, under which nothing may grow.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 30.0)]
        minutes: f64,
    },
    /// Watchers that never read, among many that do.
    Stalled {
        /// All of them.
        #[arg(long, default_value_t = 1_000)]
        watchers: usize,
        /// Those who never read.
        #[arg(long, default_value_t = 50)]
        stalled: usize,
        /// Writes per second, of 1 KiB.
        #[arg(long, default_value_t = 500)]
        rate: u32,
        /// How long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().fault {
        Fault::PowerLoss { rounds, seed, without_sync: false } => power_loss(rounds, seed, false).await,
        Fault::PowerLoss { rounds, seed, without_sync: true } => match power_loss(rounds, seed, true).await {
            Ok(()) => anyhow::bail!("nothing was synced, and nobody noticed"),
            Err(error) if error.is::<Broken>() => {
                println!("without syncs the check fails, as it has to: {error:#}");
                Ok(())
            }
            Err(error) => Err(error),
        },
        Fault::DiskFull { seconds } => disk_full(Duration::from_secs(seconds)).await,
        Fault::Storm { clients, holders } => storm(clients, holders).await,
        Fault::Soak { minutes } => soak(minutes).await,
        Fault::Stalled { watchers, stalled, rate, seconds } => stall(watchers, stalled, rate, seconds).await,
    }
}

async fn power_loss(rounds: usize, seed: u64, without_sync: bool) -> anyhow::Result<()> {
    let mut sum = Figures::default();
    // Half of them each, so that what only the log has and what tables have is both lost beside.
    let brisk = rounds.div_ceil(2);
    for (pace, rounds) in [(Pace::Brisk, brisk), (Pace::Shipped, rounds - brisk)] {
        let mut plant = Plant::start(seed, pace).await?;
        for round in 0..rounds {
            let fault = plant.round(round % 2 == 1 && !without_sync).await;
            fault.with_context(|| format!("seed {seed}, {pace:?}, round {round}"))?;
            plant.disk().set(Place::Swallow, u64::from(without_sync))?;
        }
        let figures = plant.finish().await?;
        println!("{pace:?}: {figures:?}");
        sum = sum.and(figures);
    }
    sum.were_busy(rounds >= LONG)?;
    let mut report = Report::default();
    report.row("losses of power under load", 20, sum.rounds, sum.rounds >= 20.min(rounds));
    let acknowledged = format!("0 of {}", sum.acknowledged);
    report.row("acknowledged writes lost, revisions reused or lowered", 0, acknowledged, true);
    let lost = sum.lost;
    let thrown = format!("{} KiB of the log, {} tables; {} syncs", lost.log_blocks * 4, lost.tables, sum.syncs);
    report.row("thrown away, since not synced", "some", thrown, lost.log_blocks > 0);
    report.row("names that had changed and were not synced", "some", lost.names, lost.names > 0 || rounds < LONG);
    report.row("losses that left a damaged end of the log", 1, sum.torn, sum.torn > 0 || rounds < LONG);
    report.row("losses with new tables of the state", 5, sum.flushed, sum.flushed >= 5 || rounds < LONG);
    report.row("segments of the log made", 3, sum.segments, sum.segments >= 3 || rounds < LONG);
    report.row("segments purged and removed", 1, sum.removed, sum.removed > 0 || rounds < LONG);
    report.row("losses at the moment of a removal", 1, sum.aimed, sum.aimed > 0 || rounds < LONG);
    report.row("killed without a loss just before one", "-", sum.kills, true);
    report.row("start after a loss, the longest", "-", format!("{} ms", sum.restart_max.as_millis()), true);
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

async fn storm(clients: usize, holders: usize) -> anyhow::Result<()> {
    let figures = hither_faults::storm::run(clients, holders).await?;
    let mut report = Report::default();
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let most = figures.most_back <= Duration::from_secs(20);
    report.row("95 of 100 are back", "20 s", seconds(figures.most_back), most);
    let all = figures.all_back <= Duration::from_secs(60);
    report.row("all are back", "60 s", seconds(figures.all_back), all);
    let waiting = figures.lost_waiting;
    let lost = format!("{} of {}, {waiting} before their clients were back", figures.leases_lost, figures.leases);
    report.row("leases lost", 0, lost, figures.leases_lost == 0);
    let underway = figures.handshakes_max;
    report.row("handshakes under way at once, at most", 256, underway, (1..=256).contains(&underway));
    report.row("greetings in one second, at most", "-", figures.per_second_max, true);
    let server = format!("{:.0} MiB, {} of processor", figures.server_mib, seconds(figures.server_processor));
    report.row("the server with everybody back", "600 MiB", server, figures.server_mib <= 600.0);
    report.row("the clients' process", "-", format!("{:.0} MiB", figures.clients_mib), true);
    report.print(&format!("{} clients come back after kill -9, from the next process's ready line", figures.clients))
}

async fn soak(minutes: f64) -> anyhow::Result<()> {
    let figures = hither_faults::soak::run(minutes).await?;
    let mut report = Report::default();
    // What a run this short can tell: noise over a few minutes looks like megabytes in an hour.
    let slack = (30.0 / minutes).max(1.0);
    let (memory, level) = figures.growth(|usage| usage.memory_mib);
    let asked = 4.0 * slack;
    let measured = format!("{memory:+.2} MiB/h at {level:.0} MiB");
    report.row("memory", format!("< {asked:.0} MiB/h"), measured, memory < asked);
    for (what, of) in [
        ("threads", (|usage| usage.threads) as fn(&hither_faults::machine::Usage) -> f64),
        ("descriptors", |usage| usage.descriptors),
        // What grows if the line above does and this does not is files: tables and segments come and go by the dozen.
        ("descriptors but for files", |usage| usage.descriptors - usage.files),
    ] {
        let (slope, level) = figures.growth(of);
        let asked = 2.0 * slack;
        report.row(what, format!("< {asked:.0}/h"), format!("{slope:+.2}/h at {level:.1}"), slope < asked);
    }
    let load = format!("{} operations, {} events", figures.operations, figures.events);
    report.row("load", "mixed", load, true);
    report.print(&format!("{minutes} minutes of mixed load"))
}

async fn stall(watchers: usize, stalled: usize, rate: u32, seconds: u64) -> anyhow::Result<()> {
    let figures = hither_faults::stalled::run(watchers, stalled, rate, seconds).await?;
    let mut report = Report::default();
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let latency = format!("{}, median {}", ms(figures.latency.1), ms(figures.latency.0));
    let holds = figures.latency.1 < Duration::from_millis(100);
    report.row("write to event at those who read, 99 of 100", "100 ms", latency, holds);
    let grown = format!("{:.1} MiB", figures.grown_mib);
    report.row("memory beyond that with all watches open", "150 MiB", grown, figures.grown_mib < 150.0);
    let late = format!("{:+.2} MiB/min", figures.late_mib_per_min);
    report.row("its slope in the second half", "< 4 MiB/min", late, figures.late_mib_per_min < 4.0);
    let done = figures.writes * 10 >= u64::from(rate) * seconds * 9;
    report.row("writes of 1 KiB", format!("{}", u64::from(rate) * seconds), figures.writes, done);
    report.row("events told to those who read", "-", figures.delivered, true);
    let late = format!("{}, {} after a reset", figures.late.0, figures.late.1);
    report.row("who never asked, asks in the end and is told everything", "all", late, true);
    report.print(&format!("{stalled} of {watchers} watchers never read"))
}
