//! The leader's tasks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use hither_protocol::{ClusterId, Namespace};
use hither_state::{Action, Command, StateLimits, encode_batch};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::engine::WallClock;
use crate::machine::Machine;
use crate::raft::{Answer, Commands, LeaderId, Outcome, Raft, Runtime};

/// How often it is looked whether history is to be trimmed.
const FLOOR_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after raft refused a command that is due.
const PAUSE: Duration = Duration::from_millis(20);
/// The incarnation of a cluster that was never restored.
const FIRST_INCARNATION: u64 = 1;

/// What the tasks of one leadership work with.
pub(crate) struct Duties<R: Runtime> {
    pub(crate) raft: Raft<R>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) wall_clock: WallClock,
    /// The cluster that begins with this node's first leadership.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) limits: StateLimits,
    pub(crate) leader: LeaderId,
}

/// Works until `over`.
pub(crate) async fn perform<R: Runtime>(duties: Duties<R>, over: CancellationToken) {
    let work = Box::pin(async {
        duties.begin().await;
        futures_util::future::join(duties.trim_history(), duties.tend_leases()).await;
    });
    select(work, Box::pin(over.cancelled())).await;
}

impl<R: Runtime> Duties<R> {
    /// The first commands of a cluster, and the bounds of this node's configuration.
    async fn begin(&self) {
        let is_new = self.machine.state.read().lineage().is_none();
        if is_new && let Some(cluster) = self.cluster {
            self.insist(Action::ClusterInit { cluster, incarnation: FIRST_INCARNATION }).await;
        }
        if self.machine.state.read().limits() != self.limits {
            self.insist(Action::SetLimits { limits: self.limits }).await;
        }
    }

    async fn trim_history(&self) {
        loop {
            R::sleep(FLOOR_INTERVAL).await;
            let due = self.machine.hub.lock().floor_due(self.machine.now());
            if let Some(revision) = due {
                self.insist(Action::SetFloor { revision }).await;
            }
        }
    }

    async fn tend_leases(&self) {
        std::future::pending::<()>().await;
    }

    /// Proposes until it is applied. Raft refuses while it is not sure that a majority still follows.
    async fn insist(&self, action: Action) {
        while self.propose(vec![action.clone()]).await.is_none() {
            R::sleep(PAUSE).await;
        }
    }

    /// Proposes in the name of this leadership and no other; none if raft refused.
    async fn propose(&self, actions: Vec<Action>) -> Option<Vec<Outcome>> {
        let at = (self.wall_clock)();
        let command =
            |action| Command { namespace: Namespace::system(), principal: String::new(), retry: None, at, action };
        let commands: Vec<Command> = actions.into_iter().map(command).collect();
        let (answer, wait) = oneshot::channel();
        let answer = Answer::new(move |result| {
            // The leadership may be over.
            let _ = answer.send(result);
        });
        let request = self.raft.write(Commands(encode_batch(&commands))).with_leader(self.leader).responder(answer);
        request.await.ok()?;
        wait.await.ok()?.ok().map(|response| response.data)
    }
}
