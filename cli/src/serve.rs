//! `hither serve`: a server from a configuration file.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use hither_server::{Config, Overrides};

use crate::exit::Failure;
use crate::node::{self, Plan};
use crate::session::Global;

#[derive(Args, Debug)]
#[command(after_help = "\
Settings come from the defaults, then the file, then the environment (HITHER_SECTION_KEY), then these options.
The directory must hold a node: `hither cluster init --config FILE` makes one.

Examples:
  hither serve --example-config > hither.toml
  hither cluster init --config hither.toml
  hither serve --config hither.toml")]
pub(crate) struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "example_config")]
    config: Option<PathBuf>,
    /// Print a configuration file with every setting, its default and why, and exit.
    #[arg(long)]
    example_config: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Settings that may stand on the command line too.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The address for clients (UDP).
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// What clients are told to connect to.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The address for health and metrics (TCP).
    #[arg(long, alias = "admin", value_name = "IP:PORT")]
    admin_listen: Option<String>,
    /// Any other setting; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String, String)>,
}

fn setting(text: &str) -> Result<(String, String, String), String> {
    let parts = text.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
    let ((section, key), value) = parts.ok_or("write SECTION.KEY=VALUE, such as log.level=debug")?;
    Ok((section.to_owned(), key.to_owned(), value.to_owned()))
}

impl Settings {
    pub(crate) fn overrides(self, global: &Global) -> Overrides {
        Overrides {
            data: self.data,
            listen: self.listen,
            advertise: self.advertise,
            admin_listen: self.admin_listen,
            log_level: global.log_level.clone(),
            log_format: node::log_format(global),
            set: self.set,
        }
    }
}

pub(crate) fn run(global: &Global, args: ServeArgs) -> Result<(), Failure> {
    if args.example_config {
        return Ok(io::stdout().write_all(Config::example().as_bytes())?);
    }
    let overrides = args.settings.overrides(global);
    node::run(Plan { file: args.config, overrides, command: "serve", context: global.context.clone(), create: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_its_section() {
        let parts = |section: &str, key: &str, value: &str| Ok((section.to_owned(), key.to_owned(), value.to_owned()));
        assert_eq!(setting("log.level=a=b"), parts("log", "level", "a=b"));
        assert!(setting("level=debug").is_err());
        assert!(setting("log.level").is_err());
    }
}
