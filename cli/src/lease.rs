//! `hither lease`: leases for callers without a connection of their own, such as scripts.

use std::time::Duration;

use clap::Subcommand;
use hither::{LeaseId, LeaseKind, LeaseStatus, format_duration};
use serde::Serialize;

use crate::exit::Failure;
use crate::session::{Global, duration};
use crate::{signal, text};

#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// Make a lease; it ends, and its keys with it, when it is not renewed for its time to live.
    Grant {
        /// Time to live, 1s to 24h.
        #[arg(value_parser = duration, value_name = "TTL")]
        ttl: Duration,
    },
    /// Let a lease live for another full time to live.
    Renew {
        /// The lease.
        #[arg(value_name = "ID")]
        lease: LeaseId,
        /// Go on renewing it until stopped with Ctrl-C.
        #[arg(long)]
        keep: bool,
    },
    /// End a lease now and delete its keys.
    Revoke {
        /// The lease.
        #[arg(value_name = "ID")]
        lease: LeaseId,
    },
    /// Show a lease and its keys.
    Info {
        /// The lease.
        #[arg(value_name = "ID")]
        lease: LeaseId,
    },
    /// List leases, the sessions' own among them.
    Ls,
}

#[derive(Serialize)]
struct Granted {
    lease: String,
    ttl_ms: u64,
    epoch: u64,
}

#[derive(Serialize)]
struct Revoked {
    deleted: u64,
    revision: u64,
}

#[derive(Serialize)]
struct Status {
    lease: String,
    ttl_ms: u64,
    remaining_ms: Option<u64>,
    kind: &'static str,
    state: &'static str,
    epoch: u64,
    session: Option<String>,
    keys: u64,
    owner: String,
    granted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attached: Option<Vec<String>>,
}

impl Status {
    fn of(lease: &LeaseStatus) -> Self {
        Self {
            lease: lease.lease.to_string(),
            ttl_ms: lease.ttl_ms,
            remaining_ms: lease.remaining_ms,
            kind: match lease.kind {
                LeaseKind::Ttl => "ttl",
                LeaseKind::Bound => "bound",
            },
            state: lease.state.as_str(),
            epoch: lease.epoch,
            session: lease.session.map(|session| session.to_string()),
            keys: lease.keys,
            owner: lease.owner.clone(),
            granted_at: text::time(lease.granted_at),
            attached: None,
        }
    }

    fn row(&self) -> [String; 8] {
        [
            self.lease.clone(),
            shown_ms(self.ttl_ms),
            self.remaining_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}s", ms as f64 / 1_000.0)),
            self.kind.to_owned(),
            self.state.to_owned(),
            self.keys.to_string(),
            self.owner.clone(),
            self.granted_at.clone(),
        ]
    }
}

const COLUMNS: [&str; 8] = ["LEASE", "TTL", "REMAINING", "KIND", "STATE", "KEYS", "OWNER", "GRANTED"];

fn shown_ms(ms: u64) -> String {
    format_duration(Duration::from_millis(ms))
}

pub(crate) async fn run(global: &Global, command: Lease) -> Result<(), Failure> {
    let client = global.connect().await?;
    let result = run_with(global, &client, command).await;
    client.close().await;
    result
}

async fn run_with(global: &Global, client: &hither::Client, command: Lease) -> Result<(), Failure> {
    match command {
        Lease::Grant { ttl } => {
            let reply = client.lease_grant(ttl).await?;
            let line = format!("lease {} for {}", reply.lease, shown_ms(reply.ttl_ms));
            let record = Granted { lease: reply.lease.to_string(), ttl_ms: reply.ttl_ms, epoch: reply.epoch };
            global.printer().fact(line, &record, reply.lease)?;
        }
        Lease::Renew { lease, keep } => renew(global, client, lease, keep).await?,
        Lease::Revoke { lease } => {
            let reply = client.lease_revoke(lease).await?;
            let record = Revoked { deleted: reply.deleted, revision: reply.revision.0 };
            global.printer().fact(format_args!("{} deleted", reply.deleted), &record, reply.deleted)?;
        }
        Lease::Info { lease } => {
            let reply = client.lease_info(lease).await?;
            let keys: Vec<String> = reply.keys.iter().map(ToString::to_string).collect();
            let mut status = Status::of(&reply.lease);
            let row = status.row();
            status.attached = Some(keys.clone());
            let mut shown: Vec<String> =
                COLUMNS.iter().zip(&row).map(|(name, value)| format!("{:<10} {value}", name.to_lowercase())).collect();
            shown.extend(keys.iter().map(|key| format!("{:<10} {key}", "key")));
            global.printer().fact(shown.join("\n"), &status, keys.join("\n"))?;
        }
        Lease::Ls => {
            let leases = client.lease_list().await?;
            let items: Vec<_> = leases
                .iter()
                .map(|lease| {
                    let status = Status::of(lease);
                    let row = status.row();
                    (status, row)
                })
                .collect();
            global.printer().rows(&COLUMNS, &items)?;
        }
    }
    Ok(())
}

async fn renew(global: &Global, client: &hither::Client, lease: LeaseId, keep: bool) -> Result<(), Failure> {
    let mut stop = std::pin::pin!(signal::asked_to_stop());
    loop {
        let reply = client.lease_renew(lease).await?;
        let record = Granted { lease: lease.to_string(), ttl_ms: reply.ttl_ms, epoch: reply.epoch };
        let line = format!("lease {lease} for another {}", shown_ms(reply.ttl_ms));
        global.printer().fact(line, &record, lease)?;
        if !keep {
            return Ok(());
        }
        // A third: two renewals may be lost before the lease is.
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(reply.ttl_ms / 3)) => {}
            () = &mut stop => return Ok(()),
        }
    }
}
