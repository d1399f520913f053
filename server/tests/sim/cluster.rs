//! Nodes and what befalls them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_server::engine::{Birth, Engine, EngineConfig, Member};
use hither_server::raft::{LogLimits, Runtime};
use hither_state::device::{MemoryLog, MemoryState};
use hither_state::watch::HubConfig;
use openraft_rt::{AsyncRuntime, Instant};
use tokio_util::sync::CancellationToken;

use super::model::Model;
use super::network::{Network, Running};
use super::runtime::{Dice, Sim};

/// The cluster, and who may do to it as they like.
pub(crate) struct Cluster {
    handle: Handle,
    dice: Mutex<Dice>,
    disks: Mutex<BTreeMap<NodeId, (MemoryLog, MemoryState)>>,
}

/// What clients see of it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) network: Network,
    pub(crate) model: Arc<Model>,
    /// How many nodes there are; their numbers begin with 1.
    pub(crate) nodes: u64,
}

impl Cluster {
    pub(crate) async fn start(nodes: u64, mut dice: Dice, model: Arc<Model>) -> Self {
        let network = Network::new(Dice::new(dice.roll()));
        let cluster =
            Self { handle: Handle { network, model, nodes }, dice: Mutex::new(dice), disks: Mutex::default() };
        for node in cluster.nodes() {
            cluster.start_node(node).await;
        }
        cluster
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.handle.nodes).map(NodeId)
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Faults, one after the other.
    pub(crate) async fn storm(&self, duration: Duration) {
        let begun = <Sim as AsyncRuntime>::Instant::now();
        while begun.elapsed() < duration {
            let pause = self.dice().between_us(50_000, 600_000);
            Sim::sleep(pause).await;
            let node = NodeId(1 + self.dice().below(self.handle.nodes));
            let kind = self.dice().below(10);
            match kind {
                // There is nobody to cut it off from.
                _ if self.handle.nodes == 1 => self.crash(node).await,
                0..=3 => self.crash(node).await,
                4..=6 => self.isolate(node),
                7 => self.cut_one_way(node),
                _ => self.handle.network.heal(),
            }
            self.look();
        }
    }

    /// No more faults; waits until the nodes are equal.
    pub(crate) async fn calm(&self) {
        self.handle.network.heal();
        self.settle().await;
    }

    /// Everything acknowledged is everywhere, and stays over a crash of all nodes at once.
    pub(crate) async fn judge(&self) {
        self.settle().await;
        self.check();
        for node in self.nodes() {
            self.crash(node).await;
        }
        self.settle().await;
        self.check();
    }

    fn check(&self) {
        for (node, running) in self.handle.network.nodes() {
            self.handle.model.look(node, &running.engine);
            self.handle.model.check(node, &running.engine);
        }
    }

    fn look(&self) {
        for (node, running) in self.handle.network.nodes() {
            self.handle.model.look(node, &running.engine);
        }
    }

    /// Waits until somebody leads and all have applied the same.
    async fn settle(&self) {
        let begun = <Sim as AsyncRuntime>::Instant::now();
        loop {
            Sim::sleep(Duration::from_millis(50)).await;
            let nodes = self.handle.network.nodes();
            let leads = nodes.iter().any(|(_, running)| running.engine.leadership().is_leader);
            let mut prints: Vec<_> = nodes.iter().map(|(_, running)| running.engine.machine().fingerprint()).collect();
            prints.dedup();
            if leads && nodes.len() as u64 == self.handle.nodes && prints.len() == 1 {
                return;
            }
            let views: Vec<_> = nodes.iter().map(|(node, running)| (node, running.engine.leadership())).collect();
            assert!(begun.elapsed() < Duration::from_secs(60), "the cluster does not settle: {prints:?} {views:?}");
        }
    }

    /// Kills a node, takes what its disks had not synced, and starts it again.
    async fn crash(&self, node: NodeId) {
        let Some(running) = self.handle.network.remove(node) else { return };
        // What it shows now is what it shows afterwards, at the same entry.
        self.handle.model.look(node, &running.engine);
        self.handle.model.crash();
        running.crashed.cancel();
        {
            let mut disks = self.disks.lock().expect("no panic under the lock");
            let (log, state) = &disks[&node];
            let left = (log.after_crash(), state.after_crash());
            disks.insert(node, left);
        }
        // It goes on with disks that nobody will read, until it notices.
        Sim::detach(async move { running.engine.shutdown().await });
        let pause = self.dice().between_us(1_000, 300_000);
        Sim::sleep(pause).await;
        self.start_node(node).await;
    }

    fn isolate(&self, node: NodeId) {
        self.handle.model.partition();
        for other in self.nodes().filter(|&other| other != node) {
            self.handle.network.cut(node, other);
            self.handle.network.cut(other, node);
        }
    }

    fn cut_one_way(&self, from: NodeId) {
        self.handle.model.partition();
        let to = NodeId(1 + from.0 % self.handle.nodes);
        self.handle.network.cut(from, to);
    }

    async fn start_node(&self, node: NodeId) {
        let members = self.nodes().map(|node| (node, Member::default())).collect();
        let mut hub = HubConfig::default();
        let mut trim_interval = Duration::from_secs(1);
        if self.handle.nodes == 1 {
            // So that the leader's own entries come between those of clients.
            (hub.history_bytes_max, trim_interval) = (2 << 10, Duration::from_millis(10));
        }
        let config = EngineConfig {
            birth: Some(Birth { cluster: ClusterId(*b"a simulated one."), members }),
            // Small, so that nodes that were away get the whole state.
            log_limits: LogLimits { grown_bytes: 8 << 10, grown_entries: 40, kept_bytes: 2 << 10, kept_entries: 10 },
            hub,
            trim_interval,
            patience: Duration::from_secs(1),
            wall_clock: Arc::new(|| UnixMillis(0)),
            ..EngineConfig::new(node)
        };
        let (log, state) = self.disks.lock().expect("no panic under the lock").entry(node).or_default().clone();
        let crashed = CancellationToken::new();
        let links = self.handle.network.links(node, crashed.clone());
        let engine = Engine::start_on::<Sim, _, _>(config, log, state, links).await.expect("starts");
        let (failed, ends) = (engine.failed(), crashed.clone());
        Sim::detach(async move {
            tokio::select! {
                biased;
                () = ends.cancelled() => {}
                failure = failed => {
                    eprintln!("node {node} failed: {failure}");
                    std::process::abort();
                }
            }
        });
        self.handle.network.insert(node, Running { engine, crashed });
    }

    fn dice(&self) -> std::sync::MutexGuard<'_, Dice> {
        self.dice.lock().expect("no panic under the lock")
    }
}
