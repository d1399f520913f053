//! Ten thousand instances, a lease each: what they cost to register and to keep, and how long the dead are seen.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Figures;
use crate::holding::{PREFIX, TTL};
use crate::process::Server;
use crate::target::{Connection, System};

/// How long the idle server is watched: two rounds of keep-alives, so that every lease is in it.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) async fn run(system: System, server: &Server, instances: usize) -> anyhow::Result<Figures> {
    let mut witness = Connection::open(system, server).await?;
    let memory_before = server.memory_at_rest().await?;
    let mut holder = Command::new(std::env::current_exe()?)
        .arg("hold")
        .args([system.name(), &server.address])
        .arg(server.home.path())
        .arg(instances.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("its output is piped")?).read_line(&mut line)?;
    let rate: f64 = line.trim().parse().context("the process that holds the leases ended")?;
    anyhow::ensure!(witness.list(PREFIX).await? == instances, "not all instances are there");

    let (cpu, begin) = (server.cpu()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle = (server.cpu()? - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    let memory = server.memory_at_rest().await?.saturating_sub(memory_before);
    anyhow::ensure!(witness.list(PREFIX).await? == instances, "leases ended although they were kept alive");

    holder.kill()?;
    let killed = Instant::now();
    holder.wait()?;
    while witness.has(PREFIX).await? {
        anyhow::ensure!(killed.elapsed() < 6 * TTL, "the dead are still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Figures::from([
        ("registrations/s", rate),
        ("idle CPU, % of a core", idle * 100.0),
        ("server KiB/instance", memory as f64 / 1024.0 / instances as f64),
        ("last gone after kill s", killed.elapsed().as_secs_f64()),
    ]))
}
