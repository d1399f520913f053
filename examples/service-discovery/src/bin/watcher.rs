//! Prints every change of a key, or of all instances of a service.
//!
//! ```text
//! cargo run --bin watcher -- --key "services/api-gateway/node1"
//! cargo run --bin watcher -- --service api-gateway
//! ```

use clap::Parser;
use hither::{Event, Instance, Key, KeyRange};
use hither_example_service_discovery::endpoints;

/// Watches a key, or a whole service.
#[derive(Parser)]
struct Args {
    /// The key to watch.
    #[arg(long, required_unless_present = "service", conflicts_with = "service")]
    key: Option<String>,
    /// The service to watch: all its instances.
    #[arg(long)]
    service: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let range = match (args.key, args.service) {
        (Some(key), _) => KeyRange::One(Key::from(key)),
        (None, Some(service)) => Instance::range_of(&service),
        (None, None) => anyhow::bail!("name a --key or a --service"),
    };
    let client = hither::connect().await?;
    let mut watch = client.watch(range).await?;
    eprintln!("watching; Ctrl-C ends it");
    loop {
        let update = tokio::select! {
            update = watch.next() => update,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(update) = update else { break };
        for event in update?.events {
            match event {
                Event::Put { entry, .. } => println!("[PUT] {} = {}", entry.key, endpoints(&entry.value)),
                Event::Delete { key, .. } => println!("[DELETE] {key}"),
                Event::Liveness { .. } => {}
            }
        }
    }
    client.close().await;
    Ok(())
}
