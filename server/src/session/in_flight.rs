//! The requests of a connection that are being worked on, so that its control lane can take one back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use futures_util::future::AbortHandle;
use hither_protocol::{ErrorCode, Refusal, RequestNumber, SessionId};
use parking_lot::Mutex;

use crate::engine::Ticket;

/// Requests under way, by number.
#[derive(Default)]
pub(super) struct InFlight {
    requests: Mutex<Requests>,
}

#[derive(Default)]
struct Requests {
    by_number: HashMap<RequestNumber, Work>,
    commands: usize,
}

/// What is under way of a request.
pub(super) enum Work {
    /// A future of its own.
    Task(AbortHandle),
    /// A command whose answer the lane fetches.
    Command(Asked),
}

/// A command of the lane.
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    pub(super) name: &'static str,
    pub(super) started: Instant,
    /// When its caller's patience is over.
    pub(super) until: Instant,
    /// The session that it closes.
    pub(super) closes: Option<SessionId>,
}

impl InFlight {
    /// Notes a request that `start` gets under way; the inner result is what that says.
    ///
    /// # Errors
    /// `InvalidArgument` if its number is in use: a reply could not be told from another.
    pub(super) fn begin<T>(
        &self,
        number: RequestNumber,
        start: impl FnOnce() -> Result<(Work, T), Refusal>,
    ) -> Result<Result<T, Refusal>, Refusal> {
        let requests = &mut *self.requests.lock();
        match requests.by_number.entry(number) {
            Entry::Occupied(_) => Err(Refusal::new(
                ErrorCode::InvalidArgument,
                format!("request {number} is still being worked on; number each request of a connection once"),
            )),
            Entry::Vacant(vacant) => Ok(start().map(|(work, started)| {
                requests.commands += usize::from(matches!(work, Work::Command(_)));
                vacant.insert(work);
                started
            })),
        }
    }

    /// A request that was a command has become this.
    pub(super) fn resume(&self, number: RequestNumber, work: Work) {
        self.requests.lock().by_number.insert(number, work);
    }

    /// A future of its own is done.
    pub(super) fn end(&self, number: RequestNumber) {
        self.requests.lock().by_number.remove(&number);
    }

    /// A command was answered; none if nobody waits for the answer any more.
    pub(super) fn answered(&self, ticket: &Ticket) -> Option<Asked> {
        let number = RequestNumber(ticket.number());
        self.requests.lock().take(number, |asked| asked.ticket.is(ticket))
    }

    /// Forgets the commands that ran out of time by `now`, and says when the next one will.
    pub(super) fn overdue(&self, now: Instant) -> (Vec<(RequestNumber, Asked)>, Option<Instant>) {
        let mut requests = self.requests.lock();
        let numbers: Vec<_> =
            requests.commands().filter(|(_, asked)| asked.until <= now).map(|(number, _)| number).collect();
        let overdue = numbers.into_iter().filter_map(|number| Some((number, requests.take(number, |_| true)?)));
        let overdue = overdue.collect();
        (overdue, requests.commands().map(|(_, asked)| asked.until).min())
    }

    /// Nobody waits for it any more; the name of a command that was forgotten. Unknown numbers are ignored: the answer
    /// may be on its way.
    pub(super) fn cancel(&self, number: RequestNumber) -> Option<&'static str> {
        let mut requests = self.requests.lock();
        if let Some(Work::Task(handle)) = requests.by_number.get(&number) {
            handle.abort();
        }
        requests.take(number, |_| true).map(|asked| {
            asked.ticket.abandon();
            asked.name
        })
    }

    /// Nobody waits for the answer to any command any more.
    pub(super) fn cancel_commands(&self) {
        let mut requests = self.requests.lock();
        requests.by_number.retain(|_, work| match work {
            Work::Task(_) => true,
            Work::Command(asked) => {
                asked.ticket.abandon();
                false
            }
        });
        requests.commands = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.requests.lock().by_number.len()
    }

    /// Commands whose answers the lane fetches.
    pub(super) fn commands(&self) -> usize {
        self.requests.lock().commands
    }
}

impl Requests {
    fn commands(&self) -> impl Iterator<Item = (RequestNumber, &Asked)> {
        self.by_number.iter().filter_map(|(number, work)| match work {
            Work::Task(_) => None,
            Work::Command(asked) => Some((*number, asked)),
        })
    }

    /// Forgets a command, if it is the one that is meant.
    fn take(&mut self, number: RequestNumber, is_meant: impl FnOnce(&Asked) -> bool) -> Option<Asked> {
        let Entry::Occupied(entry) = self.by_number.entry(number) else { return None };
        if !matches!(entry.get(), Work::Command(asked) if is_meant(asked)) {
            return None;
        }
        self.commands -= 1;
        match entry.remove() {
            Work::Command(asked) => Some(asked),
            Work::Task(_) => None,
        }
    }
}
