//! `hither client`: who may speak to the cluster.

use std::time::Duration;

use clap::Subcommand;
use hither::{ClientInfo, Role};
use serde::Serialize;

use crate::exit::Failure;
use crate::session::{Global, duration};
use crate::text;

#[derive(Debug, Subcommand)]
pub(crate) enum Client {
    /// Let another user or machine in: prints one string to give to it.
    #[command(after_help = "\
The string holds the address, the server's fingerprint and a secret that works once. On the other machine it stands
wherever a URL may, and is kept as a context:
  hither --server 'hither-enroll://...' status
  HITHER_URL='hither-enroll://...' my-program")]
    Add {
        /// The name: 1 to 63 of a-z 0-9 . _ -
        name: String,
        /// May also administer the cluster and its identities.
        #[arg(long)]
        admin: bool,
        /// For how long the string can be used.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
        valid: Duration,
    },
    /// List identities.
    Ls,
    /// Shut an identity out, now and for good.
    Revoke {
        /// The name.
        name: String,
    },
}

#[derive(Serialize)]
struct Added {
    name: String,
    enrolment: String,
}

#[derive(Serialize)]
struct Info {
    name: String,
    role: &'static str,
    enrolled: bool,
    revoked: bool,
    created_at: String,
    expires_at: Option<String>,
    connections: u32,
}

impl Info {
    fn of(client: &ClientInfo) -> Self {
        Self {
            name: client.name.clone(),
            role: client.role.as_str(),
            enrolled: client.enrolled,
            revoked: client.revoked,
            created_at: text::time(client.created_at),
            expires_at: client.expires_at.map(text::time),
            connections: client.connections,
        }
    }

    fn row(&self) -> [String; 5] {
        let standing = match (self.revoked, self.enrolled) {
            (true, _) => "revoked",
            (false, true) => "enrolled",
            (false, false) => "invited",
        };
        [
            self.name.clone(),
            self.role.to_owned(),
            standing.to_owned(),
            self.connections.to_string(),
            self.expires_at.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

pub(crate) async fn run(global: &Global, command: Client) -> Result<(), Failure> {
    let client = global.connect().await?;
    let result = run_with(global, &client, command).await;
    client.close().await;
    result
}

async fn run_with(global: &Global, client: &hither::Client, command: Client) -> Result<(), Failure> {
    match command {
        Client::Add { name, admin, valid } => {
            let role = if admin { Role::Admin } else { Role::Client };
            let enrolment = client.client_add(&name).role(role).valid(valid).await?.enrolment.to_string();
            let record = Added { name, enrolment: enrolment.clone() };
            global.printer().fact(&enrolment, &record, &enrolment)?;
        }
        Client::Ls => {
            let clients = client.client_list().await?;
            let items: Vec<_> = clients
                .iter()
                .map(|client| {
                    let info = Info::of(client);
                    let row = info.row();
                    (info, row)
                })
                .collect();
            global.printer().rows(&["NAME", "ROLE", "STANDING", "CONNECTIONS", "CERTIFICATE UNTIL"], &items)?;
        }
        Client::Revoke { name } => {
            let revoked = client.client_revoke(&name).await?;
            let word = if revoked { "is shut out" } else { "had been shut out before" };
            let record = serde_json::json!({ "name": name, "revoked": revoked });
            global.printer().fact(format_args!("{name} {word}"), &record, revoked)?;
        }
    }
    Ok(())
}
