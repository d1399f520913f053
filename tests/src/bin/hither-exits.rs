//! `hither-exits HOW`: ends with calls in flight, an open watch, a lease, a registration and a client that nobody
//! closes. HOW it ends: `return` from main, `exit` from within a task, `drop` of the runtime while tasks hold the client.

use std::time::Duration;

use anyhow::{Result, bail};
use hither::{Client, Registration};
use tokio::task::JoinSet;

fn main() -> Result<()> {
    let how = std::env::args().nth(1).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match how.as_str() {
        "return" => runtime.block_on(async {
            let _busy = busy().await?;
            Ok(())
        }),
        "exit" => runtime.block_on(async {
            let _busy = busy().await?;
            tokio::spawn(async { std::process::exit(0) }).await?;
            Ok(())
        }),
        "drop" => {
            let busy = runtime.block_on(busy())?;
            drop(runtime);
            drop(busy);
            Ok(())
        }
        _ => bail!("it ends by return, exit or drop"),
    }
}

/// A client with everything under way that can be.
async fn busy() -> Result<(Client, JoinSet<()>)> {
    let client = hither::connect().await?;
    let mut calls = JoinSet::new();
    for number in 0..500 {
        let client = client.clone();
        calls.spawn(async move {
            // Whatever becomes of it: the process is ending.
            let _ = client.put(format!("k/{number}"), "v").await;
        });
    }
    let lease = client.lease(Duration::from_secs(60)).await?;
    let registered = client.register(Registration::new("exits").port(1)).await?;
    let mut watch = client.watch(hither::KeyRange::prefix("k/")).await?;
    let mut service = client.watch_service("exits").await?;
    calls.spawn(async move {
        let (_lease, _registered) = (lease, registered);
        while watch.next().await.is_some() {}
    });
    calls.spawn(async move { while service.next().await.is_some() {} });
    Ok((client, calls))
}
