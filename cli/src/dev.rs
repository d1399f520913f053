//! `hither dev`: a server for one machine, ready in a moment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use hither_protocol::{PORT_ADMIN, PORT_CLIENT};
use hither_server::Overrides;

use crate::exit::Failure;
use crate::node::{self, Plan};
use crate::session::Global;

/// Where the admin port stands to the client port, as the fixed ports do.
const ADMIN_OFFSET: u16 = PORT_ADMIN - PORT_CLIENT;

#[derive(Args, Debug)]
#[command(after_help = "\
The first start makes the directory, an authority of its own and an admin identity; the next ones go on with them. It
writes a context for its own user, so that commands and programs on this machine connect without being told anything.
When it serves it prints one line: ready client=hither://HOST:PORT admin=http://HOST:PORT data=DIR

Examples:
  hither dev
  hither dev --data /tmp/try --port 0                              on free ports
  hither dev --listen 0.0.0.0 --advertise build.example:7400       for other machines (see `hither client add`)")]
pub(crate) struct DevArgs {
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = "hither-data")]
    data: PathBuf,
    /// The port for clients (UDP); the admin port (TCP) is two above it. 0 takes free ones.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The address for clients, with or without a port.
    #[arg(long, value_name = "IP[:PORT]", value_parser = listen)]
    listen: Option<Listen>,
    /// What clients on other machines are told to connect to.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The address for health and metrics.
    #[arg(long, alias = "admin-listen", value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listen {
    ip: IpAddr,
    port: Option<u16>,
}

fn listen(text: &str) -> Result<Listen, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen { ip: address.ip(), port: Some(address.port()) });
    }
    let ip = text.trim_start_matches('[').trim_end_matches(']').parse();
    ip.map(|ip| Listen { ip, port: None })
        .map_err(|_| "write an IP address such as 127.0.0.1 or 0.0.0.0:7400".to_owned())
}

impl DevArgs {
    fn addresses(&self) -> Result<(SocketAddr, SocketAddr), Failure> {
        let ip = self.listen.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |listen| listen.ip);
        let port = match (self.port, self.listen.and_then(|listen| listen.port)) {
            (Some(one), Some(other)) if one != other => {
                return Err(Failure::usage(format!("--port says {one} and --listen says {other}; give one of them")));
            }
            (one, other) => one.or(other).unwrap_or(PORT_CLIENT),
        };
        let admin = match self.admin {
            Some(admin) => admin,
            // Plain HTTP stays on this machine, wherever clients come from.
            None if port == 0 => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            None => SocketAddr::from((
                Ipv4Addr::LOCALHOST,
                port.checked_add(ADMIN_OFFSET)
                    .ok_or_else(|| Failure::usage("no admin port is left; give one with --admin"))?,
            )),
        };
        Ok((SocketAddr::new(ip, port), admin))
    }
}

pub(crate) fn run(global: &Global, args: DevArgs) -> Result<(), Failure> {
    let (listen, admin) = args.addresses()?;
    let overrides = Overrides {
        data: Some(args.data),
        listen: Some(listen.to_string()),
        advertise: args.advertise,
        admin_listen: Some(admin.to_string()),
        log_level: global.log_level.clone(),
        log_format: node::log_format(global),
        ..Overrides::default()
    };
    node::run(Plan { file: None, overrides, command: "dev", context: global.context.clone(), create: true })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Dev {
        #[command(flatten)]
        args: DevArgs,
    }

    fn addresses(line: &str) -> Result<(String, String), String> {
        let words = std::iter::once("dev").chain(line.split_whitespace());
        let (listen, admin) = Dev::parse_from(words).args.addresses().map_err(|failure| failure.message)?;
        Ok((listen.to_string(), admin.to_string()))
    }

    #[test]
    fn the_admin_port_follows_the_client_port_and_stays_on_this_machine() {
        let pair = |listen: &str, admin: &str| Ok((listen.to_owned(), admin.to_owned()));
        assert_eq!(addresses(""), pair("127.0.0.1:7400", "127.0.0.1:7402"));
        assert_eq!(addresses("--port 0"), pair("127.0.0.1:0", "127.0.0.1:0"));
        assert_eq!(addresses("--port 7410"), pair("127.0.0.1:7410", "127.0.0.1:7412"));
        assert_eq!(addresses("--listen 0.0.0.0"), pair("0.0.0.0:7400", "127.0.0.1:7402"));
        assert_eq!(addresses("--listen [::]:9 --admin 127.0.0.1:8"), pair("[::]:9", "127.0.0.1:8"));
    }

    #[test]
    fn two_ports_that_differ_are_refused() {
        assert!(addresses("--port 1 --listen 127.0.0.1:2").unwrap_err().contains("--listen"));
        assert!(addresses("--port 65535").unwrap_err().contains("--admin"));
    }
}
