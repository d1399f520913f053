//! Links that delay, lose, and are cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::NodeId;
use hither_server::engine::{Engine, Member};
use hither_server::raft::{Lane, Links, Pending, Pipe, Runtime};
use openraft_rt::AsyncRuntime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::runtime::{Dice, Sim};

/// What is lost is noticed by nobody for so long.
const SILENCE: Duration = Duration::from_secs(3);

/// All nodes and the links between them.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

struct State {
    dice: Dice,
    nodes: BTreeMap<NodeId, Running>,
    /// From and to: what is sent that way is lost.
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// A node that runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) engine: Engine,
    /// Cancelled when it crashes: nothing that it says afterwards counts.
    pub(crate) crashed: CancellationToken,
}

/// The links of one node, from its start to its crash.
struct SimLinks {
    network: Network,
    from: NodeId,
    crashed: CancellationToken,
}

impl Network {
    pub(crate) fn new(dice: Dice) -> Self {
        Self(Arc::new(Mutex::new(State { dice, nodes: BTreeMap::new(), cut: BTreeSet::new() })))
    }

    pub(crate) fn links(&self, from: NodeId, crashed: CancellationToken) -> Arc<dyn Links> {
        Arc::new(SimLinks { network: self.clone(), from, crashed })
    }

    pub(crate) fn insert(&self, node: NodeId, running: Running) {
        self.lock().nodes.insert(node, running);
    }

    pub(crate) fn remove(&self, node: NodeId) -> Option<Running> {
        self.lock().nodes.remove(&node)
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<Running> {
        self.lock().nodes.get(&node).cloned()
    }

    pub(crate) fn nodes(&self) -> Vec<(NodeId, Running)> {
        self.lock().nodes.iter().map(|(&node, running)| (node, running.clone())).collect()
    }

    /// Loses what is sent from one to the other.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().cut.insert((from, to));
    }

    pub(crate) fn heal(&self) {
        self.lock().cut.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }

    /// A message on its way; none if it is lost.
    async fn travel(&self, from: NodeId, to: NodeId) -> Option<()> {
        let (delay, is_lost) = {
            let mut state = self.lock();
            let is_slow = state.dice.in_percent(2);
            let delay = if is_slow { state.dice.between_us(5_000, 40_000) } else { state.dice.between_us(50, 1_500) };
            (delay, state.dice.in_percent(1))
        };
        Sim::sleep(delay).await;
        let is_cut = self.lock().cut.contains(&(from, to));
        (!is_lost && !is_cut).then_some(())
    }

    /// Passes messages on, in order, until there are no more; false if one is lost, as where a connection breaks.
    async fn pass(
        self,
        from: NodeId,
        to: NodeId,
        mut input: mpsc::Receiver<Bytes>,
        output: mpsc::Sender<Bytes>,
    ) -> bool {
        while let Some(message) = input.recv().await {
            if self.travel(from, to).await.is_none() {
                return false;
            }
            if output.send(message).await.is_err() {
                break;
            }
        }
        true
    }
}

impl Links for SimLinks {
    fn call(&self, to: NodeId, _: &Member, _: Lane, message: Bytes) -> Pending<io::Result<Bytes>> {
        let (network, from, crashed) = (self.network.clone(), self.from, self.crashed.clone());
        Box::pin(async move {
            let answer = async {
                network.travel(from, to).await?;
                let there = network.node(to).filter(|_| !crashed.is_cancelled())?;
                let answer = there.engine.serve_call(message).await;
                network.travel(to, from).await?;
                (!there.crashed.is_cancelled()).then_some(answer)
            };
            match answer.await {
                Some(answer) => answer,
                None => {
                    Sim::sleep(SILENCE).await;
                    Err(io::Error::from(io::ErrorKind::TimedOut))
                }
            }
        })
    }

    fn open(&self, to: NodeId, _: &Member, _: Lane) -> Pending<io::Result<Pipe>> {
        let (network, from, crashed) = (self.network.clone(), self.from, self.crashed.clone());
        Box::pin(async move {
            let there = network.node(to).filter(|_| !crashed.is_cancelled());
            let (Some(there), Some(())) = (there, network.travel(from, to).await) else {
                Sim::sleep(SILENCE).await;
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            };
            let (ours, near) = Pipe::pair();
            let (theirs, far) = Pipe::pair();
            there.engine.serve_pipe(theirs);
            let broken = CancellationToken::new();
            let pass = |from, to, input, output| {
                let (network, broken) = (network.clone(), broken.clone());
                let (here, there) = (crashed.clone(), there.crashed.clone());
                Sim::detach(async move {
                    tokio::select! {
                        biased;
                        () = here.cancelled() => {}
                        () = there.cancelled() => {}
                        () = broken.cancelled() => {}
                        is_whole = network.pass(from, to, input, output) => if !is_whole { broken.cancel() }
                    }
                });
            };
            pass(from, to, near.receiver, far.sender);
            pass(to, from, far.receiver, near.sender);
            Ok(ours)
        })
    }
}
