//! `hither`: the server node and the command line. A library so that a program of the tests can be the same (docs/chaos.md);
//! nothing else depends on it.

mod bench;
mod client;
mod cluster;
mod completion;
mod context;
mod dev;
mod discover;
#[cfg(test)]
mod errors_page;
mod exit;
mod holder;
mod instance;
mod kv;
mod lease;
mod load;
mod logging;
mod node;
mod output;
mod record;
mod run;
mod serve;
mod session;
mod signal;
mod status;
mod svc;
mod text;
mod txn;
mod txn_text;
mod value;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::exit::Failure;
use crate::logging::LogFormat;
use crate::session::Global;

/// Services find each other, share configuration and coordinate.
#[derive(Debug, Parser)]
#[command(
    name = "hither",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Begin with:
  hither dev                                  a server for this machine, in ./hither-data
  hither kv put greeting hello                in another terminal
  hither watch greeting

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 a condition does not hold, 5 no server, 6 not allowed, 124 timeout."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server for development: one node, ready in a moment.
    Dev(dev::DevArgs),
    /// Run a server from a configuration file.
    Serve(serve::ServeArgs),
    /// Begin a cluster.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Keys and values: put, get, del, ls, txn, load.
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Follow a key, or everything below a prefix.
    Watch(watch::WatchArgs),
    /// Leases: grant, renew, revoke, info, ls.
    #[command(subcommand)]
    Lease(lease::Lease),
    /// Services: register, update, drain, deregister, ls, watch.
    #[command(subcommand)]
    Svc(svc::Svc),
    /// Find the instances of a service.
    Discover(discover::DiscoverArgs),
    /// Run a command, registered while it lives.
    Run(run::RunArgs),
    /// Who may connect: add, ls, revoke.
    #[command(subcommand)]
    Client(client::Client),
    /// How the server is doing.
    Status,
    /// Measure a running server.
    Bench(bench::BenchArgs),
    /// Print what a shell needs to complete commands.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

impl Command {
    /// A server logs what it does; a client command only what is wrong.
    const fn log_level(&self) -> &'static str {
        match self {
            Self::Dev(_) | Self::Serve(_) => "info",
            _ => "warn",
        }
    }
}

/// The program: reads its arguments, does what they say, and returns how that went.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    match start(&global, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn start(global: &Global, command: Command) -> Result<(), Failure> {
    let command = match command {
        Command::Completion { shell } => return completion::run::<Cli>(shell),
        Command::Dev(args) => return dev::run(global, args),
        Command::Serve(args) => return serve::run(global, args),
        Command::Cluster(command) => return cluster::run(global, command),
        other => other,
    };
    let level = global.log_level.as_deref().unwrap_or(command.log_level());
    logging::start(global.log_format.unwrap_or(LogFormat::Text), level).map_err(Failure::usage)?;
    let runtime = match command {
        Command::Bench(_) => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    };
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Kv(command) => kv::run(global, command).await,
            Command::Watch(args) => watch::run(global, args).await,
            Command::Lease(command) => lease::run(global, command).await,
            Command::Svc(command) => svc::run(global, command).await,
            Command::Discover(args) => discover::run(global, args).await,
            Command::Run(args) => match run::run(global, args).await? {
                0 => Ok(()),
                // The command has said what there is to say.
                code => std::process::exit(i32::from(code)),
            },
            Command::Client(command) => client::run(global, command).await,
            Command::Status => status::run(global).await,
            Command::Bench(args) => bench::run(global, args).await,
            Command::Dev(_) | Command::Serve(_) | Command::Cluster(_) | Command::Completion { .. } => {
                unreachable!("these were run above")
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_lines_of_the_issue_parse() {
        for line in [
            "hither dev --data /tmp/x --port 0",
            "hither serve --config /etc/hither.toml",
            "hither kv put k -5",
            "hither kv put k -",
            "hither kv put k @file --lease 1f",
            "hither kv get k -o json",
            "hither kv del k",
            "hither kv ls services/ -o jsonl",
            "hither kv txn --if exists --then get",
            "hither watch a/ --from 7 --exec cat",
            "hither watch a --prefix",
            "hither lease grant 10s",
            "hither lease renew 1f",
            "hither svc register api --endpoint 1.2.3.4:80",
            "hither svc watch api",
            "hither svc register api --port 80",
            "hither svc update api n1 --weight 0 --meta a=",
            "hither svc drain api n1",
            "hither discover api --tag blue --wait 2",
            "hither run --register api:8000 -- sleep 1 --tag",
            "hither client add laptop",
            "hither client revoke laptop",
            "hither --server 127.0.0.1:7400 status",
            "hither bench put",
            "hither completion bash",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
        }
    }

    #[test]
    fn a_wrong_command_line_exits_with_2() {
        for line in ["hither kv put k", "hither kv get", "hither watch", "hither fly", "hither kv get k -o yaml"] {
            let error = Cli::try_parse_from(line.split(' ')).err();
            assert_eq!(error.map(|error| error.exit_code()), Some(2), "{line}");
        }
    }
}
