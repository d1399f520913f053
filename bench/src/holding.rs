//! A process that holds leases, so that it can be killed: `hither-bench hold`, started by the workload of instances.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

use crate::target::{Connection, System};
use crate::workload::VALUE_BYTES;

/// Time to live of each lease.
pub(crate) const TTL: Duration = Duration::from_secs(10);
/// What the keys of the instances begin with.
pub(crate) const PREFIX: &str = "bench/instances/";
/// Connections that the instances share.
const CONNECTIONS: usize = 10;
/// Registrations under way on each of them.
const IN_FLIGHT: usize = 16;

/// What the process is told: which system, where, and how much.
#[derive(clap::Args)]
pub(crate) struct Hold {
    /// The system.
    #[arg(value_parser = |name: &str| System::named(name).ok_or("Hither or etcd"))]
    system: System,
    /// Where it serves.
    address: String,
    /// Where `hither dev` has left its contexts.
    home: PathBuf,
    /// Instances, each with a lease of its own.
    instances: usize,
}

/// Registers the instances, prints how many it registered a second, and keeps their leases alive until it is killed or
/// its input ends.
pub(crate) async fn run(hold: &Hold) -> anyhow::Result<()> {
    let mut lanes = JoinSet::new();
    let begin = Instant::now();
    for connection in 0..CONNECTIONS {
        let connection_ = Connection::at(hold.system, &hold.address, &hold.home).await?;
        for lane in 0..IN_FLIGHT {
            let mut own = connection_.clone();
            let numbers = (connection * IN_FLIGHT + lane..hold.instances).step_by(CONNECTIONS * IN_FLIGHT);
            lanes.spawn(async move {
                let mut kept = Vec::new();
                for number in numbers {
                    kept.push(own.hold(&format!("{PREFIX}{number}"), &[b'v'; VALUE_BYTES], TTL).await?);
                }
                anyhow::Ok((own, kept))
            });
        }
    }
    let mut kept = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        kept.push(lane??);
    }
    println!("{}", hold.instances as f64 / begin.elapsed().as_secs_f64());
    std::io::stdout().flush()?;
    // Whoever started this either kills it or goes away.
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new()));
    ended.await?.context("its input")?;
    Ok(())
}
