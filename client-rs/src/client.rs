//! The handle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hither_client_core::{Error, Metrics, Options, SessionState, has_effect};
use hither_protocol::message::{Reply, Request, Stamp};
use hither_protocol::{ErrorCode, SessionId};
use tokio::sync::{oneshot, watch};

use crate::builder::ClientBuilder;
use crate::commands::{Commands, Gone};
use crate::driver::{Command, Outcome};
use crate::registry::Registry;

/// A client of a cluster: a cheap handle to clone and share. Its background task ends when the last handle, watch,
/// lease and registration is gone; [`close`](Self::close) ends it now and says goodbye.
///
/// The task runs on the Tokio runtime that the client was connected in: leases are kept and watches are read only while
/// that runtime runs. A program that enters a current-thread runtime now and then gives the client one of its own with
/// [`ClientBuilder::runtime`].
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// What the client's own background tasks do not hold: they end when the last other handle is gone.
    _life: Option<Arc<Life>>,
}

/// Gone with the last handle of the application.
#[derive(Debug)]
struct Life {
    _ended: watch::Sender<()>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    commands: Commands,
    next: AtomicU64,
    state: watch::Receiver<SessionState>,
    metrics: Arc<Mutex<Metrics>>,
    options: Arc<Options>,
    runtime: tokio::runtime::Handle,
    ending: watch::Receiver<()>,
    registry: Registry,
}

impl Client {
    /// Builds a client with other settings than [`connect`](crate::connect)'s.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(
        commands: Commands,
        state: watch::Receiver<SessionState>,
        metrics: Arc<Mutex<Metrics>>,
        options: Arc<Options>,
        registry: Registry,
    ) -> Self {
        let (ended, ending) = watch::channel(());
        let runtime = tokio::runtime::Handle::current();
        let next = AtomicU64::new(1);
        Self {
            shared: Arc::new(Shared { commands, next, state, metrics, options, runtime, ending, registry }),
            _life: Some(Arc::new(Life { _ended: ended })),
        }
    }

    /// A handle for a background task of the client: it does not keep the client alive.
    pub(crate) fn inner(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), _life: None }
    }

    /// Fails to change once the last handle of the application is gone.
    pub(crate) fn ending(&self) -> watch::Receiver<()> {
        self.shared.ending.clone()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Runs a task where the client runs.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.runtime.spawn(task);
    }

    /// A timer of the runtime that the client runs on, for callers that have none.
    pub(crate) fn sleep(&self, duration: Duration) -> tokio::time::Sleep {
        let _runtime = self.shared.runtime.enter();
        tokio::time::sleep(duration)
    }

    /// How the client stands to its cluster now.
    #[must_use]
    pub fn state(&self) -> SessionState {
        *self.shared.state.borrow()
    }

    /// Follows [`state`](Self::state).
    #[must_use]
    pub fn states(&self) -> States {
        States { receiver: self.shared.state.clone() }
    }

    /// What this client has counted so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        *self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings that it runs with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The client's session, opened now if it has none: the leases bound to it, and its own, which has the session's
    /// number ([`SessionId::lease`]), live for as long as the client is heard of. Waits at most the request timeout.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn session(&self) -> Result<SessionId, Error> {
        let (reply, answer) = oneshot::channel();
        let id = self.number();
        let guard = CancelOnDrop { client: self, id, armed: true };
        self.send(Command::Session { id, reply })?;
        let outcome = answer.await.unwrap_or_else(|_| Err(closed()));
        guard.disarm();
        outcome
    }

    /// Leaves: what it registered is deregistered, what waits fails with `Closed`, watches end, the session and the
    /// leases bound to it end at the server now rather than with their TTL. Returns when the server confirmed, or after
    /// 200 ms, and a second more at most if there are registrations. Closing twice is fine.
    pub async fn close(&self) {
        if self.state() == SessionState::Connected {
            self.withdraw_all().await;
        }
        let (done, closed) = oneshot::channel();
        if self.send(Command::Close { done }).is_ok() {
            // A driver that is already gone is what was asked for.
            let _ = closed.await;
        }
    }

    /// Sends one request and waits for its answer. The way out for operations that this version has no method for.
    /// Dropping the future takes the request back.
    ///
    /// `timeout`: the deadline of the whole call; none is [`Options::request_timeout`].
    ///
    /// # Errors
    /// What the server refused, `Timeout` or `Unavailable` at the deadline, `Closed`.
    pub async fn call(&self, request: impl Into<Request>, timeout: Option<Duration>) -> Result<(Stamp, Reply), Error> {
        self.begin(request.into(), timeout)?.answer().await
    }

    /// [`call`](Self::call), with the reply that belongs to the request, sent at once: the future does not carry the
    /// request, and is small.
    pub(crate) fn ask<R: TryFrom<Reply>>(
        &self,
        request: impl Into<Request>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<(Stamp, R), Error>> {
        let begun = self.begin(request.into(), timeout);
        async move {
            let (stamp, reply) = begun?.answer().await?;
            let reply = R::try_from(reply)
                .map_err(|_| Error::unknown(ErrorCode::InvalidFrame, "the server answered another question"))?;
            Ok((stamp, reply))
        }
    }

    fn begin(&self, request: Request, timeout: Option<Duration>) -> Result<Begun<'_>, Error> {
        let (reply, answer) = oneshot::channel();
        let id = self.number();
        let has_effect = has_effect(&request);
        self.send(Command::Call { id, request, timeout, reply })?;
        Ok(Begun { guard: CancelOnDrop { client: self, id, armed: true }, answer, has_effect })
    }

    pub(crate) fn number(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn send(&self, command: Command) -> Result<(), Error> {
        self.shared.commands.send(command).map_err(|Gone| closed())
    }
}

/// A call that was sent.
struct Begun<'a> {
    guard: CancelOnDrop<'a>,
    answer: oneshot::Receiver<Outcome>,
    has_effect: bool,
}

impl Begun<'_> {
    async fn answer(self) -> Outcome {
        let Self { guard, answer, has_effect } = self;
        let outcome = answer.await.unwrap_or_else(|_| Err(if has_effect { unanswered() } else { closed() }));
        guard.disarm();
        outcome
    }
}

/// Takes a call back when its future is dropped before the answer came.
struct CancelOnDrop<'a> {
    client: &'a Client,
    id: u64,
    armed: bool,
}

impl CancelOnDrop<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            // A driver that is gone has nothing to take back.
            let _ = self.client.send(Command::Cancel { id: self.id });
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the client was closed")
}

/// The driver ended, with its runtime or in a panic, without an answer to something that it may have sent.
pub(crate) fn unanswered() -> Error {
    closed().maybe_applied()
}

/// The states of a client as they change. It may skip one that did not last.
#[derive(Clone, Debug)]
pub struct States {
    receiver: watch::Receiver<SessionState>,
}

impl States {
    /// The state now.
    #[must_use]
    pub fn current(&mut self) -> SessionState {
        *self.receiver.borrow_and_update()
    }

    /// Waits for a state that was not seen yet. `Closed` is the last; after it there is none.
    pub async fn changed(&mut self) -> Option<SessionState> {
        self.receiver.changed().await.ok()?;
        Some(*self.receiver.borrow_and_update())
    }

    /// Waits until the client is in `state`. Returns false if it was closed instead.
    pub async fn wait_for(&mut self, state: SessionState) -> bool {
        self.receiver.wait_for(|now| *now == state).await.is_ok()
    }
}
