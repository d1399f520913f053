//! Registers and unregisters instances of services, for programs that do not do it themselves.
//!
//! ```text
//! cargo run --bin admin -- register --name api-gateway --instance node1 --endpoint "192.168.1.10:8080"
//! cargo run --bin admin -- unregister --name api-gateway --instance node1
//! ```

use std::time::Duration;

use anyhow::bail;
use clap::Parser;
use hither::{Client, Instance, Registration};

/// Registers and unregisters instances of services.
#[derive(Parser)]
enum Command {
    /// Register an instance. It stays until it is unregistered, unless --ttl or --hold ties it to a lease.
    Register {
        #[command(flatten)]
        which: Which,
        /// Where it listens: HOST:PORT, or SCHEME://HOST:PORT.
        #[arg(long)]
        endpoint: String,
        /// It stays for this long, such as 30s.
        #[arg(long, value_parser = duration)]
        ttl: Option<Duration>,
        /// It stays for as long as this program runs.
        #[arg(long, conflicts_with = "ttl")]
        hold: bool,
    },
    /// Take an instance out.
    Unregister {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(clap::Args)]
struct Which {
    /// The service.
    #[arg(long)]
    name: String,
    /// The instance, unique in its service.
    #[arg(long)]
    instance: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    hither::parse_duration(text).map_err(|refusal| refusal.detail)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    let client = hither::connect().await?;
    match command {
        Command::Register { which, endpoint, ttl, hold } => {
            let registration = Registration::new(which.name).id(which.instance).endpoint(endpoint);
            if hold {
                hold_registration(&client, registration).await?;
            } else {
                register(&client, registration, ttl).await?;
            }
        }
        Command::Unregister { which } => {
            let key = Instance::key_of(&which.name, &which.instance);
            if client.delete(key.clone()).await?.deleted == 0 {
                eprintln!("{key} was not registered");
            }
        }
    }
    client.close().await;
    Ok(())
}

async fn register(client: &Client, registration: Registration, ttl: Option<Duration>) -> anyhow::Result<()> {
    let registration = match ttl {
        Some(ttl) => registration.lease(client.lease_grant(ttl).await?.lease),
        None => registration.permanent(),
    };
    client.register(registration).await?;
    Ok(())
}

async fn hold_registration(client: &Client, registration: Registration) -> anyhow::Result<()> {
    let registered = client.register(registration).await?;
    eprintln!("registered until Ctrl-C");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => registered.deregister().await?,
        () = registered.lost() => bail!("the registration is lost: no server confirmed it in time"),
    };
    Ok(())
}
