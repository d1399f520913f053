//! An engine from start to end, on its own thread.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{Either, select};
use hither_protocol::NodeId;
use hither_state::device::{LogDevice, StateDevice};
use hither_state::watch::WatchHub;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft_rt::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::batcher::Batcher;
use super::{
    Clock, Engine, EngineConfig, Failing, Shared, Standpoint, StartError, Stats, THREAD_RAFT, barrier, reserve,
    standpoint,
};
use crate::leader::{Confirmed, Duties, perform};
use crate::machine::Machine;
use crate::persister::{self, Pace, Persister, Stored};
use crate::raft::{
    self, Applier, Heard, Links, Log, LogId, Peers, Pipe, Raft, Runtime, Server, compact, election_timeout_max,
};

/// Reads that may wait for a barrier.
const READS_MAX: usize = 16 * 1024;

/// The parts of a running engine.
struct Core<R: Runtime, L: LogDevice> {
    engine: Engine,
    raft: Raft<R>,
    log: Log<R, L>,
    persister: Persister,
}

/// Starts an engine, says so, and keeps it until it is shut down.
pub(crate) async fn main<R: Runtime, L: LogDevice, S: StateDevice>(
    config: EngineConfig,
    log: L,
    state: S,
    links: Arc<dyn Links>,
    started: oneshot::Sender<Result<Engine, StartError>>,
) {
    let (core, is_empty) = match open::<R, L, S>(config, log, state, links).await {
        Ok(opened) => opened,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let ready = core.ready(is_empty).await;
    let Core { engine, raft, log, persister } = core;
    let (closing, closed) = (engine.shared.closing.clone(), engine.shared.closed.clone());
    // From here on the handles out there are all: when the last one is dropped, or if whoever started it has given up,
    // it ends as if shut down.
    let _ = started.send(ready.map(|()| engine));
    closing.cancelled().await;
    close(raft, log, persister).await;
    closed.cancel();
}

/// Raft first, so that nothing more is applied or written; then what was.
async fn close<R: Runtime, L: LogDevice>(raft: Raft<R>, log: Log<R, L>, persister: Persister) {
    if let Err(error) = raft.shutdown().await {
        tracing::warn!(%error, "raft did not stop in order");
    }
    persister.close().await;
    log.close().await;
}

/// The parts, and whether the devices were empty.
async fn open<R: Runtime, L: LogDevice, S: StateDevice>(
    config: EngineConfig,
    log: L,
    state: S,
    links: Arc<dyn Links>,
) -> Result<(Core<R, L>, bool), StartError> {
    let node = config.node;
    let clock = Clock::of::<R>();
    let stats = Arc::new(Stats::default());
    let failing = Failing::default();
    let closing = CancellationToken::new();

    let Stored { state: loaded, history, standing } = persister::load(&state)?;
    let log = Log::<R, L>::open(log, node, stats.clone(), failing.clone())?;
    let is_empty = log.is_pristine() && standing.applied.is_none();
    let pace = Pace { write: config.persist_interval, flush: config.flush_interval };
    let persister = Persister::start::<R, S>(state, standing.clone(), pace, stats.clone(), failing.clone())?;
    let opened = async {
        check(&config, log.purged(), standing.applied, &loaded)?;
        let hub = WatchHub::new(config.hub.clone(), &loaded, history, clock.now());
        let machine = Arc::new(Machine::new(loaded, hub, standing.clone(), clock.clone(), stats.clone()));
        let applier = Applier::new(machine.clone(), persister.clone(), standing.clone(), failing.clone());
        log.lead_into(machine.clone());
        let settings = Arc::new(raft::config(config.profile));
        let raft = Raft::<R>::new(node.0, settings, Peers(links), log.clone(), applier).await;
        Ok((machine, raft.map_err(|fatal| StartError::Raft(fatal.to_string()))?))
    };
    let (machine, raft) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            persister.close().await;
            log.close().await;
            return Err(error);
        }
    };
    let effective = raft.with_raft_state(|state| state.membership_state.effective().membership().clone()).await;
    log.note_voters(&effective.map_err(|fatal| StartError::Raft(fatal.to_string()))?);

    let standpoint = Arc::new(Standpoint::default());
    let heard = Arc::new(Heard::default());
    // A node that never voted has promised nothing.
    let fence = if is_empty { std::time::Duration::ZERO } else { election_timeout_max(config.profile) };
    let server = Server::<R> {
        raft: raft.clone(),
        machine: machine.clone(),
        clock: clock.clone(),
        fence_until: R::Instant::now() + fence,
        heard: heard.clone(),
    };
    let (proposals, waiting_proposals) = mpsc::channel(config.queue_max);
    let (reads, waiting_reads) = mpsc::channel(READS_MAX);
    let (pipes, waiting_pipes) = mpsc::unbounded_channel();

    let batcher =
        Batcher::new(raft.clone(), node, config.in_flight_max, standpoint.clone(), stats.clone(), waiting_proposals);
    R::detach(batcher.run(closing.clone()));
    R::detach(barrier::run(raft.clone(), node, machine.clone(), standpoint.clone(), waiting_reads, closing.clone()));
    R::detach(serve_pipes(server.clone(), waiting_pipes, closing.clone()));
    let quorum_age = {
        let raft = raft.clone();
        move || raft.metrics().borrow_watched().last_quorum_acked.as_ref().map(|acked| acked.elapsed())
    };
    let is_confirmed: Confirmed = {
        let (quorum_age, is_alone) = (quorum_age.clone(), log.is_alone());
        let lease = election_timeout_max(config.profile);
        Arc::new(move || is_alone.load(Ordering::Acquire) || quorum_age().is_some_and(|age| age < lease))
    };
    let take_up = {
        let is_confirmed = is_confirmed.clone();
        let (raft, machine, wall_clock) = (raft.clone(), machine.clone(), config.wall_clock.clone());
        let (cluster, limits) = (config.birth.as_ref().map(|birth| birth.cluster), config.limits);
        let trim_interval = config.trim_interval;
        move |leader, over| {
            let duties = Duties {
                raft: raft.clone(),
                machine: machine.clone(),
                wall_clock: wall_clock.clone(),
                cluster,
                limits,
                trim_interval,
                leader,
                is_confirmed: is_confirmed.clone(),
            };
            R::detach(perform(duties, over));
        }
    };
    R::detach(standpoint::follow(raft.clone(), machine.clone(), standpoint.clone(), take_up, closing.clone()));
    let durable = standing.applied.map_or(0, |applied| applied.index);
    R::detach(compact(raft.clone(), log.clone(), config.log_limits, durable, closing.clone()));
    if let Some(reserve) = config.disk_reserve.clone() {
        // Known before the first command is taken.
        reserve::look(&reserve, &stats);
        R::thread("hither-reserve", reserve::watch::<R>(reserve, stats.clone(), closing.clone()))?;
    }
    R::detach(watch_raft(raft.clone(), failing.clone(), closing.clone()));

    let core = Core {
        engine: Engine {
            shared: Arc::new(Shared {
                config,
                machine,
                standpoint,
                clock,
                stats,
                failing,
                heard,
                proposals,
                reads,
                pipes,
                serve: Box::new(move |message| server.call(message)),
                log_end: Box::new({
                    let log = log.clone();
                    move || log.last_index()
                }),
                quorum_age: Box::new(quorum_age),
                is_confirmed,
                is_alone: log.is_alone(),
                closing,
                closed: CancellationToken::new(),
            }),
        },
        raft,
        log,
        persister,
    };
    if is_empty {
        core.begin().await?;
    }
    Ok((core, is_empty))
}

/// What was read must belong together.
fn check(
    config: &EngineConfig,
    purged: Option<LogId>,
    applied: Option<LogId>,
    state: &hither_state::State,
) -> Result<(), StartError> {
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    if purged > applied {
        return Err(StartError::Mismatch(format!(
            "the state on disk ends at entry {} and the log begins after entry {}: they are not of the same time",
            index(applied),
            index(purged),
        )));
    }
    if let (Some(birth), Some(lineage)) = (&config.birth, state.lineage())
        && birth.cluster != lineage.cluster
    {
        return Err(StartError::Mismatch(format!(
            "the data belong to cluster {}, the node to cluster {}",
            lineage.cluster, birth.cluster,
        )));
    }
    Ok(())
}

impl<R: Runtime, L: LogDevice> Core<R, L> {
    /// Begins the cluster, if this is the node to do it: the first of its members.
    async fn begin(&self) -> Result<(), StartError> {
        let Some(birth) = &self.engine.shared.config.birth else { return Ok(()) };
        if birth.members.first_key_value().map(|(&first, _)| first) != Some(self.engine.shared.config.node) {
            return Ok(());
        }
        let members: BTreeMap<u64, _> = birth.members.iter().map(|(node, member)| (node.0, member.clone())).collect();
        match self.raft.initialize(members).await {
            // Another member may have been faster.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(StartError::Raft(error.to_string())),
        }
    }

    /// Waits until a node that has no others leads, so that the first command does not wait for it.
    async fn ready(&self, is_new: bool) -> Result<(), StartError> {
        let shared = &self.engine.shared;
        if !shared.is_alone() {
            return Ok(());
        }
        if !is_new {
            // Nobody else can be elected: there is no timeout to wait for. One that begins has called its election.
            self.raft.trigger().elect(false).await.map_err(|fatal| StartError::Raft(fatal.to_string()))?;
        }
        let leading = Box::pin(async {
            shared.standpoint.wait(|leadership| leadership.is_leader).await;
            while shared.machine.state.read().lineage().is_none() && shared.config.birth.is_some() {
                let next = shared.machine.standing().applied.map_or(0, |applied| applied.index + 1);
                // It is completed or the machine is gone.
                let _ = shared.machine.wait_applied(next).await;
            }
        });
        match select(leading, Box::pin(shared.failing.failed())).await {
            Either::Left(_) => Ok(()),
            Either::Right((failure, _)) => Err(StartError::Raft(failure.to_string())),
        }
    }
}

async fn serve_pipes<R: Runtime>(
    server: Server<R>,
    mut pipes: mpsc::UnboundedReceiver<Pipe>,
    closing: CancellationToken,
) {
    let work = Box::pin(async {
        while let Some(pipe) = pipes.recv().await {
            let (server, closing) = (server.clone(), closing.clone());
            R::detach(async move {
                let serving = Box::pin(server.pipe(pipe));
                let ended = select(serving, Box::pin(closing.cancelled())).await;
                if let Either::Left((Err(error), _)) = ended {
                    tracing::debug!(%error, "a pipe from a peer ended");
                }
            });
        }
    });
    select(work, Box::pin(closing.cancelled())).await;
}

/// Raft stops by itself only when it cannot go on.
async fn watch_raft<R: Runtime>(raft: Raft<R>, failing: Failing, closing: CancellationToken) {
    let mut metrics = raft.server_metrics();
    // They end with raft.
    while metrics.changed().await.is_ok() {}
    if !closing.is_cancelled() {
        let state = raft.metrics().borrow_watched().running_state.clone();
        let why = state.err().map_or_else(|| "for no reason that it gave".to_owned(), |fatal| fatal.to_string());
        failing.fail(format!("raft stopped: {why}"));
    }
}

impl Engine {
    /// [`Engine::start`] on a runtime of one's choice, with links to other nodes.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_on<R: Runtime, L: LogDevice, S: StateDevice>(
        config: EngineConfig,
        log: L,
        state: S,
        links: Arc<dyn Links>,
    ) -> Result<Self, StartError> {
        let (started, wait) = oneshot::channel();
        R::thread(THREAD_RAFT, main::<R, L, S>(config, log, state, links, started))?;
        let died = |_| StartError::Device(io::Error::other("the engine's thread died as it started"));
        wait.await.map_err(died)?
    }
}

impl Shared {
    /// Whether this node is the only voter, so that nobody else can lead.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Acquire)
    }

    pub(crate) fn node(&self) -> NodeId {
        self.config.node
    }
}
