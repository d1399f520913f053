//! When a read of the local state is fresh enough.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use hither_protocol::{ErrorCode, NodeId, Refusal};
use openraft::ReadPolicy;
use openraft::errors::{ForwardToLeader, LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Standpoint;
use crate::machine::Machine;
use crate::raft::{Raft, Runtime};

/// How long to wait before raft is asked again, when nobody leads or no majority answers.
const PAUSE: Duration = Duration::from_millis(5);

/// Reads that share a round.
const ROUND_MAX: usize = 4096;

/// A read that waits: told when the local state has everything that was acknowledged before it came.
pub(crate) type Waiting = oneshot::Sender<Result<(), Refusal>>;

/// Asks raft where the log was when the reads that wait had come, once for all of them; those that come meanwhile are
/// the next round's. An answer is never used again: not for a later read, and not after a change of leader.
pub(crate) async fn run<R: Runtime>(
    raft: Raft<R>,
    node: NodeId,
    machine: Arc<Machine>,
    standpoint: Arc<Standpoint>,
    mut reads: mpsc::Receiver<Waiting>,
    closing: CancellationToken,
) {
    let work = Box::pin(async {
        let mut round = Vec::new();
        while reads.recv_many(&mut round, ROUND_MAX).await > 0 {
            let index = loop {
                round.retain(|read| !read.is_closed());
                match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
                    _ if round.is_empty() => break None,
                    Ok(linearizer) => break Some(linearizer.read_log_id().index()),
                    Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(ForwardToLeader {
                        leader_id: Some(leader),
                        ..
                    }))) if leader != node.0 => {
                        let refusal = standpoint.not_leader(NodeId(leader));
                        for read in round.drain(..) {
                            // The reader may have given up.
                            let _ = read.send(Err(refusal.clone()));
                        }
                        break None;
                    }
                    Err(RaftError::APIError(_)) => R::sleep(PAUSE).await,
                    Err(RaftError::Fatal(_)) => return,
                }
            };
            let Some(index) = index else { continue };
            let applied = machine.wait_applied(index);
            let waiting = std::mem::take(&mut round);
            R::detach(async move {
                let fresh = applied.await.map_err(|_| going_down());
                for read in waiting {
                    let _ = read.send(fresh.clone());
                }
            });
        }
    });
    select(work, Box::pin(closing.cancelled())).await;
}

pub(crate) fn going_down() -> Refusal {
    Refusal::new(ErrorCode::ShuttingDown, "this node is going down")
}
