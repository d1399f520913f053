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
use super::tray::Seat;

/// What a caller gets.
pub(crate) type Answered = Result<(Stamp, Reply), Refusal>;

/// An entry has it.
const TAKEN: u8 = 1;
/// Nobody waits for it any more.
const ABANDONED: u8 = 2;

/// What a caller hears whose engine ended before its command did.
pub(super) const WENT_DOWN: &str = "this node went down before the command was answered";

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
pub(crate) enum Caller {
    /// A future.
    One(Arc<Stage>, oneshot::Sender<Answered>),
    /// Somebody who waits for many.
    Many(Seat),
}

/// A proposal, as its caller has it: resolves with the answer, or when the caller's patience is over. Written out, since
/// every request under way is one: as an `async` block it would have room for the command beside it.
pub(crate) struct Submitted {
    answer: oneshot::Receiver<Answered>,
    stage: Arc<Stage>,
    patience: Sleep,
}

/// How far a proposal is: only one that no entry took is known not to happen.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU8);

impl Proposal {
    pub(crate) fn new(command: Command, caller: Caller) -> Self {
        Self { bytes: command.bytes(), command, caller }
    }

    /// Takes it for an entry; none if its caller gave up.
    pub(crate) fn take(self) -> Option<(Command, Caller)> {
        let Self { command, caller, .. } = self;
        caller.stage().take().then_some((command, caller))
    }

    /// The entry was not taken after all.
    pub(crate) fn put_back(command: Command, caller: Caller) -> Self {
        caller.stage().put_back();
        Self::new(command, caller)
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.caller.stage().is_abandoned()
    }

    /// It was not accepted, and its caller knows.
    pub(crate) fn abandon(&self) {
        self.caller.stage().abandon();
    }

    pub(crate) fn refuse(self, refusal: Refusal) {
        self.caller.answer(Err(refusal));
    }
}

impl Submitted {
    /// The two ends of a proposal.
    pub(crate) fn new(patience: Sleep) -> (Caller, Self) {
        let (sender, answer) = oneshot::channel();
        let stage = Arc::<Stage>::default();
        (Caller::One(Arc::clone(&stage), sender), Self { answer, stage, patience })
    }
}

impl Future for Submitted {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        Poll::Ready(match Pin::new(&mut self.answer).poll(context) {
            Poll::Ready(Ok(answer)) => answer,
            Poll::Ready(Err(_)) => Err(self.stage.give_up(ErrorCode::ShuttingDown, WENT_DOWN)),
            Poll::Pending => {
                ready!(self.patience.as_mut().poll(context));
                Err(self.stage.time_out())
            }
        })
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        self.stage.abandon();
    }
}

impl Caller {
    pub(crate) fn answer(self, answer: Answered) {
        match self {
            // The caller may have given up.
            Self::One(_, sender) => drop(sender.send(answer)),
            Self::Many(seat) => seat.answer(answer),
        }
    }

    fn stage(&self) -> &Stage {
        match self {
            Self::One(stage, _) => stage,
            Self::Many(seat) => seat.stage(),
        }
    }
}

/// Answers the callers of an entry. The bell of a tray rings once for all that follow each other.
pub(crate) fn answer_all(answers: impl Iterator<Item = (Caller, Answered)>) {
    let mut answers = answers.peekable();
    while let Some((caller, answer)) = answers.next() {
        let seat = match caller {
            Caller::Many(seat) => seat,
            one @ Caller::One(..) => {
                one.answer(answer);
                continue;
            }
        };
        let tray = Arc::clone(seat.tray());
        {
            let mut open = tray.open();
            open.put(seat, answer);
            let is_here = |caller: &Caller| matches!(caller, Caller::Many(seat) if Arc::ptr_eq(seat.tray(), &tray));
            while let Some((Caller::Many(seat), answer)) = answers.next_if(|(caller, _)| is_here(caller)) {
                open.put(seat, answer);
            }
        }
        tray.ring();
    }
}

impl Stage {
    /// Gives the proposal up; false if an entry has taken it, so that it may yet happen.
    pub(crate) fn abandon(&self) -> bool {
        self.0.fetch_or(ABANDONED, Ordering::AcqRel) & TAKEN == 0
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::Acquire) & ABANDONED != 0
    }

    /// Gives the proposal up; what its caller hears.
    pub(crate) fn give_up(&self, code: ErrorCode, detail: &str) -> Refusal {
        if self.abandon() { Refusal::new(code, detail) } else { Refusal::unknown(code, detail) }
    }

    /// The caller's patience is over.
    pub(crate) fn time_out(&self) -> Refusal {
        self.give_up(ErrorCode::Timeout, "no majority answered in time")
    }

    /// False if it was given up.
    fn take(&self) -> bool {
        self.0.compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn put_back(&self) {
        self.0.fetch_and(!TAKEN, Ordering::AcqRel);
    }
}

/// Whether a command asks for more room, so that it is refused when there is little. A session does not: it takes next to
/// nothing, and without one nobody who comes now could delete. Nor does what the node itself writes: somebody may have to be
/// turned out.
pub(crate) fn wants_room(command: &Command) -> bool {
    match &command.action {
        _ if command.namespace.is_system() => false,
        Action::Put(_) | Action::LeaseGrant { .. } => true,
        Action::Txn(txn) => txn.then.iter().chain(&txn.otherwise).any(|op| matches!(op, TxnOp::Put(_))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use hither_protocol::{Applied, Namespace, Revision, UnixMillis};

    use super::*;
    use crate::engine::tray::{Ticket, Tray};

    fn command() -> Command {
        let action = Action::SetFloor { revision: Revision(3) };
        Command { namespace: Namespace::system(), principal: Arc::default(), retry: None, at: UnixMillis(7), action }
    }

    fn submitted() -> (Proposal, Submitted) {
        let (caller, submitted) = Submitted::new(Box::pin(std::future::pending()));
        (Proposal::new(command(), caller), submitted)
    }

    fn on_a_tray() -> (Proposal, Ticket) {
        let (ticket, seat) = Ticket::new(&Arc::<Tray>::default(), 1);
        (Proposal::new(command(), Caller::Many(seat)), ticket)
    }

    #[test]
    fn what_was_given_up_before_an_entry_had_it_does_not_happen() {
        let (proposal, waits) = submitted();
        drop(waits);
        assert!(proposal.take().is_none());
        let (proposal, ticket) = on_a_tray();
        assert_eq!(ticket.time_out().applied, Applied::No);
        assert!(proposal.take().is_none());
    }

    #[test]
    fn what_was_given_up_while_an_entry_had_it_may_happen_but_is_not_proposed_again() {
        let (proposal, waits) = submitted();
        let (command, caller) = proposal.take().expect("somebody waits");
        drop(waits);
        assert!(Proposal::put_back(command, caller).is_abandoned());
        let (proposal, ticket) = on_a_tray();
        let (command, caller) = proposal.take().expect("somebody waits");
        assert_eq!(ticket.time_out().applied, Applied::Unknown);
        assert!(Proposal::put_back(command, caller).take().is_none());
    }

    #[test]
    fn what_no_entry_took_after_all_is_proposed_again() {
        let (proposal, _waits) = on_a_tray();
        let (command, caller) = proposal.take().expect("somebody waits");
        assert!(Proposal::put_back(command, caller).take().is_some());
    }
}
