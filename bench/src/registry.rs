//! The registry by its own client: what finding a service costs the caller, and what instances cost the server.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use hither::{Pick, Registration};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::process::Server;
use crate::target;

/// Registrations that a client has under way at once.
const IN_FLIGHT: usize = 32;
const IDLE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct Figures {
    pick_ns: f64,
    pick_random_ns: f64,
    discover_warm_ns: f64,
    view_of_10000_ms: f64,
    instances: usize,
    clients: usize,
    registrations_per_s: f64,
    document_bytes: f64,
    server_bytes_each_beyond_document: f64,
    idle_percent_of_a_core: f64,
}

/// Prints the figures as one JSON object.
pub(crate) async fn run(hither: &Path, instances: usize, clients: usize) -> anyhow::Result<()> {
    let (pick_ns, pick_random_ns, discover_warm_ns) = finding(hither).await?;
    let view_of_10000_ms = view(hither, 10_000).await?;

    let server = Server::hither(hither)?;
    let before = server.memory_at_rest().await?;
    let start = Instant::now();
    let fleet = register(&server, instances, clients).await?;
    let registrations_per_s = instances as f64 / start.elapsed().as_secs_f64();
    let document_bytes = fleet.document_bytes as f64 / instances as f64;
    // What was written behind is on disk by then, and connections are quiet.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let memory = server.memory_at_rest().await?.saturating_sub(before) as f64 / instances as f64;
    let cpu = server.cpu()?;
    tokio::time::sleep(IDLE).await;
    let idle = (server.cpu()? - cpu).as_secs_f64() / IDLE.as_secs_f64();
    let figures = Figures {
        pick_ns,
        pick_random_ns,
        discover_warm_ns,
        view_of_10000_ms,
        instances,
        clients,
        registrations_per_s,
        document_bytes,
        server_bytes_each_beyond_document: memory - document_bytes,
        idle_percent_of_a_core: idle * 100.0,
    };
    println!("{}", serde_json::to_string(&figures)?);
    drop(fleet);
    Ok(())
}

/// Nanoseconds of a pick by turn, a pick at random and a warm `discover`, of a service with 16 instances.
async fn finding(hither: &Path) -> anyhow::Result<(f64, f64, f64)> {
    let server = Server::hither(hither)?;
    let fleet = register(&server, 16, 1).await?;
    let client = target::hither(&server.address, server.home.path()).await?;
    client.wait_for("service-0", 16).await?;
    let (turn, random) = (Pick::round_robin(), Pick::random());
    let pick = nanoseconds(1_000_000, || client.pick("service-0", &turn).map(drop))?;
    let at_random = nanoseconds(1_000_000, || client.pick("service-0", &random).map(drop))?;
    let calls = 200_000;
    let start = Instant::now();
    for _ in 0..calls {
        black_box(client.discover("service-0").await?);
    }
    let discover = start.elapsed().as_nanos() as f64 / f64::from(calls);
    drop(fleet);
    Ok((pick, at_random, discover))
}

fn nanoseconds(calls: u32, mut call: impl FnMut() -> Result<(), hither::Error>) -> anyhow::Result<f64> {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(call()?);
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(calls))
}

/// Milliseconds from the first `discover` of a service with so many instances to its view; the median of five clients.
async fn view(hither: &Path, instances: usize) -> anyhow::Result<f64> {
    let server = Server::hither(hither)?;
    let fleet = register(&server, instances, 1).await?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let client = target::hither(&server.address, server.home.path()).await?;
        // Connected and greeted: only the view is measured.
        client.get("nothing").await?;
        let start = Instant::now();
        let view = client.discover("service-0").await?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(view.len() == instances, "{} of {instances} instances in the view", view.len());
        client.close().await;
    }
    times.sort_by(f64::total_cmp);
    drop(fleet);
    Ok(times[times.len() / 2])
}

/// Clients with registered instances, which live as long as this does.
struct Fleet {
    _registered: Vec<hither::Registered>,
    document_bytes: usize,
}

async fn register(server: &Server, instances: usize, clients: usize) -> anyhow::Result<Fleet> {
    let mut workers = JoinSet::new();
    for worker in 0..clients {
        let client = target::hither(&server.address, server.home.path()).await?;
        let count = instances / clients;
        for lane in 0..IN_FLIGHT {
            let client = client.clone();
            workers.spawn(async move {
                let mut registered = Vec::new();
                for n in (lane..count).step_by(IN_FLIGHT) {
                    let registration = Registration::new(format!("service-{worker}"))
                        .id(format!("{worker}-{n}"))
                        .endpoint(format!("http://10.0.{}.{}:8080", n / 250, n % 250 + 1))
                        .version("1.4.2")
                        .tag("blue")
                        .zone("eu-1a");
                    registered.push(client.register(registration).await?);
                }
                anyhow::Ok(registered)
            });
        }
    }
    let mut all = Vec::with_capacity(instances);
    while let Some(registered) = workers.join_next().await {
        all.extend(registered??);
    }
    let document_bytes = all.iter().map(|registered| registered.instance().to_json().len()).sum();
    Ok(Fleet { _registered: all, document_bytes })
}
