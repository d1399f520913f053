//! One command, step by step: what every arm of the dispatcher works with.
//!
//! An arm first looks whether it may go on and refuses if not; then it changes the state, and nothing can stop it any
//! more. So a refused command has changed nothing.

mod floor;
mod kv;
mod lease;
mod session;
mod txn;

use hither_protocol::message::{LeaseRevokeReply, Reply};
use hither_protocol::{ErrorCode, Namespace, Refusal, Revision};

pub(crate) use session::check_outcome;

use crate::{Action, Applied, Change, Command, Delta, Position, State};

/// A command on its way through the state.
pub(crate) struct Step<'a> {
    state: &'a mut State,
    position: Position,
    command: &'a Command,
    namespace: &'a Namespace,
    /// The revision of the command, should it change a key or a standing.
    revision: Revision,
    /// Whether it did.
    moved: bool,
    changes: Vec<Change>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(state: &'a mut State, position: Position, command: &'a Command) -> Self {
        let revision = state.revision.next();
        let namespace = &command.namespace;
        // Nearly every command changes one thing. Its session remembers what came of it, and what was received before. What
        // grows by itself begins with four places.
        let changes = Vec::with_capacity(if command.retry.is_some() { 3 } else { 1 });
        Self { state, position, command, namespace, revision, moved: false, changes }
    }

    /// Takes the step.
    pub(crate) fn take(mut self) -> Applied {
        let outcome = match self.command.retry {
            None => self.execute(),
            Some(token) => self.execute_once(token),
        };
        if self.moved {
            self.state.revision = self.revision;
        }
        let delta = Delta { revision: self.state.revision, at: self.command.at, changes: self.changes };
        Applied { outcome, delta }
    }

    fn execute(&mut self) -> Result<Reply, Refusal> {
        match &self.command.action {
            Action::Put(put) => self.put(put).map(Reply::Put),
            Action::Delete(delete) => self.delete(delete).map(Reply::Delete),
            Action::Txn(txn) => self.txn(txn).map(Reply::Txn),
            Action::LeaseGrant { ttl_ms, kind } => self.grant(*ttl_ms, *kind).map(Reply::LeaseGrant),
            Action::LeaseRevoke { lease } => self.revoke(*lease).map(Reply::LeaseRevoke),
            Action::SessionOpen { ttl_ms, nonce } => self.open(*ttl_ms, *nonce).map(Reply::SessionOpen),
            Action::SessionClose { session } => self.close(*session).map(Reply::SessionClose),
            Action::MarkSuspect { leases } => Ok(self.mark_suspect(leases)),
            Action::MarkAlive { leases } => Ok(self.mark_alive(leases)),
            Action::Expire { leases } => Ok(self.expire(leases)),
            Action::SetFloor { revision } => Ok(self.set_floor(*revision)),
            Action::ClusterInit { cluster, incarnation } => Ok(self.initialise(*cluster, *incarnation)),
            Action::SetLimits { limits } => Ok(self.set_limits(*limits)),
        }
    }

    /// The revision to name in a reply: the command's if it changed something, else the present one.
    fn reached(&self) -> Revision {
        if self.moved { self.revision } else { self.state.revision }
    }

    /// The answer to a decision of the leader, which nobody waits for.
    fn done(&self, deleted: u64) -> Reply {
        Reply::LeaseRevoke(LeaseRevokeReply { revision: self.reached(), deleted })
    }
}

fn refuse<T>(code: ErrorCode, detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, detail))
}
