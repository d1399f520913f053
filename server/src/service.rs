//! Requests, from the door to the answer. Every lane and every language ends here, and every request goes the same way:
//! the state's door lets it in or refuses it, then it is carried out. Nothing here knows of frames or streams.

mod identity;
mod lease;
mod pages;
mod read;
mod status;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hither_protocol::error::LeaderHint;
use hither_protocol::message::{self as wire, Consistency, Reply, Request, Stamp};
use hither_protocol::{ErrorCode, NodeId, Refusal, UnixMillis};
use hither_state::Command;
use hither_state::door::{self, Admitted, Caller, IdentityRequest, LeaseRequest, Read};
use tokio::time::timeout;

use crate::engine::Engine;
use crate::identity::{Book, Identity};
use crate::session::Registry;

pub(crate) use pages::Pages;

/// What a request comes to.
pub(crate) enum Called<'a> {
    /// A command to be proposed, and how long its caller has patience.
    Command(Command, Duration),
    /// Anything else: an answer on its way.
    Other(Answering<'a>),
}

/// An answer on its way: on the heap, since every request has room for the largest thing that it may come to.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send + 'a>>;

/// Carries requests out.
pub(crate) struct Service {
    pub(crate) engine: Engine,
    pub(crate) identity: Identity,
    pub(crate) book: Book,
    pub(crate) registry: Arc<Registry>,
    /// What clients are told to connect to.
    pub(crate) advertised: String,
    started: Instant,
}

/// An answer.
#[expect(clippy::large_enum_variant, reason = "nearly every answer is the large one, and none is kept")]
pub(crate) enum Answer {
    /// In one frame.
    Whole(Stamp, Reply),
    /// A list, a frame at a time.
    Pages(Box<Pages>),
}

impl Service {
    pub(crate) fn new(
        engine: Engine,
        identity: Identity,
        book: Book,
        registry: Arc<Registry>,
        advertised: String,
    ) -> Self {
        Self { engine, identity, book, registry, advertised, started: Instant::now() }
    }

    /// Lets a request in that came at `at`. What it asks for is on its way when this returns, unless it is a command.
    ///
    /// # Errors
    /// The refusal that the client gets.
    pub(crate) fn call<'a>(
        &'a self,
        caller: &'a Caller,
        context: &wire::Context,
        request: Request,
        at: UnixMillis,
    ) -> Result<Called<'a>, Refusal> {
        let deadline = context.deadline_ms.map(Duration::from_millis);
        Ok(Called::Other(match door::admit(caller, context, request, at)? {
            Admitted::Propose(command) => {
                // Only the engine knows whether a command that ran out of time may yet take effect.
                let patience = self.engine.patience().min(deadline.unwrap_or(Duration::MAX));
                return Ok(Called::Command(command, patience));
            }
            Admitted::Read(Read::Get(get)) => Box::pin(within(deadline, true, self.get(caller, get))),
            Admitted::Read(Read::Range(range)) => Box::pin(within(deadline, true, self.range(caller, range))),
            Admitted::Lease(request) => {
                let changes_nothing = !matches!(request, LeaseRequest::Renew(_));
                let answer = within(deadline, changes_nothing, self.lease(caller, request));
                Box::pin(async { answer.await.map(whole) })
            }
            Admitted::Identity(request) => {
                let changes_nothing = matches!(request, IdentityRequest::List(_));
                let answer = within(deadline, changes_nothing, self.identities(caller, request));
                Box::pin(async { answer.await.map(whole) })
            }
            Admitted::Status => Box::pin(within(deadline, true, async { Ok(whole(self.status().await)) })),
        }))
    }

    /// Client addresses of the cluster's nodes.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        vec![self.advertised.clone()]
    }

    /// Who leads and where, as far as this node can tell clients.
    pub(crate) fn leader(&self) -> Option<LeaderHint> {
        let leader = self.engine.leadership().leader?;
        (leader == self.node()).then(|| LeaderHint { node: leader, address: self.advertised.clone() })
    }

    pub(crate) fn node(&self) -> NodeId {
        self.engine.node()
    }

    /// Where an answer comes from that needs no agreement: the state as it is here, however old.
    pub(crate) async fn stamp_of_now(&self) -> Stamp {
        match self.engine.barrier(Consistency::Stale { max_age_ms: u64::MAX }).await {
            Ok(stamp) => stamp,
            // Nobody was ever heard of who leads.
            Err(_) => {
                let revision = self.engine.machine().state.read().revision();
                Stamp { revision, term: self.engine.leadership().term, node: self.node(), age_ms: u64::MAX }
            }
        }
    }
}

/// What `answer` comes to, or that it took too long.
async fn within<T>(
    deadline: Option<Duration>,
    changes_nothing: bool,
    answer: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let Some(deadline) = deadline else { return answer.await };
    match timeout(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) if changes_nothing => Err(Refusal::new(ErrorCode::Timeout, "the deadline passed")),
        Err(_) => Err(Refusal::unknown(ErrorCode::Timeout, "the deadline passed; the request may yet take effect")),
    }
}

/// An answer in one frame.
pub(crate) fn whole((stamp, reply): (Stamp, Reply)) -> Answer {
    Answer::Whole(stamp, reply)
}
