//! Where this node stands: who leads, whether it is this node, and how sure that is.

use std::fmt;
use std::sync::Arc;

use futures_util::future::{Either, select};
use hither_protocol::error::LeaderHint;
use hither_protocol::{ErrorCode, NodeId, Refusal};
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;
use crate::raft::{LeaderId, Raft, Runtime};

/// Who leads, as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Whether it is this node, and it may act as one: it has applied everything that leaders before it committed.
    pub is_leader: bool,
}

/// Where this node stands.
#[derive(Default)]
pub(crate) struct Standpoint {
    view: Mutex<View>,
    changed: Notify,
}

#[derive(Clone, Debug, Default)]
struct View {
    leadership: Leadership,
    /// This node's own leadership, while it acts on it.
    own: Option<LeaderId>,
    hint: Option<LeaderHint>,
}

impl Standpoint {
    pub(crate) fn leadership(&self) -> Leadership {
        self.view.lock().leadership
    }

    /// This node's own leadership, while it acts on it.
    pub(crate) fn own(&self) -> Option<LeaderId> {
        self.view.lock().own
    }

    pub(crate) fn hint(&self) -> Option<LeaderHint> {
        self.view.lock().hint.clone()
    }

    /// Somebody else leads.
    pub(crate) fn not_leader(&self, leader: NodeId) -> Refusal {
        let hint = self.hint().filter(|hint| hint.node == leader);
        Refusal::new(ErrorCode::NotLeader, format!("node {leader} leads")).led_by(hint)
    }

    /// This node's own leadership; what to tell a caller if it has none.
    pub(crate) fn check_leader(&self) -> Result<LeaderId, Refusal> {
        let View { leadership, own, hint } = &*self.view.lock();
        match (own, leadership.leader) {
            (Some(own), _) => Ok(*own),
            (None, Some(leader)) if hint.is_some() => {
                Err(Refusal::new(ErrorCode::NotLeader, format!("node {leader} leads")).led_by(hint.clone()))
            }
            _ => Err(Refusal::new(ErrorCode::Unavailable, "no node leads at the moment")),
        }
    }

    /// Resolves when the view is one that satisfies `until`.
    pub(crate) async fn wait(&self, until: impl Fn(&Leadership) -> bool) -> Leadership {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look, so that a change between the two is not missed.
            changed.as_mut().enable();
            let leadership = self.leadership();
            if until(&leadership) {
                return leadership;
            }
            changed.await;
        }
    }

    fn set(&self, view: View) {
        let mut current = self.view.lock();
        let is_new = current.leadership != view.leadership;
        *current = view;
        drop(current);
        if is_new {
            self.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for Standpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Standpoint").field(&self.view).finish()
    }
}

/// Follows raft until `closing`: what it says of leaders becomes the view. When this node leads and has applied what
/// leaders before it left, `take_up` begins its duties, which go on until the token that it gets is cancelled.
pub(crate) async fn follow<R: Runtime>(
    raft: Raft<R>,
    machine: Arc<Machine>,
    standpoint: Arc<Standpoint>,
    take_up: impl Fn(LeaderId, CancellationToken) + Send,
    closing: CancellationToken,
) {
    let mut metrics = raft.server_metrics();
    let mut duties: Option<(LeaderId, CancellationToken)> = None;
    loop {
        let seen = metrics.borrow_and_update().clone();
        let leads = (seen.state.is_leader() && seen.vote.is_committed()).then_some(*seen.vote.leader_id());
        // Raft looks five times in each heartbeat's interval whether to send one or to call an election. A leader without
        // company has nobody to send to and nothing to call, and all those wake-ups would be most of what it does at rest.
        // Who joins is in what raft tells before the entry that says so is on the disk.
        let is_alone = seen.membership_config.nodes().map(|(&node, _)| node).eq([seen.id]);
        raft.runtime_config().tick(leads.is_none() || !is_alone);
        if let Some((_, token)) = duties.take_if(|(of, _)| leads != Some(*of)) {
            token.cancel();
            machine.leases.resign();
        }
        let own = duties.as_ref().map(|&(of, _)| of);
        let leader = seen.current_leader.map(NodeId);
        let hint = leader.filter(|leader| leader.0 != seen.id).map(|node| {
            let member = seen.membership_config.get_node(&node.0);
            LeaderHint { node, address: member.map(|member| member.client_address.clone()).unwrap_or_default() }
        });
        let leadership = Leadership { leader, term: seen.vote.leader_id().term, is_leader: own.is_some() };
        standpoint.set(View { leadership, own, hint });
        let changed = Box::pin(async {
            let changed = Box::pin(metrics.changed());
            matches!(select(changed, Box::pin(closing.cancelled())).await, Either::Left((Ok(()), _)))
        });
        let goes_on = match leads.filter(|_| own.is_none()) {
            None => changed.await,
            Some(leader) => match select(machine.wait_leader(leader), changed).await {
                Either::Right((goes_on, _)) => goes_on,
                Either::Left(_) => {
                    let token = closing.child_token();
                    machine.leases.take_up(&machine.state.read(), machine.now());
                    take_up(leader, token.clone());
                    duties = Some((leader, token));
                    // Looks again, since raft may have moved on.
                    true
                }
            },
        };
        if !goes_on {
            break;
        }
    }
    machine.leases.resign();
}
