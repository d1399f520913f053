//! The bytes of an answer, on whichever stream they go.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hither_protocol::frame::HEADER_BYTES;
use hither_protocol::limits::FRAME_BYTES_MAX;
use hither_protocol::message::{Reply, Stamp, TxnResult, encode_refusal};
use hither_protocol::{Entry, ErrorCode, LeaseId, Refusal, RequestNumber, SessionId, UnixMillis};
use hither_state::door::Caller;
use hither_state::{Action, Command};
use quinn::{SendStream, VarInt};
use tokio::time::timeout;

use super::connection::Connection;
use super::priority;
use crate::engine::Answered;
use crate::service::{Answer, Pages};

/// How long a client may leave a large answer unread before it is given up.
const STALL_MAX: Duration = Duration::from_secs(30);
/// The longest that a large answer may take. A list pins the state as it was when it began, and what changes meanwhile is kept
/// twice.
const AGE_MAX: Duration = Duration::from_secs(600);
/// The stream of a large answer was given up. Not a close code: the connection goes on.
pub(super) const GIVEN_UP: VarInt = VarInt::from_u32(0x40);

/// Where a large answer goes.
pub(super) enum Large<'a> {
    /// On a stream of its own, opened by the server.
    OwnStream,
    /// On the stream of the request, as everything else.
    Here(&'a mut SendStream),
}

/// Writes an answer that is not to be written with others.
///
/// # Errors
/// The client is gone or does not want it.
pub(super) async fn write_large(
    connection: &Connection,
    number: RequestNumber,
    answer: Answer,
    large: Large<'_>,
) -> Result<(), quinn::WriteError> {
    let given_up = Err(quinn::WriteError::ClosedStream);
    match large {
        Large::Here(send) => {
            let write = in_turn(connection, write_answer(&mut *send, number, answer));
            timeout(AGE_MAX, write).await.unwrap_or_else(|_| {
                let _ = send.reset(GIVEN_UP);
                given_up
            })
        }
        Large::OwnStream => {
            let write = in_turn(connection, write_apart(connection, number, answer));
            timeout(AGE_MAX, write).await.unwrap_or(given_up)
        }
    }
}

async fn in_turn(
    connection: &Connection,
    write: impl Future<Output = Result<(), quinn::WriteError>>,
) -> Result<(), quinn::WriteError> {
    // What waits here holds what the state holds anyway; what is past it holds a copy.
    let Ok(_permit) = connection.bulk.acquire().await else { return Err(quinn::WriteError::ClosedStream) };
    write.await
}

async fn write_apart(connection: &Connection, number: RequestNumber, answer: Answer) -> Result<(), quinn::WriteError> {
    // A client may have all its streams in use, or say that it takes none.
    let opened = timeout(STALL_MAX, connection.quic.open_uni()).await;
    let send = opened.map_err(|_| quinn::WriteError::ClosedStream)??;
    let _ = send.set_priority(priority::BULK);
    let mut unfinished = ResetOnDrop { send, is_whole: false };
    write_answer(&mut unfinished.send, number, answer).await?;
    unfinished.is_whole = true;
    Ok(())
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
pub(super) fn encode_small(out: &mut BytesMut, number: RequestNumber, answer: &Answered) {
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
pub(super) fn weight(reply: &Reply) -> usize {
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
