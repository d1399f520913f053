//! Gathers commands into entries: what waits goes together, and nothing waits for company.
//!
//! An entry costs raft the same whether it holds one command or hundreds. As long as few entries are under way each
//! command gets one of its own; under load they gather while earlier entries are on their way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use hither_protocol::message::Stamp;
use hither_protocol::{ErrorCode, NodeId, Refusal};
use hither_state::Command;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::raft::ClientWriteResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::proposal::{Caller, Proposal, answer_all};
use super::{Standpoint, Stats};
use crate::raft::{Answer, Commands, Raft, Runtime, TypeConfig};

/// Most commands in an entry: about a millisecond of applying.
const COMMANDS_MAX: usize = 512;
/// Bytes after which an entry takes no further command.
const BYTES_MAX: usize = 1 << 20;
/// Bytes of changes that the state on disk may be behind before proposals wait for it: they are in memory until then.
const UNPERSISTED_BYTES_MAX: u64 = 256 << 20;
/// How often it is looked whether the disk has caught up or a leader was elected.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Batcher<R: Runtime> {
    raft: Raft<R>,
    node: NodeId,
    standpoint: Arc<Standpoint>,
    stats: Arc<Stats>,
    slots: Arc<Semaphore>,
    waiting: mpsc::Receiver<Proposal>,
    /// Those that raft refused to take, since nobody led.
    refused: VecDeque<Proposal>,
    refusals: mpsc::UnboundedReceiver<Vec<Proposal>>,
    refuse: mpsc::UnboundedSender<Vec<Proposal>>,
}

impl<R: Runtime> Batcher<R> {
    pub(crate) fn new(
        raft: Raft<R>,
        node: NodeId,
        in_flight_max: usize,
        standpoint: Arc<Standpoint>,
        stats: Arc<Stats>,
        waiting: mpsc::Receiver<Proposal>,
    ) -> Self {
        let (refuse, refusals) = mpsc::unbounded_channel();
        let slots = Arc::new(Semaphore::new(in_flight_max.max(1)));
        Self { raft, node, standpoint, stats, slots, waiting, refused: VecDeque::new(), refusals, refuse }
    }

    pub(crate) async fn run(mut self, closing: CancellationToken) {
        {
            let work = Box::pin(self.work());
            select(work, Box::pin(closing.cancelled())).await;
        }
        self.waiting.close();
        while let Ok(proposal) = self.waiting.try_recv() {
            self.refused.push_back(proposal);
        }
        self.take_refusals();
        for proposal in self.refused {
            proposal.refuse(Refusal::new(ErrorCode::ShuttingDown, "this node is going down"));
        }
    }

    async fn work(&mut self) {
        while let Ok(slot) = self.slots.clone().acquire_owned().await {
            while self.stats.unpersisted_bytes.load(Ordering::Relaxed) > UNPERSISTED_BYTES_MAX {
                R::sleep(PAUSE).await;
            }
            let Some(batch) = self.gather().await else { return };
            if !self.propose(batch, slot).await {
                return;
            }
        }
    }

    /// The commands of the next entry; none when there will be no more.
    async fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut first = None;
        loop {
            if self.take_refusals() {
                R::sleep(PAUSE).await;
                self.refused.retain(|proposal| !proposal.is_abandoned());
            }
            while batch.commands.len() < COMMANDS_MAX && bytes < BYTES_MAX {
                let next = first.take().or_else(|| self.refused.pop_front()).or_else(|| self.waiting.try_recv().ok());
                let Some(proposal) = next else { break };
                if batch.commands.is_empty() {
                    let more = (self.waiting.len() + self.refused.len() + 1).min(COMMANDS_MAX);
                    batch.commands.reserve_exact(more);
                    batch.callers.reserve_exact(more);
                }
                let size = proposal.bytes;
                if let Some((command, caller)) = proposal.take() {
                    bytes += size;
                    batch.commands.push(command);
                    batch.callers.push(caller);
                }
            }
            if !batch.commands.is_empty() {
                let waiting = self.waiting.len() + self.refused.len();
                self.stats.proposals_waiting.store(waiting as u64, Ordering::Relaxed);
                return Some(batch);
            }
            match select(Box::pin(self.waiting.recv()), Box::pin(self.refusals.recv())).await {
                Either::Left((proposal, _)) => first = Some(proposal?),
                Either::Right((proposals, _)) => {
                    self.refused.extend(proposals?);
                    R::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Whether there were any.
    fn take_refusals(&mut self) -> bool {
        let mut any = false;
        while let Ok(proposals) = self.refusals.try_recv() {
            self.refused.extend(proposals);
            any = true;
        }
        any
    }

    /// Hands an entry to raft; false if raft is dead.
    async fn propose(&self, Batch { commands, callers }: Batch, slot: OwnedSemaphorePermit) -> bool {
        let payload = Commands::proposed(commands);
        let taken = payload.clone();
        let (node, refuse, stats) = (self.node, self.refuse.clone(), self.stats.clone());
        let standpoint = self.standpoint.clone();
        stats.entries_in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight { stats, _slot: slot };
        let answer = Answer::new(move |result: ClientWriteResult<TypeConfig<R>>| {
            drop(in_flight);
            match result {
                Ok(response) => {
                    let term = response.log_id.leader_id.term;
                    // One outcome for each: a seat must not be dropped while its tray is open.
                    debug_assert_eq!(callers.len(), response.data.len());
                    answer_all(callers.into_iter().zip(response.data).map(|(caller, outcome)| {
                        let stamp = Stamp { revision: outcome.revision, term, node, age_ms: 0 };
                        (caller, outcome.answer.map(|reply| (stamp, reply)))
                    }));
                }
                Err(ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id: Some(leader), .. }))
                    if leader != node.0 =>
                {
                    let refusal = standpoint.not_leader(NodeId(leader));
                    callers.into_iter().for_each(|caller| caller.answer(Err(refusal.clone())));
                }
                // Nobody leads, or this node cannot be sure that it still does: nothing was written.
                Err(ClientWriteError::ForwardToLeader(_)) => {
                    // An entry that no log has was not applied, and they are there as they were proposed.
                    let commands = taken.take().unwrap_or_default();
                    let proposals = commands.into_iter().zip(callers);
                    let proposals = proposals.map(|(command, caller)| Proposal::put_back(command, caller));
                    // A batcher that is gone drops them, which tells their callers.
                    let _ = refuse.send(proposals.collect());
                }
                Err(error) => {
                    let refusal = Refusal::unknown(ErrorCode::Unavailable, error.to_string());
                    callers.into_iter().for_each(|caller| caller.answer(Err(refusal.clone())));
                }
            }
        });
        self.raft.client_write_ff(payload, Some(answer)).await.is_ok()
    }
}

/// The commands of an entry and who waits for them.
#[derive(Default)]
struct Batch {
    commands: Vec<Command>,
    callers: Vec<Caller>,
}

/// Counts an entry for as long as it is under way, whatever becomes of it.
struct InFlight {
    stats: Arc<Stats>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.stats.entries_in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
