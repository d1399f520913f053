//! A command on its way to an entry, and who waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use hither_protocol::message::{Reply, Stamp, TxnOp};
use hither_protocol::{ErrorCode, Refusal};
use hither_state::{Action, Command};
use tokio::sync::oneshot;

use super::clock::Sleep;

/// What a caller gets.
pub(crate) type Answered = Result<(Stamp, Reply), Refusal>;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const ABANDONED: u8 = 2;

/// A command that waits for an entry.
#[derive(Debug)]
pub(crate) struct Proposal {
    command: Command,
    /// About what it takes up in an entry.
    pub(crate) bytes: usize,
    caller: Caller,
}

/// Who waits for a command.
#[derive(Debug)]
pub(crate) struct Caller {
    stage: Stage,
    answer: oneshot::Sender<Answered>,
}

/// A proposal, as its caller has it: resolves with the answer, or when the caller's patience is over. Written out, since
/// every request under way is one: as an `async` block it would have room for the command beside it.
pub(crate) struct Submitted {
    answer: oneshot::Receiver<Answered>,
    stage: Stage,
    patience: Sleep,
}

/// Whether an entry took a proposal: only one that none took is known not to happen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage(Arc<AtomicU8>);

impl Proposal {
    pub(crate) fn new(command: Command) -> (Self, Stage, oneshot::Receiver<Answered>) {
        let (answer, wait) = oneshot::channel();
        let stage = Stage::default();
        let bytes = command.bytes();
        (Self { command, bytes, caller: Caller { stage: stage.clone(), answer } }, stage, wait)
    }

    /// Takes it for an entry; none if its caller gave up.
    pub(crate) fn take(self) -> Option<(Command, Caller)> {
        let Self { command, caller, .. } = self;
        (!caller.answer.is_closed() && caller.stage.pass(WAITING, TAKEN)).then_some((command, caller))
    }

    /// The entry was not taken after all.
    pub(crate) fn put_back(command: Command, caller: Caller) -> Self {
        caller.stage.pass(TAKEN, WAITING);
        Self { bytes: command.bytes(), command, caller }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.caller.answer.is_closed()
    }

    pub(crate) fn refuse(self, refusal: Refusal) {
        self.caller.answer(Err(refusal));
    }
}

impl Submitted {
    pub(crate) const fn new(answer: oneshot::Receiver<Answered>, stage: Stage, patience: Sleep) -> Self {
        Self { answer, stage, patience }
    }
}

impl Future for Submitted {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let (code, detail) = match Pin::new(&mut self.answer).poll(context) {
            Poll::Ready(Ok(answer)) => return Poll::Ready(answer),
            Poll::Ready(Err(_)) => (ErrorCode::ShuttingDown, "this node went down before the command was answered"),
            Poll::Pending => {
                ready!(self.patience.as_mut().poll(context));
                (ErrorCode::Timeout, "no majority answered in time")
            }
        };
        let is_known = self.stage.abandon();
        Poll::Ready(Err(if is_known { Refusal::new(code, detail) } else { Refusal::unknown(code, detail) }))
    }
}

impl Caller {
    pub(crate) fn answer(self, answer: Answered) {
        // The caller may have given up.
        let _ = self.answer.send(answer);
    }
}

impl Stage {
    /// Gives the proposal up; false if an entry has taken it, so that it may yet happen.
    pub(crate) fn abandon(&self) -> bool {
        self.pass(WAITING, ABANDONED)
    }

    fn pass(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Whether a command asks for more room, so that it is refused when there is little.
pub(crate) fn wants_room(command: &Command) -> bool {
    match &command.action {
        Action::Put(_) | Action::LeaseGrant { .. } | Action::SessionOpen { .. } => true,
        Action::Txn(txn) => txn.then.iter().chain(&txn.otherwise).any(|op| matches!(op, TxnOp::Put(_))),
        _ => false,
    }
}
