//! A service that registers itself: it listens, says where, and is found for as long as it lives.
//!
//! ```text
//! cargo run --bin service -- --name api-gateway --instance node2
//! ```
//!
//! Ended with Ctrl-C or SIGTERM it deregisters at once; killed, it is gone from the registry when its lease ends.

use std::time::Duration;

use clap::Parser;
use hither::Registration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Listens on a free port of this machine, and registers.
#[derive(Parser)]
struct Args {
    /// The service.
    #[arg(long)]
    name: String,
    /// The instance, unique in its service.
    #[arg(long)]
    instance: String,
    /// How long the registration outlives a killed process.
    #[arg(long, default_value = "3s", value_parser = duration)]
    ttl: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    hither::parse_duration(text).map_err(|refusal| refusal.detail)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = listener.local_addr()?.to_string();
    let client = hither::connect().await?;
    let registration = Registration::new(&args.name).id(&args.instance).endpoint(&endpoint).ttl(args.ttl);
    let registered = client.register(registration).await?;
    eprintln!("{} {} listens at {endpoint}", args.name, args.instance);

    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut caller, _) = accepted?;
                // A caller that does not wait for its answer is its own affair.
                let _ = caller.write_all(format!("this is {} {}\n", args.name, args.instance).as_bytes()).await;
            }
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
            () = registered.lost() => anyhow::bail!("the registration is lost: no server confirmed it in time"),
        }
    }
    registered.deregister().await?;
    client.close().await;
    Ok(())
}
