//! The commands of a request lane that are under way: their answers, and the time after which they get none.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Instant;

use hither_protocol::RequestNumber;
use tokio::time::{Sleep, sleep_until};

use super::connection::Connection;
use super::in_flight::Asked;
use crate::engine::{Answered, Ticket};

/// The commands of one lane. Dropped with the lane: nobody waits for them any more.
pub(super) struct Commands<'a> {
    connection: &'a Connection,
    /// Taken off the tray, not yet looked at.
    answers: VecDeque<(Ticket, Answered)>,
    /// Those that ran out of time.
    overdue: Vec<(RequestNumber, Asked)>,
    /// When the first one may run out of time.
    due: Option<Instant>,
    /// Set to a time no later than that: one timer for all of them, moved once in a patience.
    timer: Pin<Box<Sleep>>,
}

impl<'a> Commands<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        let timer = Box::pin(sleep_until(Instant::now().into()));
        Self { connection, answers: VecDeque::new(), overdue: Vec::new(), due: None, timer }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.connection.in_flight.commands()
    }

    /// There is another one, which waits until then.
    pub(super) fn note(&mut self, until: Instant) {
        if self.due.is_none_or(|due| until < due) {
            self.due = Some(until);
            self.timer.as_mut().reset(until.into());
        }
    }

    /// A command that is answered, or, if none is, that ran out of time by `now`: an answer that has come counts, however
    /// late this looks.
    pub(super) fn next_answered(&mut self, now: Instant) -> Option<(RequestNumber, Asked, Answered)> {
        if self.answers.is_empty() {
            self.connection.tray.take(&mut self.answers);
        }
        while let Some((ticket, answer)) = self.answers.pop_front() {
            // Nobody waits any more for what is not there.
            if let Some(asked) = self.connection.in_flight.answered(&ticket) {
                return Some((RequestNumber(ticket.number()), asked, answer));
            }
        }
        self.look(now);
        let (number, asked) = self.overdue.pop()?;
        let refusal = asked.ticket.time_out();
        Some((number, asked, Err(refusal)))
    }

    /// Resolves when an answer may have come, one ran out of time, or there may be room for another.
    pub(super) async fn stirred(&mut self) {
        tokio::select! {
            () = self.connection.tray.rung() => {}
            () = self.timer.as_mut(), if self.due.is_some() => {}
        }
    }

    /// Looks which ones ran out of time by `now`.
    fn look(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let (overdue, next) = self.connection.in_flight.overdue(now);
        self.overdue.extend(overdue);
        self.due = None;
        match next {
            Some(next) => self.note(next),
            None => {
                // No burst is going on.
                self.connection.tray.rest();
                self.answers.shrink_to_fit();
            }
        }
    }
}

impl Drop for Commands<'_> {
    fn drop(&mut self) {
        // In this order: what is answered in between is not put on the tray.
        self.connection.in_flight.cancel_commands();
        self.connection.tray.clear();
    }
}
