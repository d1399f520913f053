//! Asks `orders` for articles, many at a time, until it is told to stop (SIGTERM), and prints what came of it. Every
//! request goes through all three languages: orders (Python) asks prices (Rust), which asks stock (Node), which asks
//! orders again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Parser;
use hither::reqwest::Services;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Asks for articles until it is told to stop.
#[derive(Parser)]
struct Args {
    /// Requests under way at once.
    #[arg(long, default_value_t = 16)]
    in_flight: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = hither::connect().await?;
    client.wait_for("orders", 1).await?;
    let services = Services::new(&client, reqwest::Client::new());
    let stopping = Arc::new(AtomicBool::new(false));
    let requests = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..args.in_flight {
        let (services, stopping, requests) = (services.clone(), Arc::clone(&stopping), Arc::clone(&requests));
        callers.spawn(async move {
            let mut errors = Vec::new();
            let mut languages = BTreeSet::new();
            let mut article = caller;
            while !stopping.load(Ordering::Relaxed) {
                match ask(&services, article).await {
                    Ok(order) => languages.extend(hops(&order)),
                    Err(error) => errors.push(error.to_string()),
                }
                requests.fetch_add(1, Ordering::Relaxed);
                article = article.wrapping_add(args.in_flight);
            }
            (errors, languages)
        });
    }
    eprintln!("asking; SIGTERM ends it");
    signal(SignalKind::terminate())?.recv().await;
    stopping.store(true, Ordering::Relaxed);
    let (mut errors, mut languages) = (Vec::new(), BTreeSet::new());
    while let Some(caller) = callers.join_next().await {
        let (failed, seen) = caller?;
        errors.extend(failed);
        languages.extend(seen);
    }
    for error in errors.iter().take(5) {
        eprintln!("load: {error}");
    }
    let requests = requests.load(Ordering::Relaxed);
    let told =
        json!({ "requests": requests, "errors": errors.len(), "retries": services.retries(), "languages": languages });
    println!("{told}");
    client.close().await;
    Ok(())
}

async fn ask(services: &Services, article: u32) -> anyhow::Result<Value> {
    let response = services.get(&format!("svc://orders/orders/{article}")).await?.error_for_status()?;
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

/// The languages that an answer went through, outermost first.
fn hops(order: &Value) -> Vec<String> {
    [&order["by"], &order["price"]["by"], &order["price"]["stock"]["by"], &order["price"]["stock"]["discount"]["by"]]
        .into_iter()
        .filter_map(|by| by.as_str().map(str::to_owned))
        .collect()
}
