//! Answers that are fetched together: whoever has many commands under way has one place where their answers come, and is
//! told once of all that came at once.
//!
//! A future for each of them would cost its own memory, timer and wake-up, which is most of what a small write costs.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;

use hither_protocol::{ErrorCode, Refusal};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::proposal::{Answered, Stage, WENT_DOWN};

/// Answers for which memory is kept while none are under way.
const ANSWERS_KEPT: usize = 16;

/// Where answers come.
#[derive(Default)]
pub(crate) struct Tray {
    answers: Mutex<VecDeque<(Ticket, Answered)>>,
    bell: Notify,
}

/// A command under way whose answer comes to a tray. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<Waiting>);

struct Waiting {
    stage: Stage,
    /// What its caller calls it.
    number: u64,
    tray: Arc<Tray>,
}

/// The other end of a ticket. Whoever has it owes the answer; if it is dropped instead, that is a refusal.
pub(crate) struct Seat(Option<Ticket>);

impl Tray {
    /// Resolves once something may have come since it last did.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Has whoever waits for the bell look around.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Swaps what has come for the empty `taken`. While more is being put here it stays until the bell rings.
    pub(crate) fn take(&self, taken: &mut VecDeque<(Ticket, Answered)>) {
        debug_assert!(taken.is_empty(), "nothing is put back");
        if let Some(mut answers) = self.answers.try_lock() {
            mem::swap(&mut *answers, taken);
        }
    }

    /// Nobody will fetch what lies here. To be called when everything that may still come was abandoned.
    pub(crate) fn clear(&self) {
        let answers = mem::take(&mut *self.answers.lock());
        drop(answers);
    }

    /// Gives back what a burst took.
    pub(crate) fn rest(&self) {
        self.answers.lock().shrink_to(ANSWERS_KEPT);
    }

    /// To put answers on; to be followed by [`ring`](Self::ring).
    pub(super) fn open(&self) -> OpenTray<'_> {
        OpenTray(self.answers.lock())
    }
}

/// A tray that answers are being put on.
pub(super) struct OpenTray<'a>(MutexGuard<'a, VecDeque<(Ticket, Answered)>>);

impl OpenTray<'_> {
    pub(super) fn put(&mut self, mut seat: Seat, answer: Answered) {
        // Nobody fetches what was given up, and lying here it would keep the tray that it lies on.
        let ticket = seat.0.take().filter(|ticket| !ticket.0.stage.is_abandoned());
        self.0.extend(ticket.map(|ticket| (ticket, answer)));
    }
}

impl Ticket {
    /// For a command that is called `number`, whose answer is to come to `tray`.
    pub(super) fn new(tray: &Arc<Tray>, number: u64) -> (Self, Seat) {
        let ticket = Self(Arc::new(Waiting { stage: Stage::default(), number, tray: Arc::clone(tray) }));
        (ticket.clone(), Seat(Some(ticket)))
    }

    /// What its caller calls it.
    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// Whether both are of one command: a number may come twice.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Nobody waits for the answer any more: the command is not carried out unless an entry has it already.
    pub(crate) fn abandon(&self) {
        self.0.stage.abandon();
    }

    /// The caller's patience is over.
    pub(crate) fn time_out(&self) -> Refusal {
        self.0.stage.time_out()
    }
}

impl Seat {
    pub(super) fn stage(&self) -> &Stage {
        &self.ticket().0.stage
    }

    pub(super) fn tray(&self) -> &Arc<Tray> {
        &self.ticket().0.tray
    }

    pub(super) fn answer(self, answer: Answered) {
        let tray = Arc::clone(self.tray());
        tray.open().put(self, answer);
        tray.ring();
    }

    fn ticket(&self) -> &Ticket {
        self.0.as_ref().expect("only what consumes the seat takes it out")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(ticket) = self.0.take() else { return };
        let tray = Arc::clone(&ticket.0.tray);
        // Decided with the tray open: whoever clears it has abandoned everything before.
        let mut open = tray.open();
        if ticket.0.stage.is_abandoned() {
            return;
        }
        let refusal = ticket.0.stage.give_up(ErrorCode::ShuttingDown, WENT_DOWN);
        open.0.push_back((ticket, Err(refusal)));
        drop(open);
        tray.ring();
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({:?})", self.0.as_ref().map(Ticket::number))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::engine::proposal::{Caller, answer_all};

    fn refusal() -> Answered {
        Err(Refusal::new(ErrorCode::ServerBusy, "no"))
    }

    fn taken(tray: &Tray) -> Vec<(u64, ErrorCode)> {
        let mut taken = VecDeque::new();
        tray.take(&mut taken);
        taken
            .into_iter()
            .map(|(ticket, answer)| (ticket.number(), answer.expect_err("none is an answer").code))
            .collect()
    }

    #[test]
    fn answers_of_one_entry_come_together_and_the_bell_rings_once() {
        let trays = [Arc::new(Tray::default()), Arc::new(Tray::default())];
        let callers = [(0, 1), (0, 2), (1, 3), (0, 4)].map(|(tray, number)| Ticket::new(&trays[tray], number).1);
        answer_all(callers.into_iter().map(|seat| (Caller::Many(seat), refusal())));
        for (tray, numbers) in trays.iter().zip([vec![1, 2, 4], vec![3]]) {
            assert!(tray.rung().now_or_never().is_some());
            assert!(tray.rung().now_or_never().is_none(), "once for all");
            assert_eq!(taken(tray).into_iter().map(|(number, _)| number).collect::<Vec<_>>(), numbers);
        }
    }

    #[test]
    fn an_answer_that_never_comes_is_a_refusal_unless_nobody_waits() {
        let tray = Arc::new(Tray::default());
        let (waits, seat) = Ticket::new(&tray, 1);
        drop(seat);
        assert!(tray.rung().now_or_never().is_some());
        let (given_up, seat) = Ticket::new(&tray, 2);
        given_up.abandon();
        drop(seat);
        assert_eq!(taken(&tray), [(waits.number(), ErrorCode::ShuttingDown)]);
    }

    #[test]
    fn answers_that_nobody_fetches_keep_nothing() {
        let tray = Arc::new(Tray::default());
        let (given_up, seat) = Ticket::new(&tray, 1);
        let (_, fetched_by_nobody) = Ticket::new(&tray, 2);
        fetched_by_nobody.answer(refusal());
        given_up.abandon();
        tray.clear();
        seat.answer(refusal());
        let kept = Arc::downgrade(&tray);
        drop((tray, given_up));
        assert!(kept.upgrade().is_none());
    }

    #[test]
    fn what_is_put_while_somebody_looks_is_not_overlooked() {
        let tray = Arc::new(Tray::default());
        let mut open = tray.open();
        open.put(Ticket::new(&tray, 1).1, refusal());
        assert_eq!(taken(&tray), [], "it does not wait");
        drop(open);
        tray.ring();
        assert!(tray.rung().now_or_never().is_some());
        assert_eq!(taken(&tray), [(1, ErrorCode::ServerBusy)]);
    }
}
