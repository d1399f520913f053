//! `hither cluster`: what is done once to a cluster.

use std::path::PathBuf;

use clap::Subcommand;

use crate::exit::Failure;
use crate::node::{self, Plan};
use crate::serve::Settings;
use crate::session::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Make the data directory of the first node of a new cluster, in an empty or missing directory.
    Init {
        /// The configuration file that `hither serve` will read.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
}

pub(crate) fn run(global: &Global, command: Cluster) -> Result<(), Failure> {
    let Cluster::Init { config, settings } = command;
    if config.is_none() && settings.data.is_none() {
        return Err(Failure::usage("say where the data are to be kept: --config FILE or --data DIR"));
    }
    let overrides = settings.overrides(global);
    let identity =
        node::create(&Plan { file: config, overrides, command: "cluster init", context: None, create: true })?;
    let record = serde_json::json!({ "cluster": identity.cluster().to_string(), "node": identity.node().0 });
    let line = format!("cluster {} begins with node {}", identity.cluster(), identity.node());
    global.printer().fact(line, &record, identity.cluster())?;
    Ok(())
}
