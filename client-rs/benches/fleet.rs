//! What a fleet costs its server: `cargo bench -p hither --bench fleet -- URL PID [CLIENTS] [EACH]`.
//!
//! Registers CLIENTS times EACH instances (100 times 1,000) at a `hither dev` that may be thrown away, whose process is
//! PID, and reads from `/proc` what that took in memory and what it takes in time when nothing happens.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hither::{Client, Error, Registered, Registration};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(20);
/// Ticks of a second in `/proc`.
const TICKS: f64 = 100.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [url, pid, rest @ ..] = &arguments[..] else {
        println!("give the URL and the process id of a server");
        return Ok(());
    };
    let number = |at: usize, default: usize| rest.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (clients, each) = (number(0, 100), number(1, 1_000));
    let before = resident(pid);
    let begun = Instant::now();
    let mut fleet: Vec<(Client, Vec<Registered>)> = Vec::new();
    let mut bytes = 0;
    for client in 0..clients {
        let connected = Client::builder().url(url).connect().await?;
        let batch = (0..each).map(|number| connected.register(registration(client, number)));
        let registered = try_join_all(batch).await?;
        bytes += registered.iter().map(|one| one.instance().to_json().len()).sum::<usize>();
        fleet.push((connected, registered));
    }
    let count = clients * each;
    let took = begun.elapsed().as_secs_f64();
    println!("{count} instances of {clients} clients in {took:.1} s, {} bytes of record each", bytes / count);
    // What was only passing through is given back by then.
    tokio::time::sleep(IDLE).await;
    let memory = resident(pid).saturating_sub(before);
    println!("{:<40} {:>8.0} bytes", "server memory each, record included", memory as f64 / count as f64);
    println!("{:<40} {:>8.0} bytes", "beyond the record", (memory as f64 - bytes as f64) / count as f64);
    let (ticks, begun) = (spent(pid), Instant::now());
    tokio::time::sleep(IDLE).await;
    let busy = (spent(pid) - ticks) / TICKS / begun.elapsed().as_secs_f64();
    println!("{:<40} {:>8.1} % of a core", "server when nothing happens", busy * 100.0);
    for (client, registered) in fleet {
        drop(registered);
        client.close().await;
    }
    Ok(())
}

fn registration(client: usize, number: usize) -> Registration {
    Registration::new(format!("service-{}", number % 100))
        .id(format!("client-{client}-{number}"))
        .endpoint(format!("http://10.{client}.{}.{}:8080", number / 250, number % 250 + 1))
        .version("1.2.3")
        .tag("blue")
        .zone("a")
        .region("eu")
}

/// Bytes of memory that a process has.
fn resident(pid: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).map_or(0, |kib: usize| kib * 1_024)
}

/// Ticks that a process has computed for.
fn spent(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    field(11) + field(12)
}
