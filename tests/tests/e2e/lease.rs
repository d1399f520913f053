//! Leases: never early, always in the end, at once after a goodbye; and their holder is told in time.

use std::process::Stdio;
use std::time::{Duration, Instant};

use hither::{Client, Event, KeyRange, SessionState, Start, Watch};
use hither_tests::node::{Node, Process};
use hither_tests::relay::Relay;
use hither_tests::wait::{until, within};
use rustix::process::Signal;

use crate::watcher::PATIENT;

const TTL: Duration = Duration::from_secs(2);
/// A client that holds leases is heard of this often; the last sign of life may be so much older than the cut.
const KEEP_ALIVE: Duration = Duration::from_millis(300);
/// After its TTL a lease is ended by one command; the rest is for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_holders_keys_go_after_the_ttl_and_never_before() -> anyhow::Result<()> {
    let node = Node::start().await;
    let relay = Relay::start(node.addr(), 31)?;
    let holder = node.client_at(relay.addr()).session_ttl(TTL).connect().await?;
    let lease = holder.lease(TTL).await?;
    holder.put("l/a", "1").lease(lease.id()).await?;
    holder.put("l/b", "1").lease(lease.id()).await?;
    let witness = node.client().connect().await?;
    let mut watch = witness.watch(KeyRange::prefix("l/")).start(Start::Now).await?;

    // Alive for longer than the TTL, it keeps its keys.
    let end = Instant::now() + TTL * 2;
    until("twice the TTL passes", PATIENT, async || (Instant::now() > end).then_some(())).await;
    assert!(witness.get("l/a").await?.is_some(), "a lease that is kept alive ended");

    let cut = Instant::now();
    relay.cut();
    let told = tokio::spawn(async move {
        lease.lost().await;
        Instant::now()
    });
    let (keys, revisions) = deletions(&mut watch, 2).await;
    let gone = cut.elapsed();
    assert_eq!(keys, ["l/a", "l/b"]);
    assert_eq!(revisions.len(), 1, "the keys of a lease go in one revision");
    assert!(gone >= TTL - KEEP_ALIVE, "it ended after {gone:?}, its TTL is {TTL:?}");
    let told = within("the holder is told", SLACK, told).await?;
    assert!(told < cut + gone, "the holder must know before anyone can take its place");
    assert!(relay.counts().swallowed > 0);
    Ok(())
}

/// Waits for `count` deletions; returns their keys, and their revisions without repetition.
async fn deletions(watch: &mut Watch, count: usize) -> (Vec<String>, Vec<u64>) {
    let (mut keys, mut revisions) = (Vec::new(), Vec::new());
    within("the keys are deleted", TTL + SLACK, async {
        while keys.len() < count {
            for event in watch.next().await.expect("the watch goes on").expect("the watch goes on").events {
                if let Event::Delete { key, revision, .. } = event {
                    keys.push(key.to_string());
                    revisions.push(revision.0);
                }
            }
        }
    })
    .await;
    revisions.dedup();
    (keys, revisions)
}

/// A registration is held by a process: killed, it goes with its TTL; asked to stop, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_expires_and_one_that_stops_goes_at_once() -> anyhow::Result<()> {
    const INSTANCE_TTL: Duration = Duration::from_secs(10);
    let node = Node::start().await;
    let client = node.client().connect().await?;
    let there = async |count: usize| {
        until("the registration comes or goes", INSTANCE_TTL + SLACK, async || {
            (client.instances("api").await.ok()?.len() == count).then_some(())
        })
        .await;
    };
    for (signal, at_least, at_most) in
        [(Signal::KILL, INSTANCE_TTL - KEEP_ALIVE, INSTANCE_TTL + SLACK), (Signal::TERM, Duration::ZERO, SLACK)]
    {
        let mut service = Process::start(
            node.home()
                .hither(&["svc", "register", "api", "--id", "node1", "--endpoint", "127.0.0.1:1"])
                .args(["--server", &node.url()])
                .stdout(Stdio::null()),
        );
        there(1).await;
        let end = Instant::now();
        service.signal(signal);
        there(0).await;
        let took = end.elapsed();
        assert!((at_least..at_most).contains(&took), "{signal:?}: it went after {took:?}");
        service.end(PATIENT).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_ends_leases_at_once() -> anyhow::Result<()> {
    let node = Node::start().await;
    let holder = node.client().connect().await?;
    let lease = holder.lease(Duration::from_secs(600)).await?;
    holder.put("l/a", "1").lease(lease.id()).await?;
    let witness = node.client().connect().await?;
    let mut watch = witness.watch(KeyRange::prefix("l/")).start(Start::Now).await?;
    holder.close().await;
    let (keys, _) = deletions(&mut watch, 1).await;
    assert_eq!(keys, ["l/a"]);
    assert_eq!(holder.state(), SessionState::Closed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_outlive_a_killed_server_and_start_their_ttl_afresh() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let holder = node.client().connect().await?;
    // Longer than any restart, shorter than the test may take.
    let lease = holder.lease(TTL * 10).await?;
    holder.put("l/a", "1").lease(lease.id()).await?;
    node.kill().await;
    node.restart().await;
    until("the holder is back", PATIENT, async || (holder.state() == SessionState::Connected).then_some(())).await;
    assert!(!lease.is_lost(), "a quick restart costs nobody a lease");
    // What it writes after the restart is still on the same lease.
    holder.put("l/b", "1").lease(lease.id()).timeout(PATIENT).await?;
    let witness = node.client().connect().await?;
    assert_eq!(witness.range(KeyRange::prefix("l/")).count().await?, 2);
    lease.revoke().await?;
    assert_eq!(witness.range(KeyRange::prefix("l/")).count().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_sees_its_session_suspended_then_lost_then_connected_again() -> anyhow::Result<()> {
    let node = Node::start().await;
    let relay = Relay::start(node.addr(), 33)?;
    let client = node.client_at(relay.addr()).session_ttl(TTL).beat_interval(Duration::from_millis(250)).connect();
    let client = client.await?;
    client.put("s/a", "1").await?;
    let states = record(&client);
    relay.cut();
    await_state(&client, SessionState::Lost).await;
    relay.heal();
    await_state(&client, SessionState::Connected).await;
    // The next write opens another session and works.
    client.put("s/a", "2").timeout(PATIENT).await?;
    client.close().await;
    let states = within("the states end", PATIENT, states).await?;
    let expected = [SessionState::Suspended, SessionState::Lost, SessionState::Connected, SessionState::Closed];
    assert_eq!(states, expected);
    assert_eq!(client.metrics().sessions_lost, 1);
    Ok(())
}

fn record(client: &Client) -> tokio::task::JoinHandle<Vec<SessionState>> {
    let mut states = client.states();
    assert_eq!(states.current(), SessionState::Connected);
    tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(state) = states.changed().await {
            seen.push(state);
            if state == SessionState::Closed {
                break;
            }
        }
        seen
    })
}

async fn await_state(client: &Client, state: SessionState) {
    let mut states = client.states();
    assert!(within("the state changes", PATIENT, states.wait_for(state)).await, "the client was closed");
}
