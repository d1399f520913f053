//! The shell of the core: one task that owns the core, the sockets and the timers of a client.

pub(crate) mod dial;
mod links;
mod readers;
mod renewal;
mod socket;
mod told;
pub(crate) mod transport;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use hither_client_core::{Core, Error, Metrics, OnLoss, Options, SessionState, WatchSpec};
use hither_protocol::message::{LeaseGrantReply, Reply, Request, Stamp};
use hither_protocol::{LeaseId, Moment, Revision, SessionId};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep};

use crate::client::{Client, closed};
use crate::clock;
use crate::commands::{self, Asked};
use crate::context::Contexts;
use crate::identity::Identity;
use crate::mailbox::Mailbox;
use crate::registry::Registry;
use links::{Io, Links};
use readers::ReaderId;
use renewal::Renewal;
use told::Told;

/// What a call comes back with.
pub(crate) type Outcome = Result<(Stamp, Reply), Error>;

/// What a lease that is kept comes back with. The receiver turns true when it is lost.
pub(crate) type Granted = Result<(LeaseGrantReply, watch::Receiver<bool>), Error>;

/// Commands and events taken at one wake-up before what they led to is written: large enough to fill packets, small
/// enough that the first of them does not wait for the last.
const BATCH: usize = 256;
/// Streams read at one wake-up before the application is told what came on them: few enough that it finds that in the
/// processor's cache.
const READ_BATCH: usize = 64;
/// How long the last packets may take to leave, when a client closes.
const FLUSH: Duration = Duration::from_millis(50);
/// The longest sleep: what the wall clock decides is looked at this often.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// What a handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Sends a request.
    Call { id: u64, request: Request, timeout: Option<Duration>, reply: oneshot::Sender<Outcome> },
    /// Nobody waits for this call any more.
    Cancel { id: u64 },
    /// Opens the session, if there is none.
    Session { id: u64, reply: oneshot::Sender<Result<SessionId, Error>> },
    /// Grants a lease and keeps it.
    Lease { id: u64, ttl: Duration, on_loss: OnLoss, reply: oneshot::Sender<Granted> },
    /// Keeps a lease no longer.
    Release { lease: LeaseId, revoke: bool },
    /// Opens a watch.
    Watch {
        id: u64,
        spec: WatchSpec,
        timeout: Option<Duration>,
        /// Whether the mailbox is to hear if the watch is the present.
        standing: bool,
        opened: oneshot::Sender<Result<Revision, Error>>,
        mailbox: Arc<Mailbox>,
    },
    /// The mailbox of a watch has room again.
    Drained { id: u64 },
    /// Closes a watch.
    Unwatch { id: u64 },
    /// Says goodbye and ends.
    Close { done: oneshot::Sender<()> },
}

/// The context that an identity came from, where a renewed one is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) contexts: Contexts,
    pub(crate) name: String,
}

/// Makes the client and its task, and waits for the first greeting. Called in a Tokio runtime.
pub(crate) async fn start(options: Options, identity: Identity, kept: Option<Kept>) -> Result<Client, Error> {
    let links = Links::new(&identity)?;
    let (commands, asked) = commands::queue();
    let (connected, connecting) = oneshot::channel();
    let (told, state) = Told::new(connected);
    let metrics = Arc::new(Mutex::new(Metrics::default()));
    let shared_options = Arc::new(options.clone());
    let registry = Registry::default();
    let beats = Arc::clone(&registry.beats);
    let core = Core::new(options, SmallRng::from_os_rng().next_u64(), clock::now());
    let driver = Driver {
        asked,
        core,
        links,
        told,
        renewal: Renewal::new(identity, kept),
        metrics: Arc::clone(&metrics),
        beats,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        leaving: false,
        closers: Vec::new(),
    };
    tokio::spawn(driver.run());
    connecting.await.unwrap_or_else(|_| Err(closed()))?;
    Ok(Client::new(commands, state, metrics, shared_options, registry))
}

struct Driver {
    /// Dropped first: who hears that the driver is gone, and asks for more, is told that it was not sent.
    asked: Asked,
    core: Core,
    links: Links,
    told: Told,
    renewal: Renewal,
    metrics: Arc<Mutex<Metrics>>,
    /// What views read their age from.
    beats: Arc<AtomicU64>,
    timer: Pin<Box<Sleep>>,
    leaving: bool,
    closers: Vec<oneshot::Sender<()>>,
}

/// What one wake-up brought.
#[derive(Default)]
struct Brought {
    commands: Vec<Command>,
    reads: Vec<ReaderId>,
    events: VecDeque<Io>,
    abandoned: bool,
}

impl Driver {
    async fn run(mut self) {
        let mut brought = Brought::default();
        while !self.flush(clock::now()) {
            self.wait(&mut brought).await;
            let now = clock::now();
            // Before anything else: after a pause, lost leases are reported first.
            if self.core.poll_timeout().is_some_and(|at| now >= at) {
                self.core.handle_timeout(now);
                self.tell(now);
            }
            let owed = !brought.commands.is_empty() || !brought.reads.is_empty();
            for command in brought.commands.drain(..) {
                self.take(now, command);
            }
            for reader in brought.reads.drain(..) {
                self.links.read(&mut self.core, now, reader);
            }
            if owed {
                // Once for all that they brought.
                self.core.handle_timeout(now);
            }
            while let Some(event) = brought.events.pop_front() {
                self.links.handle(&mut self.core, now, event);
                self.core.handle_timeout(now);
            }
            if std::mem::take(&mut brought.abandoned) && !self.leaving {
                self.leaving = true;
                self.core.handle_close(now);
            }
            self.renewal.check(&mut self.core, now);
        }
        // Whatever the network does, whoever closes does not wait longer.
        let sockets = self.links.sockets();
        let _ = tokio::time::timeout(FLUSH, sockets.wait_idle()).await;
        self.refuse_what_is_left();
        // From here on nothing can be asked for.
        drop(self.asked);
        for done in self.closers.drain(..) {
            // Who asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// Answers what was asked for while the last packets left: the core refuses it, so that it is known not to be sent.
    fn refuse_what_is_left(&mut self) {
        let (mut context, mut left) = (Context::from_waker(Waker::noop()), Vec::new());
        while self.asked.poll(&mut context, BATCH, &mut left) == Poll::Ready(true) {}
        let now = clock::now();
        for command in left {
            self.take(now, command);
        }
        self.tell(now);
    }

    /// Waits for a command, an event or the time.
    async fn wait(&mut self, brought: &mut Brought) {
        let Self { asked, links, timer, leaving, .. } = self;
        poll_fn(|context| {
            let mut woken = timer.as_mut().poll(context).is_ready();
            if !*leaving {
                let taken = asked.poll(context, BATCH, &mut brought.commands);
                brought.abandoned = taken == Poll::Ready(false);
                woken |= taken.is_ready();
            }
            links.readers.poll_rung(context, READ_BATCH, &mut brought.reads);
            while brought.events.len() < BATCH {
                match links.events.poll_next_unpin(context) {
                    Poll::Ready(Some(event)) => brought.events.push_back(event),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            woken |= !brought.reads.is_empty() || !brought.events.is_empty();
            if woken { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Passes on what the core has to say, and sets the timer. True when it is over.
    fn flush(&mut self, now: Moment) -> bool {
        self.tell(now);
        let finished = self.links.act(&mut self.core);
        self.links.write(&mut self.core);
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = self.core.metrics();
        self.beats.store(self.core.beat_at().0, Ordering::Release);
        let next = self.core.poll_timeout().into_iter().chain(self.renewal.next()).min();
        let sleep = next.map_or(SLEEP_MAX, |at| at.since(now)).min(SLEEP_MAX);
        self.timer.as_mut().reset(Instant::now() + sleep);
        finished
    }

    /// Tells the application. What it cannot take leads to more to say.
    fn tell(&mut self, now: Moment) {
        while let Some(signal) = self.core.poll_signal() {
            self.told.handle(&mut self.core, &mut self.renewal, &mut self.links, now, signal);
        }
    }

    fn take(&mut self, now: Moment, command: Command) {
        match command {
            Command::Call { id, request, timeout, reply } => {
                self.told.calls.insert(id, reply);
                self.core.take_call(now, id, request, timeout);
            }
            Command::Cancel { id } => {
                self.told.calls.remove(&id);
                self.told.sessions.remove(&id);
                self.core.handle_cancel(now, id);
            }
            Command::Session { id, reply } => {
                self.told.sessions.insert(id, reply);
                self.core.handle_session(now, id);
            }
            Command::Lease { id, ttl, on_loss, reply } => {
                self.told.grants.insert(id, reply);
                self.core.handle_lease(now, id, ttl, on_loss);
            }
            Command::Release { lease, revoke } => {
                self.told.leases.remove(&lease);
                self.core.handle_release(now, lease, revoke);
            }
            Command::Watch { id, spec, timeout, standing, opened, mailbox } => {
                self.told.watches.insert(id, told::Watching { opened: Some(opened), mailbox });
                self.core.handle_watch(now, id, spec, timeout);
                if standing {
                    self.core.handle_follow_standing(now, id);
                }
            }
            Command::Drained { id } => self.told.drained(&mut self.core, now, id),
            Command::Unwatch { id } => {
                self.told.watches.remove(&id);
                self.core.handle_unwatch(now, id);
            }
            Command::Close { done } => {
                self.closers.push(done);
                self.core.handle_close(now);
            }
        }
    }
}

/// The states of a client that is told `Closed` when its task ends, however it ends.
pub(crate) struct StateOnDrop(pub(crate) watch::Sender<SessionState>);

impl Drop for StateOnDrop {
    fn drop(&mut self) {
        // Told once: whoever waits for what comes after the last state is told that there is none.
        self.0.send_if_modified(|state| std::mem::replace(state, SessionState::Closed) != SessionState::Closed);
    }
}
