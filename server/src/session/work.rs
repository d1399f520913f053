//! One request, from its frame to its answer, on whichever stream it came.

use std::time::{Duration, Instant};

use futures_util::TryFutureExt;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable, ready};
use hither_protocol::codec::Frame;
use hither_protocol::limits::LANE_BODY_BYTES_MAX;
use hither_protocol::message::{Context, Reply, Request, SessionCloseReply};
use hither_protocol::{ErrorCode, Refusal, RequestNumber, SessionId, UnixMillis};
use hither_state::Command;

use super::Plane;
use super::answer::{Large, weight, write_large};
use super::connection::Connection;
use super::in_flight::{Asked, Work};
use super::refusals::is_malformed;
use crate::engine::Answered;
use crate::identity::now;
use crate::service::{Answer, Answering, Called, whole};

/// What is left to do about a request.
#[expect(clippy::large_enum_variant, reason = "nearly every outcome is the large one, and none is kept")]
pub(super) enum Outcome {
    /// Put this answer on the lane.
    Small(RequestNumber, Answered),
    /// Nothing: it was written where it belongs.
    Written,
    /// Nothing: nobody waits for it any more, or its stream broke.
    Dropped,
}

/// When requests came that came together.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    wall: UnixMillis,
}

/// A request that was let in.
struct Noted<'a> {
    connection: &'a Connection,
    number: RequestNumber,
    name: &'static str,
    started: Instant,
    /// The session that it closes.
    closes: Option<SessionId>,
}

/// A request with a future of its own.
pub(super) struct Task<'a> {
    noted: Noted<'a>,
    answering: Answering<'a>,
    registration: AbortRegistration,
    _end: End<'a>,
}

/// A request of the lane, under way.
pub(super) enum Begun<'a> {
    /// A command: its answer comes to the tray, or is no longer waited for at this time.
    Command(Instant),
    /// Anything else.
    Task(Task<'a>),
}

/// A command of the lane that was answered.
pub(super) enum Settled<'a> {
    /// Put this answer on the lane.
    Small(Answered),
    /// It is too large for the lane.
    Large(Task<'a>),
}

/// Works on the one request of a stream; what is large is written, what is small is left to the caller to write.
pub(super) async fn work(plane: &Plane, connection: &Connection, frame: Frame, large: Large<'_>) -> Outcome {
    let number = RequestNumber(frame.header.id);
    let propose = |noted, command, patience| {
        let submitted = plane.service.engine.submit(command, patience)?;
        Ok(Task::new(noted, Box::pin(submitted.map_ok(whole))))
    };
    match begin_with(plane, connection, frame, Arrival::now(), propose, |task| task) {
        Ok(task) => carry_out(task, large).await,
        Err(refusal) => Outcome::Small(number, Err(refusal)),
    }
}

/// Gets a request of the lane under way.
///
/// # Errors
/// The refusal that the client gets.
pub(super) fn begin<'a>(
    plane: &'a Plane,
    connection: &'a Connection,
    frame: Frame,
    arrival: Arrival,
) -> Result<Begun<'a>, Refusal> {
    let propose = |noted: Noted<'a>, command, patience| {
        let ticket = plane.service.engine.submit_to(&connection.tray, noted.number.0, command)?;
        let Noted { name, started, closes, .. } = noted;
        let until = started + patience;
        Ok((Work::Command(Asked { ticket, name, started, until, closes }), Begun::Command(until)))
    };
    begin_with(plane, connection, frame, arrival, propose, Begun::Task)
}

/// Everything up to the first wait, apart from the future, which has no room for it then.
fn begin_with<'a, T>(
    plane: &'a Plane,
    connection: &'a Connection,
    frame: Frame,
    arrival: Arrival,
    propose: impl FnOnce(Noted<'a>, Command, Duration) -> Result<(Work, T), Refusal>,
    task: impl FnOnce(Task<'a>) -> T,
) -> Result<T, Refusal> {
    let number = RequestNumber(frame.header.id);
    let (context, request) = Request::decode(&frame).inspect_err(|refusal| {
        connection.meters.count("Unknown", refusal.code);
        if is_malformed(refusal) {
            connection.count_error(plane, refusal);
        }
    })?;
    drop(frame);
    let name = request.name();
    let closes = if let Request::SessionClose(close) = &request { Some(close.session) } else { None };
    let noted = Noted { connection, number, name, started: arrival.at, closes };
    let begun = connection.in_flight.begin(number, || match call(plane, connection, &context, request, arrival)? {
        Called::Command(command, patience) => propose(noted, command, patience),
        Called::Other(answering) => {
            let (work, other) = Task::new(noted, answering);
            Ok((work, task(other)))
        }
    });
    begun
        .inspect_err(|refusal| connection.meters.count(name, refusal.code))?
        .inspect_err(|refusal| connection.meters.observe(name, arrival.at.elapsed(), Some(refusal.code)))
}

/// Takes note of the answer to a command of the lane.
pub(super) fn settle(
    connection: &Connection,
    number: RequestNumber,
    asked: Asked,
    answer: Answered,
    at: Instant,
) -> Settled<'_> {
    let Asked { name, started, closes, .. } = asked;
    let noted = Noted { connection, number, name, started, closes };
    match answer {
        Ok((stamp, reply)) if weight(&reply) > LANE_BODY_BYTES_MAX => {
            let (work, task) = Task::new(noted, Box::pin(ready(Ok(whole((stamp, reply))))));
            connection.in_flight.resume(number, work);
            Settled::Large(task)
        }
        answer => {
            noted.settle(answer.as_ref().map(|(_, reply)| Some(reply)), at);
            Settled::Small(answer)
        }
    }
}

/// Works on a request; what is large is written, what is small is left to the caller to write.
pub(super) async fn carry_out(task: Task<'_>, large: Large<'_>) -> Outcome {
    let Task { noted, answering, registration, _end } = task;
    let Noted { connection, number, name, .. } = noted;
    let answered = Abortable::new(
        async {
            let answer = answering.await;
            let reply =
                answer.as_ref().map(|answer| if let Answer::Whole(_, reply) = answer { Some(reply) } else { None });
            noted.settle(reply, Instant::now());
            let written = match answer {
                Err(refusal) => return Outcome::Small(number, Err(refusal)),
                Ok(Answer::Whole(stamp, reply)) if weight(&reply) <= LANE_BODY_BYTES_MAX => {
                    return Outcome::Small(number, Ok((stamp, reply)));
                }
                // On the heap, since it is rare.
                Ok(answer) => Box::pin(write_large(connection, number, answer, large)),
            };
            // An error: the client is gone or does not want the answer.
            if written.await.is_ok() { Outcome::Written } else { Outcome::Dropped }
        },
        registration,
    );
    match answered.await {
        Ok(outcome) => outcome,
        Err(_) => {
            connection.meters.count(name, ErrorCode::Cancelled);
            Outcome::Dropped
        }
    }
}

impl Arrival {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), wall: now() }
    }
}

impl Noted<'_> {
    /// Takes note of an answer: counts it, and the session that was opened, resumed or closed here.
    fn settle(&self, answer: Result<Option<&Reply>, &Refusal>, at: Instant) {
        match (answer, self.closes) {
            (Ok(Some(Reply::SessionOpen(open))), _) => self.connection.adopt(open.session),
            (Ok(Some(Reply::SessionClose(SessionCloseReply { .. }))), Some(session)) => {
                self.connection.release(session)
            }
            _ => {}
        }
        let took = at.saturating_duration_since(self.started);
        self.connection.meters.observe(self.name, took, answer.err().map(|refusal| refusal.code));
    }
}

impl<'a> Task<'a> {
    fn new(noted: Noted<'a>, answering: Answering<'a>) -> (Work, Self) {
        let (handle, registration) = AbortHandle::new_pair();
        let end = End { connection: noted.connection, number: noted.number };
        (Work::Task(handle), Self { noted, answering, registration, _end: end })
    }
}

/// Forgets the request whichever way it ends.
struct End<'a> {
    connection: &'a Connection,
    number: RequestNumber,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.connection.in_flight.end(self.number);
    }
}

fn call<'a>(
    plane: &'a Plane,
    connection: &'a Connection,
    context: &Context,
    request: Request,
    arrival: Arrival,
) -> Result<Called<'a>, Refusal> {
    if plane.is_draining() {
        return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is going down; another node may answer"));
    }
    plane.service.call(&connection.caller, context, request, arrival.wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<'a, F: Future>(_: impl Fn(Task<'a>, Large<'a>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_under_way_takes_less_than_a_kibibyte() {
        // Unoptimised, a future keeps a few values that it no longer needs.
        let bound = if cfg!(debug_assertions) { 1_280 } else { 1_024 };
        let size = size_of_future(carry_out);
        assert!(size < bound, "{size} bytes, allocated and moved for every request");
    }
}
