//! Three engines, or one, on one thread, with a clock that jumps, links that lose and delay, and disks that forget, played
//! from a seed. A plain model judges: what was acknowledged stays, once; no read misses it; replicas are equal.
//!
//! `HITHER_SIM_SEED=7` plays one seed, `HITHER_SIM_SEEDS=1000` that many of them.

#[path = "sim/client.rs"]
mod client;
#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/model.rs"]
mod model;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/runtime.rs"]
mod runtime;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::{ClusterId, NodeId};
use hither_server::engine::{Engine, EngineConfig};
use hither_server::raft::NoLinks;
use hither_state::device::{MemoryLog, MemoryState};
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;

use cluster::Cluster;
use model::Model;
use runtime::{Dice, Sim, timers};

/// How long faults go on, on the simulated clock.
const STORM: Duration = Duration::from_secs(6);
/// Clients that write and read meanwhile.
const CLIENTS: u64 = 4;
/// Seeds of a normal run.
const SEEDS: u64 = 4;

/// Plays a seed; returns a digest of all that happened.
fn play(nodes: u64, seed: u64, storm: Duration) -> String {
    eprintln!("{nodes} nodes, seed {seed}: replay with HITHER_SIM_SEED={seed} cargo test -p hither-server --test sim");
    // What the engines say, with RUST_LOG=debug; it must not be asked for in a run that counts.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    SimRuntime::with_seed(seed).block_on(async move {
        let model = Arc::new(Model::default());
        let cluster = Rc::new(Cluster::start(nodes, Dice::new(seed), model.clone()).await);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| client::spawn(number, Dice::new(seed ^ number << 32), cluster.handle()))
            .collect();
        cluster.storm(storm).await;
        cluster.calm().await;
        model.stop();
        for client in clients {
            client.await.expect("the client does not panic");
        }
        cluster.judge().await;
        assert_eq!(model.ahead() > 0, nodes == 1, "entries are applied ahead of raft where nobody else votes");
        model.verdict()
    })
}

/// Plays the seeds that are asked for.
fn play_seeds(nodes: u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number("HITHER_SIM_SEED"), number("HITHER_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 1..count.unwrap_or(SEEDS) + 1,
    };
    for seed in seeds {
        let verdict = play(nodes, seed, STORM);
        eprintln!("seed {seed}: {verdict}");
    }
}

#[test]
fn what_is_acknowledged_survives_crashes_and_partitions() {
    play_seeds(3);
}

#[test]
fn what_a_node_alone_acknowledges_survives_its_crashes() {
    play_seeds(1);
}

#[test]
fn a_seed_plays_the_same_twice() {
    let short = Duration::from_secs(2);
    for nodes in [1, 3] {
        assert_eq!(play(nodes, 99, short), play(nodes, 99, short));
    }
}

#[test]
fn a_node_without_company_sets_few_timers_when_nothing_goes_on() {
    SimRuntime::with_seed(1).block_on(async {
        let (mut log, mut state) = (MemoryLog::default(), MemoryState::default());
        for _ in 0..2 {
            let config = EngineConfig::single(NodeId(1), ClusterId(*b"a simulated one."));
            let engine = Engine::start_on::<Sim, _, _>(config, log.clone(), state.clone(), Arc::new(NoLinks)).await;
            let engine = engine.expect("starts");
            assert!(engine.leadership().is_leader);
            let before = timers();
            Sim::sleep(Duration::from_secs(10)).await;
            let set = timers() - before;
            assert!(set < 100, "{set} timers in 10 s: raft looks for company that there is not");
            engine.shutdown().await;
            // Again after a restart.
            (log, state) = (log.after_crash(), state.after_crash());
        }
    });
}

#[test]
fn the_clock_jumps() {
    let begun = std::time::Instant::now();
    SimRuntime::with_seed(0).block_on(async { Sim::sleep(Duration::from_secs(3600)).await });
    assert!(begun.elapsed() < Duration::from_secs(60));
}
