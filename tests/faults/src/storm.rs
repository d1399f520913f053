//! Everybody comes back at once: thousands of clients whose server was killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use hither::{Client, KeyRange, Lease};
use hither_tests::node::{Home, Node};

use crate::machine::{raise_descriptors, usage};

/// Clients that connect at once in the beginning; the storm itself is not held back by anybody here.
const AT_ONCE: usize = 128;
/// A machine that does this much else too needs its time for the first connections.
const CONNECT: Duration = Duration::from_secs(60);
/// How long the server is gone.
const GONE: Duration = Duration::from_secs(3);
/// Longest wait for the last client.
const ALL: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Clients.
    pub clients: usize,
    /// From the ready line of the second process until 95 of 100 clients were greeted by it.
    pub most_back: Duration,
    /// The same for the last one.
    pub all_back: Duration,
    /// Greetings in the second that had most of them.
    pub per_second_max: usize,
    /// Handshakes that the server had under way at once, at most, of what was seen ten times a second.
    pub handshakes_max: usize,
    /// Leases whose clients lost them, or that are not there any more.
    pub leases_lost: usize,
    /// Those of them that were lost while their clients were not back.
    pub lost_waiting: usize,
    /// Leases.
    pub leases: usize,
    /// Memory of the server with everybody back, MiB.
    pub server_mib: f64,
    /// Its processor time for the storm.
    pub server_processor: Duration,
    /// Memory of this process, MiB.
    pub clients_mib: f64,
}

/// Connects `clients`, of which `holders` have a lease with a key each, kills the server and starts it again.
///
/// # Errors
/// Somebody does not come back.
pub async fn run(clients: usize, holders: usize) -> anyhow::Result<Figures> {
    raise_descriptors(clients as u64 + 500)?;
    let mut node = Node::start_in(Home::new(), &[]).await;
    let connect = |number: usize| {
        let builder = node.client().connect_timeout(CONNECT).request_timeout(CONNECT);
        async move {
            // A first connection is tried once for each call; a machine at its limits may need more.
            let deadline = Instant::now() + CONNECT;
            let client = loop {
                match builder.clone().connect().await {
                    Ok(client) => break client,
                    Err(error) if error.is_retryable() && Instant::now() < deadline => {}
                    Err(error) => return Err(error).with_context(|| format!("client {number}")),
                }
            };
            let lease = if number < holders {
                let lease = client.lease(Duration::from_secs(10)).await?;
                client.put(format!("storm/{number}"), "").lease(lease.id()).await?;
                Some(lease)
            } else {
                None
            };
            anyhow::Ok((client, lease))
        }
    };
    let began = Instant::now();
    let mut connected: Vec<(Client, Option<Lease>)> = Vec::with_capacity(clients);
    let mut connecting = futures_util::stream::iter(0..clients).map(connect).buffer_unordered(AT_ONCE);
    while let Some(client) = connecting.next().await {
        connected.push(client?);
    }
    drop(connecting);
    // Those with a lease first, as they are counted.
    connected.sort_by_key(|(_, lease)| lease.is_none());
    println!("{clients} clients connected in {:.1} s", began.elapsed().as_secs_f64());

    let before: Vec<u64> = connected.iter().map(|(client, _)| client.metrics().connects).collect();
    node.kill().await;
    tokio::time::sleep(GONE).await;
    node.restart().await;
    let start = Instant::now();
    let mut figures = Figures { clients, leases: holders, ..Figures::default() };
    let mut missing: Vec<usize> = (0..clients).collect();
    let is_lost = |(_, lease): &&(Client, Option<Lease>)| lease.as_ref().is_some_and(Lease::is_lost);
    let lost_before = connected.iter().filter(is_lost).count();
    ensure!(lost_before == 0, "{lost_before} leases were lost before anything happened");
    let mut lost_waiting = BTreeSet::new();
    let (mut second, mut in_second, mut holders_in_second) = (0, 0, 0);
    while !missing.is_empty() {
        let count = missing.len();
        let missing_holders = |missing: &[usize]| missing.partition_point(|&number| number < holders);
        let holders_before = missing_holders(&missing);
        lost_waiting.extend(missing.iter().copied().filter(|&number| is_lost(&&connected[number])));
        missing.retain(|&number| connected[number].0.metrics().connects <= before[number]);
        let elapsed = start.elapsed();
        if elapsed.as_secs() > second {
            println!("{second:3} s: {in_second} greeted, {holders_in_second} of them hold a lease; {count} missing");
            (second, in_second, holders_in_second) = (elapsed.as_secs(), 0, 0);
        }
        in_second += count - missing.len();
        holders_in_second += holders_before - missing_holders(&missing);
        figures.per_second_max = figures.per_second_max.max(in_second);
        if figures.most_back.is_zero() && missing.len() * 20 <= clients {
            figures.most_back = elapsed;
        }
        let handshakes = node.metric("hither_handshakes").await.context("the admin port answers")?;
        figures.handshakes_max = figures.handshakes_max.max(handshakes as usize);
        ensure!(elapsed < ALL, "{} clients are not back after {elapsed:?}", missing.len());
        tokio::time::sleep(LOOK).await;
    }
    figures.all_back = start.elapsed();
    let server = usage(node.id())?;
    (figures.server_mib, figures.server_processor) = (server.memory_mib, server.processor);
    figures.clients_mib = usage(std::process::id())?.memory_mib;
    // Longer than any lease lives whose client was not heard.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let lost = connected.iter().filter(is_lost).count();
    let reader = node.client().connect_timeout(CONNECT).connect().await?;
    let there = reader.range(KeyRange::prefix("storm/")).count().await?;
    figures.lost_waiting = lost_waiting.len();
    figures.leases_lost = lost.max(holders.saturating_sub(usize::try_from(there)?));
    Ok(figures)
}
