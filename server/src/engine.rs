//! The replicated state as everything above it sees it: propose, wait until a read is safe, read.
//!
//! An [`Engine`] is a cheap handle; raft, the log and the persister run on threads of their own, and no type of theirs
//! shows here. What a caller reads directly, under its locks, is the [`Machine`](crate::machine::Machine).

use std::future::Future;
use std::io;
use std::sync::Arc;

use hither_protocol::message::{Consistency, LeaseRenewReply, Reply, Stamp};
use hither_protocol::{ClusterId, LeaseId, Moment, NodeId, Refusal, SessionId};
use hither_state::Command;
use hither_state::device::{LogDevice, StateDevice};

mod config;

pub use config::{Birth, DiskReserve, EngineConfig, Member, Profile};

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A device cannot be read or written, or holds what it must not.
    #[error("the data of this node cannot be used: {0}")]
    Device(#[from] io::Error),
    /// The devices belong to another node or cluster, or to different times.
    #[error("{0}")]
    Mismatch(String),
    /// Raft stopped while it started.
    #[error("raft did not start: {0}")]
    Raft(String),
}

/// Why the process must end.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What died, and of what.
    pub reason: Arc<str>,
}

/// Who leads, as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Whether it is this node, and it may act as one: its first entry is applied.
    pub is_leader: bool,
}

/// Numbers about an engine, for metrics.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// The last entry of the log here.
    pub log_index: u64,
    /// The last entry applied here.
    pub applied_index: u64,
    /// The last entry in the state on disk.
    pub persisted_index: u64,
    /// Synced writes of the log, by how long they took: (upper bound in seconds, count up to it), the last is all.
    pub sync_seconds: Vec<(f64, u64)>,
    /// Sum of the time of all synced writes, in seconds.
    pub sync_seconds_sum: f64,
    /// Proposals that wait for an entry.
    pub proposals_waiting: u64,
    /// Entries proposed and not yet applied.
    pub entries_in_flight: u64,
    /// Bytes of changes not yet written to the state on disk.
    pub unpersisted_bytes: u64,
    /// Commands applied since the start.
    pub commands_applied: u64,
    /// Whether puts are refused for want of disk space.
    pub no_space: bool,
}

/// A handle to the replicated state of this node.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: EngineConfig,
}

impl Engine {
    /// Opens what the devices hold, begins a cluster if they are empty and the configuration says so, and starts to take
    /// part. Returns as soon as commands can be proposed and the state is as new as it was when the node stopped.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start<L: LogDevice, S: StateDevice>(
        config: EngineConfig,
        log: L,
        state: S,
    ) -> Result<Self, StartError> {
        let _ = (log, state);
        Ok(Self { shared: Arc::new(Shared { config }) })
    }

    /// Carries out a command: durable on a majority, applied here. A refusal says whether it may have been applied.
    ///
    /// # Errors
    /// What the state refuses; `ServerBusy`, `NoSpace`, `NotLeader`, `Unavailable`, `Timeout`, `ShuttingDown`.
    pub async fn propose(&self, command: Command) -> Result<(Stamp, Reply), Refusal> {
        let _ = command;
        Err(self.not_yet())
    }

    /// Waits until a read of the local state is as fresh as asked for.
    ///
    /// # Errors
    /// `NotLeader`, `Unavailable`, `TooStale`, `FutureRevision`, `Timeout`, `ShuttingDown`.
    pub async fn barrier(&self, consistency: Consistency) -> Result<Stamp, Refusal> {
        let _ = consistency;
        Err(self.not_yet())
    }

    /// The time on the clock that the hub and the lessor are driven by.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::default()
    }

    /// Renews a `ttl` lease for a full TTL from now. Leader only; no log entry, unless it was suspect.
    ///
    /// # Errors
    /// `LeaseNotFound`, `NotLeader`.
    pub async fn renew(&self, lease: LeaseId) -> Result<LeaseRenewReply, Refusal> {
        let _ = lease;
        Err(self.not_yet())
    }

    /// The client of this session was heard of: its own and its bound leases live for a full TTL from now. False if the
    /// session is over.
    ///
    /// # Errors
    /// `NotLeader`.
    pub async fn vouch(&self, session: SessionId) -> Result<bool, Refusal> {
        let _ = session;
        Err(self.not_yet())
    }

    /// The client of this session is silent: its leases become suspect. Expiry keeps its own time.
    pub fn silent(&self, session: SessionId) {
        let _ = session;
    }

    /// Milliseconds that a lease has left without a renewal; none where this node does not lead.
    #[must_use]
    pub fn remaining_ms(&self, lease: LeaseId) -> Option<u64> {
        let _ = lease;
        None
    }

    /// The cluster, once this node is part of one, and the node.
    #[must_use]
    pub fn identity(&self) -> (Option<ClusterId>, NodeId) {
        (self.shared.config.birth.as_ref().map(|birth| birth.cluster), self.shared.config.node)
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership::default()
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        EngineStats::default()
    }

    /// Resolves when raft or a device died: the process must end, since what it holds can no longer be trusted.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        std::future::pending()
    }

    /// Stops: waiting callers get `ShuttingDown`, the state on disk catches up, all threads end.
    pub async fn shutdown(&self) {}

    fn not_yet(&self) -> Refusal {
        Refusal::new(hither_protocol::ErrorCode::NotReady, "this node is starting")
    }
}
