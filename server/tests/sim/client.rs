//! A client that never gives up: it repeats a put under the same number, at any node, until it is answered.

use std::time::Duration;

use hither_protocol::message::{Consistency, Put, Reply, RetryToken};
use hither_protocol::{Namespace, NodeId, Refusal, SequenceNumber, SessionId, UnixMillis};
use hither_state::{Action, Command};
use openraft_rt::AsyncRuntime;

use super::cluster::Handle;
use super::runtime::{Dice, Sim};

pub(crate) fn spawn(number: u64, dice: Dice, cluster: Handle) -> <Sim as AsyncRuntime>::JoinHandle<()> {
    let node = NodeId(1 + number % cluster.nodes);
    Sim::spawn(Client { number, dice, cluster, node }.run())
}

struct Client {
    number: u64,
    dice: Dice,
    cluster: Handle,
    /// The node it asks.
    node: NodeId,
}

impl Client {
    async fn run(mut self) {
        let nonce = [self.number as u8; 16];
        let open = Action::SessionOpen { ttl_ms: 3_600_000, nonce };
        let Reply::SessionOpen(opened) = self.insist(None, open).await else { unreachable!("answers what was asked") };
        for sequence in 1.. {
            if self.cluster.model.has_stopped() {
                return;
            }
            if self.dice.in_percent(30) {
                self.read().await;
            }
            self.put(opened.session, sequence).await;
            let pause = self.dice.between_us(100, 20_000);
            Sim::sleep(pause).await;
        }
    }

    async fn put(&mut self, session: SessionId, sequence: u64) {
        let key = format!("{}/{sequence}", self.number);
        let put = Put { key: key.as_str().into(), value: "v".into(), lease: None, previous: false };
        let token =
            RetryToken { session, sequence: SequenceNumber(sequence), acknowledged: SequenceNumber(sequence - 1) };
        let Reply::Put(reply) = self.insist(Some(token), Action::Put(put)).await else {
            unreachable!("answers what was asked")
        };
        self.cluster.model.acknowledge(&key, reply.revision);
    }

    /// Whatever was acknowledged before the read began must be in it.
    async fn read(&mut self) {
        let before = self.cluster.model.newest();
        let Some(node) = self.cluster.network.node(self.node) else { return };
        let stamp = tokio::select! {
            biased;
            () = node.crashed.cancelled() => return,
            stamp = node.engine.barrier(Consistency::Linearizable) => stamp,
        };
        if let Ok(stamp) = stamp {
            assert!(stamp.revision >= before, "a read at {} missed revision {before}", stamp.revision);
            self.cluster.model.read();
        }
    }

    async fn insist(&mut self, retry: Option<RetryToken>, action: Action) -> Reply {
        loop {
            let command = Command {
                namespace: Namespace::default(),
                principal: format!("client {}", self.number).into(),
                retry,
                at: UnixMillis(0),
                action: action.clone(),
            };
            match self.try_once(command).await {
                Some(Ok(reply)) => return reply,
                Some(Err(Refusal { leader: Some(hint), .. })) if self.dice.in_percent(80) => self.node = hint.node,
                _ => {
                    self.node = NodeId(1 + self.dice.below(self.cluster.nodes));
                    let pause = self.dice.between_us(1_000, 50_000);
                    Sim::sleep(pause).await;
                }
            }
            self.cluster.model.retry();
        }
    }

    /// None if the node died before it answered.
    async fn try_once(&self, command: Command) -> Option<Result<Reply, Refusal>> {
        let node = self.cluster.network.node(self.node)?;
        tokio::select! {
            biased;
            () = node.crashed.cancelled() => None,
            answer = node.engine.propose_within(command, Duration::from_millis(700)) => {
                Some(answer.map(|(_, reply)| reply))
            }
        }
    }
}
