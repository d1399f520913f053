//! One request, from its frame to the bytes of its answer, on whichever stream it came.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::{AbortRegistration, Abortable};
use hither_protocol::codec::Frame;
use hither_protocol::frame::HEADER_BYTES;
use hither_protocol::limits::{FRAME_BYTES_MAX, LANE_BODY_BYTES_MAX};
use hither_protocol::message::{Context, Reply, Request, SessionCloseReply, Stamp, TxnResult, encode_refusal};
use hither_protocol::{Entry, ErrorCode, LeaseId, Refusal, RequestNumber, SessionId, UnixMillis};
use hither_state::door::Caller;
use hither_state::{Action, Command};
use quinn::{SendStream, VarInt};
use tokio::time::timeout;

use super::connection::Connection;
use super::refusals::is_malformed;
use super::{Plane, priority};
use crate::service::{Answer, Answering, Pages};

/// How long a client may leave a large answer unread before it is given up.
const STALL_MAX: Duration = Duration::from_secs(30);
/// The stream of a large answer was given up. Not a close code: the connection goes on.
pub(super) const GIVEN_UP: VarInt = VarInt::from_u32(0x40);

/// What is left to do about a request.
#[expect(clippy::large_enum_variant, reason = "nearly every outcome is the large one, and none is kept")]
pub(super) enum Outcome {
    /// Put this answer on the lane.
    Small(RequestNumber, Result<(Stamp, Reply), Refusal>),
    /// Nothing: it was written where it belongs.
    Written,
    /// Nothing: nobody waits for it any more, or its stream broke.
    Dropped,
}

/// Where a large answer goes.
pub(super) enum Large<'a> {
    /// On a stream of its own, opened by the server.
    OwnStream,
    /// On the stream of the request, as everything else.
    Here(&'a mut SendStream),
}

/// Works on one request; what is large is written, what is small is left to the caller to write.
pub(super) async fn work(plane: &Plane, connection: &Connection, frame: Frame, large: Large<'_>) -> Outcome {
    let number = RequestNumber(frame.header.id);
    let Begun { name, started, closes, answering, registration, _end } = match begin(plane, connection, number, frame) {
        Ok(begun) => begun,
        Err(refusal) => return Outcome::Small(number, Err(refusal)),
    };
    let answered = Abortable::new(
        async {
            let answer = answering.await;
            note_session(connection, &answer, closes);
            connection.meters.observe(name, started.elapsed(), answer.as_ref().err().map(|refusal| refusal.code));
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

/// A request under way.
struct Begun<'a> {
    name: &'static str,
    started: Instant,
    /// The session that it closes.
    closes: Option<SessionId>,
    answering: Answering<'a>,
    registration: AbortRegistration,
    _end: End<'a>,
}

/// Everything up to the first wait, apart from the future, which has no room for it then.
fn begin<'a>(
    plane: &'a Plane,
    connection: &'a Connection,
    number: RequestNumber,
    frame: Frame,
) -> Result<Begun<'a>, Refusal> {
    let (context, request) = Request::decode(&frame).inspect_err(|refusal| {
        connection.meters.count("Unknown", refusal.code);
        if is_malformed(refusal) {
            connection.count_error(plane, refusal);
        }
    })?;
    drop(frame);
    let name = request.name();
    let registration =
        connection.in_flight.begin(number).inspect_err(|refusal| connection.meters.count(name, refusal.code))?;
    let end = End { connection, number };
    let started = Instant::now();
    let closes = if let Request::SessionClose(close) = &request { Some(close.session) } else { None };
    let answering = call(plane, connection, &context, request)
        .inspect_err(|refusal| connection.meters.observe(name, started.elapsed(), Some(refusal.code)))?;
    Ok(Begun { name, started, closes, answering, registration, _end: end })
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
) -> Result<Answering<'a>, Refusal> {
    if plane.is_draining() {
        return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is going down; another node may answer"));
    }
    plane.service.call(&connection.caller, context, request)
}

/// Takes note of a session that was opened, resumed or closed here.
fn note_session(connection: &Connection, answer: &Result<Answer, Refusal>, closes: Option<SessionId>) {
    match (answer, closes) {
        (Ok(Answer::Whole(_, Reply::SessionOpen(open))), _) => connection.adopt(open.session),
        (Ok(Answer::Whole(_, Reply::SessionClose(SessionCloseReply { .. }))), Some(session)) => {
            connection.release(session);
        }
        _ => {}
    }
}

async fn write_large(
    connection: &Connection,
    number: RequestNumber,
    answer: Answer,
    large: Large<'_>,
) -> Result<(), quinn::WriteError> {
    // What waits here holds what the state holds anyway; what is past it holds a copy.
    let Ok(_permit) = connection.bulk.acquire().await else { return Err(quinn::WriteError::ClosedStream) };
    match large {
        Large::Here(send) => write_answer(send, number, answer).await,
        Large::OwnStream => {
            let send = connection.quic.open_uni().await?;
            let _ = send.set_priority(priority::BULK);
            let mut unfinished = ResetOnDrop { send, is_whole: false };
            write_answer(&mut unfinished.send, number, answer).await?;
            unfinished.is_whole = true;
            Ok(())
        }
    }
}

/// A stream that is dropped half-written must not look finished.
struct ResetOnDrop {
    send: SendStream,
    is_whole: bool,
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        let _ = if self.is_whole { self.send.finish() } else { self.send.reset(GIVEN_UP) };
    }
}

async fn write_answer(send: &mut SendStream, number: RequestNumber, answer: Answer) -> Result<(), quinn::WriteError> {
    match answer {
        Answer::Whole(stamp, reply) => write_frame(send, encode_answer(number, &Ok((stamp, reply)), false)).await,
        Answer::Pages(pages) => write_pages(send, number, pages).await,
    }
}

async fn write_pages(
    send: &mut SendStream,
    number: RequestNumber,
    mut pages: Box<Pages>,
) -> Result<(), quinn::WriteError> {
    while let Some((reply, more)) = pages.next().await {
        let answer = Ok((pages.stamp(), Reply::Range(reply)));
        write_frame(send, encode_answer(number, &answer, more)).await?;
    }
    Ok(())
}

async fn write_frame(send: &mut SendStream, frame: Bytes) -> Result<(), quinn::WriteError> {
    match timeout(STALL_MAX, send.write_chunk(frame)).await {
        Ok(written) => written,
        Err(_) => {
            let _ = send.reset(GIVEN_UP);
            Err(quinn::WriteError::ClosedStream)
        }
    }
}

/// Appends the frame of a small answer.
pub(super) fn encode_small(out: &mut BytesMut, number: RequestNumber, answer: &Result<(Stamp, Reply), Refusal>) {
    match answer {
        Ok((stamp, reply)) => reply.encode(out, number, stamp, false),
        Err(refusal) => encode_refusal(out, number, refusal),
    }
}

fn encode_answer(number: RequestNumber, answer: &Result<(Stamp, Reply), Refusal>, more: bool) -> Bytes {
    let mut out = BytesMut::new();
    match answer {
        Ok((stamp, reply)) => reply.encode(&mut out, number, stamp, more),
        Err(refusal) => encode_refusal(&mut out, number, refusal),
    }
    if out.len() > FRAME_BYTES_MAX + HEADER_BYTES {
        // The state bounds what it answers; a list that has no pages might yet grow beyond a frame.
        out.clear();
        let refusal = Refusal::unknown(ErrorCode::Internal, "the answer does not fit a frame");
        encode_refusal(&mut out, number, &refusal);
    }
    out.freeze()
}

/// The command that ends a session, as its client would ask for it.
pub(super) fn session_close(caller: &Caller, session: SessionId, at: UnixMillis) -> Command {
    Command {
        namespace: caller.namespace.clone(),
        principal: caller.name.clone(),
        retry: None,
        at,
        action: Action::SessionClose { session },
    }
}

/// About how many bytes a reply has on the wire; never fewer than what makes it large.
fn weight(reply: &Reply) -> usize {
    const OVERHEAD: usize = 64;
    let entry = |entry: &Entry| entry.key.as_bytes().len() + entry.value.len() + OVERHEAD;
    let entries = |entries: &[Entry]| entries.iter().map(entry).sum::<usize>();
    let optional = |found: &Option<Entry>| found.as_ref().map_or(0, entry);
    OVERHEAD
        + match reply {
            Reply::Get(get) => optional(&get.entry),
            Reply::Put(put) => optional(&put.previous),
            Reply::Range(range) => entries(&range.entries),
            Reply::Delete(delete) => entries(&delete.previous),
            Reply::Txn(txn) => txn
                .results
                .iter()
                .map(|result| {
                    OVERHEAD
                        + match result {
                            TxnResult::Get(get) => optional(&get.entry),
                            TxnResult::Put(put) => optional(&put.previous),
                            TxnResult::Range(range) => entries(&range.entries),
                            TxnResult::Delete(delete) => entries(&delete.previous),
                        }
                })
                .sum(),
            Reply::LeaseInfo(info) => info.keys.iter().map(|key| key.as_bytes().len() + 4).sum(),
            Reply::LeaseList(list) => list.leases.iter().map(|lease| lease.owner.len() + 2 * OVERHEAD).sum(),
            Reply::LeaseCheck(checked) => checked.gone.len() * size_of::<LeaseId>(),
            Reply::ClientList(list) => list.clients.iter().map(|client| client.name.len() + OVERHEAD).sum(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<'a, F: Future>(_: impl Fn(&'a Plane, &'a Connection, Frame, Large<'a>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_under_way_takes_less_than_a_kibibyte() {
        // Unoptimised, a future keeps a few values that it no longer needs.
        let bound = if cfg!(debug_assertions) { 1_280 } else { 1_024 };
        let size = size_of_future(work);
        assert!(size < bound, "{size} bytes, allocated and moved for every request");
    }
}
