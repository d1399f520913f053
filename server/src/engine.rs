//! The replicated state as everything above it sees it: propose, wait until a read is safe, read.
//!
//! An [`Engine`] is a cheap handle; raft, the log and the persister run on threads of their own, and no type of theirs
//! shows here. What a caller reads directly, under its locks, is the [`Machine`].

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::message::{Consistency, LeaseRenewReply, Reply, Stamp};
use hither_protocol::{ClusterId, ErrorCode, LeaseId, Moment, NodeId, Refusal, SessionId};
use hither_state::Command;
use hither_state::device::{LogDevice, StateDevice};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

mod barrier;
mod batcher;
mod clock;
mod config;
mod core;
mod failing;
mod proposal;
mod reserve;
mod standpoint;
mod stats;
mod tray;

pub(crate) use clock::Clock;
pub use config::{Birth, DiskReserve, EngineConfig, Member, Profile, WallClock};
pub(crate) use failing::Failing;
pub use failing::Failure;
pub(crate) use proposal::{Answered, Submitted};
use proposal::{Caller, Proposal};
pub use standpoint::Leadership;
pub(crate) use standpoint::Standpoint;
pub use stats::EngineStats;
pub(crate) use stats::Stats;
pub(crate) use tray::{Ticket, Tray};

use crate::leader::Confirmed;
use crate::machine::{Machine, Wake};
use crate::raft::{Heard, NoLinks, Pending, Pipe, Tokio};

/// The thread of raft and of the state.
pub(crate) const THREAD_RAFT: &str = "hither-raft";
/// The thread that writes the log.
pub(crate) const THREAD_LOG: &str = "hither-log";
/// The thread that writes the state behind.
pub(crate) const THREAD_PERSISTER: &str = "hither-persist";

/// Whether the current thread is one of an engine's. A panic there leaves a state that is not to be trusted: a process
/// that serves should end at once, and start again from what is on disk. A panic elsewhere costs one connection.
#[must_use]
pub fn is_engine_thread() -> bool {
    std::thread::current().name().is_some_and(|name| [THREAD_RAFT, THREAD_LOG, THREAD_PERSISTER].contains(&name))
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A device cannot be read or written, or holds what it must not.
    #[error("the data of this node cannot be used: {0}")]
    Device(#[from] io::Error),
    /// The devices belong to another cluster, or to different times.
    #[error("{0}")]
    Mismatch(String),
    /// Raft stopped while it started.
    #[error("raft did not start: {0}")]
    Raft(String),
}

/// A handle to the replicated state of this node.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: EngineConfig,
    machine: Arc<Machine>,
    standpoint: Arc<Standpoint>,
    clock: Clock,
    stats: Arc<Stats>,
    failing: Failing,
    heard: Arc<Heard>,
    proposals: mpsc::Sender<Proposal>,
    reads: mpsc::Sender<barrier::Waiting>,
    pipes: mpsc::UnboundedSender<Pipe>,
    serve: Box<dyn Fn(Bytes) -> Pending<io::Result<Bytes>> + Send + Sync>,
    log_end: Box<dyn Fn() -> u64 + Send + Sync>,
    /// How long ago a majority last followed this node; none if it does not lead.
    quorum_age: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    is_confirmed: Confirmed,
    is_alone: Arc<AtomicBool>,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Drop for Shared {
    /// The last handle is gone: nobody can ask for anything any more.
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Engine {
    /// Opens what the devices hold, begins a cluster if they are empty and the configuration says so, and starts to take
    /// part. A node that is the only voter leads when this returns, with everything applied that it ever acknowledged;
    /// one among others returns as soon as it takes part.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start<L: LogDevice, S: StateDevice>(
        config: EngineConfig,
        log: L,
        state: S,
    ) -> Result<Self, StartError> {
        Self::start_on::<Tokio, L, S>(config, log, state, Arc::new(NoLinks)).await
    }

    /// Carries out a command: durable on a majority, applied here. Waits no longer than the configured patience. A
    /// refusal says whether it may have been applied.
    ///
    /// Dropping the future takes the command back if no entry holds it yet.
    ///
    /// # Errors
    /// What the state refuses; `ServerBusy`, `NoSpace`, `NotLeader`, `Unavailable`, `Timeout`, `ShuttingDown`, `Internal`.
    pub async fn propose(&self, command: Command) -> Result<(Stamp, Reply), Refusal> {
        self.propose_within(command, self.shared.config.patience).await
    }

    /// How long a caller waits who says nothing else.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.shared.config.patience
    }

    /// [`propose`](Self::propose) with another patience.
    ///
    /// # Errors
    /// As for `propose`.
    pub async fn propose_within(&self, command: Command, patience: Duration) -> Result<(Stamp, Reply), Refusal> {
        self.submit(command, patience)?.await
    }

    /// [`propose_within`](Self::propose_within) in two steps: it is on its way when this returns.
    pub(crate) fn submit(&self, command: Command, patience: Duration) -> Result<Submitted, Refusal> {
        self.check_room(&command)?;
        let (caller, submitted) = Submitted::new(self.shared.clock.sleep(patience));
        self.send(Proposal::new(command, caller))?;
        Ok(submitted)
    }

    /// [`submit`](Self::submit) for one of many: the answer comes to `tray`, and how long to wait for it is the caller's to
    /// know.
    pub(crate) fn submit_to(&self, tray: &Arc<Tray>, number: u64, command: Command) -> Result<Ticket, Refusal> {
        self.check_room(&command)?;
        let (ticket, seat) = Ticket::new(tray, number);
        self.send(Proposal::new(command, Caller::Many(seat)))?;
        Ok(ticket)
    }

    fn check_room(&self, command: &Command) -> Result<(), Refusal> {
        self.check_alive()?;
        if self.shared.stats.no_space.load(Ordering::Relaxed) && proposal::wants_room(command) {
            let detail = "the disk is nearly full; deletes, renewals and reads go on";
            return Err(Refusal::new(ErrorCode::NoSpace, detail));
        }
        Ok(())
    }

    fn send(&self, proposal: Proposal) -> Result<(), Refusal> {
        let shared = &self.shared;
        shared.proposals.try_send(proposal).map_err(|error| match error {
            mpsc::error::TrySendError::Full(proposal) => {
                proposal.abandon();
                let waiting = shared.config.queue_max;
                Refusal::new(ErrorCode::ServerBusy, format!("{waiting} commands wait already; try again shortly"))
            }
            mpsc::error::TrySendError::Closed(proposal) => {
                proposal.abandon();
                barrier::going_down()
            }
        })
    }

    /// Waits until a read of the local state is as fresh as asked for. Waits no longer than the configured patience.
    ///
    /// # Errors
    /// `NotLeader`, `Unavailable`, `TooStale`, `FutureRevision`, `ServerBusy`, `Timeout`, `ShuttingDown`.
    pub async fn barrier(&self, consistency: Consistency) -> Result<Stamp, Refusal> {
        let shared = &self.shared;
        self.check_alive()?;
        let age_ms = match consistency {
            Consistency::Linearizable => {
                self.linearize().await?;
                0
            }
            Consistency::AtLeast(revision) => {
                let reached = shared.machine.wait_revision(revision);
                if shared.clock.timeout(shared.config.patience, reached).await.is_none() {
                    let current = shared.machine.state.read().revision();
                    let detail = format!("this node is at revision {current} and did not reach {revision} in time");
                    return Err(Refusal::new(ErrorCode::FutureRevision, detail).at(current));
                }
                self.age().map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
            }
            Consistency::Stale { max_age_ms } => {
                let age = self.age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                match age {
                    Some(age) if age <= max_age_ms => age,
                    _ => {
                        let detail = "this node has not heard of a leader for longer than the read allows";
                        return Err(Refusal::new(ErrorCode::TooStale, detail).led_by(shared.standpoint.hint()));
                    }
                }
            }
        };
        let revision = shared.machine.state.read().revision();
        let term = shared.standpoint.leadership().term;
        Ok(Stamp { revision, term, node: shared.node(), age_ms })
    }

    /// The state in memory and its watches, for reading under their locks.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.shared.machine
    }

    /// `wake` is called after each applied batch with the connections that have something to send, from the thread that
    /// applies: it must only pass the word on.
    pub fn on_wake(&self, wake: Wake) {
        self.shared.machine.set_wake(wake);
    }

    /// The time on the clock that the hub and the lessor are driven by.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.shared.clock.now()
    }

    /// Renews a `ttl` lease for a full TTL from now. Leader only; no log entry. Whether the caller may renew it is the
    /// caller's to check.
    ///
    /// # Errors
    /// `LeaseNotFound`, `InvalidArgument`, `NotLeader`, `Unavailable`.
    pub async fn renew(&self, lease: LeaseId) -> Result<LeaseRenewReply, Refusal> {
        // The time first: a majority that followed after it did at it.
        let now = self.now();
        self.check_confirmed()?;
        self.shared.machine.leases.renew(lease, now)
    }

    /// The client of this session was heard of: its own and its bound leases live for a full TTL from now. False if the
    /// session is over. To be called several times a second: a session that nobody vouches for in a second is
    /// silent, and its leases become suspect.
    ///
    /// # Errors
    /// `NotLeader`, `Unavailable`.
    pub async fn vouch(&self, session: SessionId) -> Result<bool, Refusal> {
        let now = self.now();
        self.check_confirmed()?;
        let lives = self.shared.machine.leases.vouch(session, now);
        lives.ok_or_else(|| Refusal::new(ErrorCode::Unavailable, "this node just ceased to lead"))
    }

    /// Milliseconds that a lease has left without a renewal; none where this node does not lead.
    #[must_use]
    pub fn remaining_ms(&self, lease: LeaseId) -> Option<u64> {
        let remaining = self.shared.machine.leases.remaining(lease, self.now())?;
        Some(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX))
    }

    /// The cluster, once this node is part of one, and the node. Reads the state: who holds it already would wait for ever
    /// behind a writer that waits for them.
    #[must_use]
    pub fn identity(&self) -> (Option<ClusterId>, NodeId) {
        let lineage = self.shared.machine.state.read().lineage();
        (lineage.map(|lineage| lineage.cluster), self.shared.node())
    }

    /// The node. Asks nobody, so that it may be called by who holds the state.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.shared.node()
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.shared.standpoint.leadership()
    }

    /// Resolves when the leadership is one that satisfies `until`.
    pub async fn wait_leadership(&self, until: impl Fn(&Leadership) -> bool) -> Leadership {
        self.shared.standpoint.wait(until).await
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let applied = self.shared.machine.standing().applied;
        EngineStats {
            log_index: (self.shared.log_end)(),
            applied_index: applied.map_or(0, |applied| applied.index),
            ..self.shared.stats.read()
        }
    }

    /// Resolves when raft or a device died: the process must end, since what it holds can no longer be trusted.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        self.shared.failing.failed()
    }

    /// Stops: waiting callers get `ShuttingDown`, the state on disk catches up, all threads end.
    pub async fn shutdown(&self) {
        self.shared.closing.cancel();
        self.shared.closed.cancelled().await;
    }

    /// Answers a message that another node sent by [`Links::call`](crate::raft::Links::call).
    ///
    /// # Errors
    /// The message is none, or this node cannot answer now.
    pub async fn serve_call(&self, message: Bytes) -> io::Result<Bytes> {
        (self.shared.serve)(message).await
    }

    /// Serves a pipe that another node opened by [`Links::open`](crate::raft::Links::open).
    pub fn serve_pipe(&self, pipe: Pipe) {
        // After the shutdown it is dropped, which closes it.
        let _ = self.shared.pipes.send(pipe);
    }

    async fn linearize(&self) -> Result<(), Refusal> {
        let shared = &self.shared;
        // Nobody else can acknowledge a write, and this node does so only when it is applied here.
        if shared.is_alone() && shared.standpoint.own().is_some() {
            return Ok(());
        }
        Box::pin(self.linearize_among_others()).await
    }

    async fn linearize_among_others(&self) -> Result<(), Refusal> {
        let shared = &self.shared;
        let (read, fresh) = oneshot::channel();
        shared.reads.try_send(read).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::new(ErrorCode::ServerBusy, "too many reads wait; try again shortly")
            }
            mpsc::error::TrySendError::Closed(_) => barrier::going_down(),
        })?;
        match shared.clock.timeout(shared.config.patience, fresh).await {
            Some(Ok(fresh)) => fresh,
            Some(Err(_)) => Err(barrier::going_down()),
            None => Err(Refusal::new(ErrorCode::Unavailable, "no majority confirmed a leader in time")),
        }
    }

    /// How long ago this node last knew itself to be current; none if it never did.
    fn age(&self) -> Option<Duration> {
        let shared = &self.shared;
        if shared.standpoint.own().is_some() {
            return if shared.is_alone() { Some(Duration::ZERO) } else { (shared.quorum_age)() };
        }
        shared.heard.last().map(|heard| shared.clock.now().since(heard))
    }

    /// Only a leader that a majority still follows may promise time: another may have been elected, and have begun to
    /// count before this.
    fn check_confirmed(&self) -> Result<(), Refusal> {
        self.check_alive()?;
        self.shared.standpoint.check_leader()?;
        if (self.shared.is_confirmed)() {
            return Ok(());
        }
        Err(Refusal::new(ErrorCode::Unavailable, "no majority follows this node at the moment"))
    }

    fn check_alive(&self) -> Result<(), Refusal> {
        match self.shared.failing.failure() {
            Some(failure) => Err(Refusal::new(ErrorCode::Internal, format!("this node is broken: {failure}"))),
            None if self.shared.closing.is_cancelled() => Err(barrier::going_down()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
