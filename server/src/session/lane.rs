//! The request lane: many requests at once over one stream, answered as they are done, in as few writes as possible.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hither_protocol::codec::Decoder;
use hither_protocol::error::CloseCode;
use hither_protocol::message::encode_refusal;
use hither_protocol::{ErrorCode, Refusal, RequestNumber};
use quinn::{RecvStream, SendStream};

use super::answer::{Large, encode_small};
use super::commands::Commands;
use super::connection::Connection;
use super::refusals::refuse_and_close;
use super::work::{Arrival, Begun, Outcome, Settled, begin, carry_out, settle};
use super::{Plane, priority};

/// Bytes taken off the stream at once: as many as its window.
const READ_BYTES: usize = 256 * 1024;
/// About what the answer to a write takes, and for how many of them there is room in one piece.
const ANSWER_BYTES: usize = 64;
const ANSWERS_AT_ONCE: usize = 128;
/// Bytes of answers after which they are written, though more are ready.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves the lane until either side ends it.
pub(super) async fn serve(plane: Arc<Plane>, connection: Arc<Connection>, send: SendStream, recv: RecvStream) {
    let _ = send.set_priority(priority::REQUESTS);
    if let Some(send) = answer(&plane, &connection, send, recv).await {
        let _ = send.stopped().await;
    }
    connection.lane.is_open.store(false, Ordering::Relaxed);
    connection.lane.reached.notify_one();
}

/// Answers what comes; the finished stream, if it ended in good order.
async fn answer(
    plane: &Arc<Plane>,
    connection: &Arc<Connection>,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Option<SendStream> {
    let mut decoder = Decoder::default();
    let mut commands = Commands::new(connection);
    let mut working = FuturesUnordered::new();
    let mut out = BytesMut::new();
    let mut is_open = true;
    let in_flight_max = plane.clients.requests_in_flight_max;
    loop {
        let arrival = Arrival::now();
        // What stands in the decoder beyond the bound waits there, and what is not in it yet waits at the client.
        while out.len() < WRITE_BYTES && commands.len() + working.len() < in_flight_max {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    let number = RequestNumber(frame.header.id);
                    match begin(plane, connection, frame, arrival) {
                        Ok(Begun::Command(until)) => commands.note(until),
                        Ok(Begun::Task(task)) => working.push(carry_out(task, Large::OwnStream)),
                        Err(refusal) => encode_small(&mut out, number, &Err(refusal)),
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let refusal = Refusal::new(ErrorCode::FrameTooLarge, error.to_string());
                    connection.count_error(plane, &refusal);
                    let code = CloseCode::FrameTooLarge;
                    refuse_and_close(&connection.quic, send, RequestNumber(0), &refusal, code).await;
                    return None;
                }
            }
        }
        // Whatever is done by now goes out together.
        while out.len() < WRITE_BYTES
            && let Some((number, asked, answer)) = commands.next_answered(arrival.at)
        {
            match settle(connection, number, asked, answer, arrival.at) {
                Settled::Small(answer) => encode(&mut out, Outcome::Small(number, answer), commands.len()),
                Settled::Large(task) => working.push(carry_out(task, Large::OwnStream)),
            }
        }
        let mut has_more_room = false;
        while out.len() < WRITE_BYTES {
            let Some(Some(outcome)) = working.next().now_or_never() else { break };
            has_more_room = true;
            encode(&mut out, outcome, working.len());
        }
        if !out.is_empty() {
            send.write_chunk(out.split().freeze()).await.ok()?;
            continue;
        }
        if has_more_room {
            // For what stands in the decoder.
            continue;
        }
        if !is_open && commands.len() + working.len() == 0 {
            let _ = send.finish();
            return Some(send);
        }
        let has_room = commands.len() + working.len() < in_flight_max;
        tokio::select! {
            () = commands.stirred() => {}
            Some(outcome) = working.next(), if !working.is_empty() => encode(&mut out, outcome, working.len()),
            chunk = recv.read_chunk(READ_BYTES, true), if is_open && has_room => match chunk {
                Ok(Some(chunk)) => decoder.push(&chunk.bytes),
                Ok(None) => {
                    is_open = false;
                    if decoder.pending_bytes() > 0 {
                        let refusal = Refusal::new(ErrorCode::InvalidFrame, "the lane ended within a frame");
                        connection.count_error(plane, &refusal);
                        encode_refusal(&mut out, RequestNumber(0), &refusal);
                    }
                }
                Err(_) => return None,
            },
            () = connection.lane.wanted.notified() => is_open = false,
        }
    }
}

/// Appends an answer, the first of those of `more` requests that may go out with it.
fn encode(out: &mut BytesMut, outcome: Outcome, more: usize) {
    if let Outcome::Small(number, answer) = outcome {
        if out.is_empty() {
            out.reserve(ANSWER_BYTES * (1 + more).min(ANSWERS_AT_ONCE));
        }
        encode_small(out, number, &answer);
    }
}
