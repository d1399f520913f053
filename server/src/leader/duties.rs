//! The leader's tasks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use hither_protocol::{ClusterId, LeaseId, Namespace};
use hither_state::{Action, Command, StateLimits};
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Confirmed;
use super::leases::Due;
use crate::engine::WallClock;
use crate::machine::Machine;
use crate::raft::{Answer, Commands, LeaderId, Outcome, Raft, Runtime, TypeConfig};

/// Longest time between two looks at the leases: after a longer one the lessor takes this process for stopped.
const LEASES_INTERVAL: Duration = Duration::from_millis(250);
/// Shortest, so that what cannot be proposed does not keep a processor busy.
const LEASES_INTERVAL_MIN: Duration = Duration::from_millis(5);
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
    /// How often it is looked whether history is to be trimmed.
    pub(crate) trim_interval: Duration,
    pub(crate) leader: LeaderId,
    pub(crate) is_confirmed: Confirmed,
}

impl<R: Runtime> Clone for Duties<R> {
    fn clone(&self) -> Self {
        Self {
            raft: self.raft.clone(),
            machine: self.machine.clone(),
            wall_clock: self.wall_clock.clone(),
            cluster: self.cluster,
            limits: self.limits,
            trim_interval: self.trim_interval,
            leader: self.leader,
            is_confirmed: self.is_confirmed.clone(),
        }
    }
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
            R::sleep(self.trim_interval).await;
            let due = self.machine.hub.lock().floor_due(self.machine.now());
            if let Some(revision) = due {
                self.insist(Action::SetFloor { revision }).await;
            }
        }
    }

    /// Proposes what is due of leases. Without a majority nothing is: its members may have elected another leader, who
    /// gives every lease its full time.
    async fn tend_leases(&self) {
        let leases = &self.machine.leases;
        loop {
            let is_confirmed = (self.is_confirmed)();
            if is_confirmed {
                let Due { suspect, alive, expired } = leases.poll(self.machine.now());
                suspect.into_iter().for_each(|leases| self.decide(leases, |leases| Action::MarkSuspect { leases }));
                alive.into_iter().for_each(|leases| self.decide(leases, |leases| Action::MarkAlive { leases }));
                expired.into_iter().for_each(|leases| self.decide(leases, |leases| Action::Expire { leases }));
            }
            let now = self.machine.now();
            let pause = leases.next_look(now, now + LEASES_INTERVAL).since(now).max(LEASES_INTERVAL_MIN);
            let pause = if is_confirmed { pause } else { PAUSE };
            select(Box::pin(R::sleep(pause)), Box::pin(leases.sooner())).await;
        }
    }

    /// Proposes beside what else is proposed, so that one batch does not wait for another's sync.
    fn decide(&self, leases: Vec<(LeaseId, u64)>, action: fn(Vec<(LeaseId, u64)>) -> Action) {
        let duties = self.clone();
        R::detach(async move {
            // What is not known may yet be applied, and this leadership is over.
            if let Err(Refused::NotWritten) = duties.propose(vec![action(leases.clone())]).await {
                duties.machine.leases.refused(&leases);
            }
        });
    }

    /// Proposes until it is applied. Raft refuses while it is not sure that a majority still follows.
    async fn insist(&self, action: Action) {
        while self.propose(vec![action.clone()]).await.is_err() {
            R::sleep(PAUSE).await;
        }
    }

    /// Proposes in the name of this leadership and no other.
    async fn propose(&self, actions: Vec<Action>) -> Result<Vec<Outcome>, Refused> {
        let at = (self.wall_clock)();
        let command =
            |action| Command { namespace: Namespace::system(), principal: Arc::default(), retry: None, at, action };
        let commands: Vec<Command> = actions.into_iter().map(command).collect();
        let (answer, wait) = oneshot::channel();
        let answer = Answer::new(move |result: ClientWriteResult<TypeConfig<R>>| {
            // The leadership may be over.
            let _ = answer.send(result);
        });
        let request = self.raft.write(Commands::proposed(commands)).with_leader(self.leader).responder(answer);
        request.await.map_err(|_| Refused::Unknown)?;
        match wait.await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Refused::NotWritten),
            Ok(Err(_)) | Err(_) => Err(Refused::Unknown),
        }
    }
}

/// Why there is no outcome.
enum Refused {
    /// Raft did not take the command.
    NotWritten,
    /// It took it; another leader decides what becomes of it.
    Unknown,
}
