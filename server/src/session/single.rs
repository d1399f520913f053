//! A stream that carries one request, whose body is large, and its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hither_protocol::codec::{Decoder, Frame};
use hither_protocol::error::CloseCode;
use hither_protocol::message::encode_refusal;
use hither_protocol::{ErrorCode, Refusal, RequestNumber};
use quinn::{ReadError, RecvStream, SendStream};
use tokio::time::timeout;

use super::answer::{GIVEN_UP, Large, encode_small};
use super::connection::Connection;
use super::refusals::refuse_and_close;
use super::work::{Outcome, work};
use super::{Plane, priority};

/// How long a request may take to arrive: 2 MiB over the slowest link that is of any use.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 256 * 1024;

/// Why there is no request.
enum Failed {
    /// The stream or the connection is gone.
    Gone,
    /// The bytes are no request.
    Refused(Refusal),
    /// The bytes cannot be trusted at all.
    TooLarge(Refusal),
}

pub(super) async fn serve(plane: Arc<Plane>, connection: Arc<Connection>, mut send: SendStream, mut recv: RecvStream) {
    let _ = send.set_priority(priority::BULK);
    let arrived = {
        // Requests of this kind are read a few at a time; the rest waits at the client.
        let Ok(_permit) = connection.bulk.acquire().await else { return };
        timeout(ARRIVAL_MAX, read(&mut recv)).await
    };
    let mut out = BytesMut::new();
    match arrived {
        Ok(Ok(frame)) => match work(&plane, &connection, frame, Large::Here(&mut send)).await {
            Outcome::Small(number, answer) => encode_small(&mut out, number, &answer),
            Outcome::Written => {}
            Outcome::Dropped => {
                let _ = send.reset(GIVEN_UP);
                return;
            }
        },
        Ok(Err(Failed::Refused(refusal))) => {
            connection.count_error(&plane, &refusal);
            encode_refusal(&mut out, RequestNumber(0), &refusal);
        }
        Ok(Err(Failed::TooLarge(refusal))) => {
            connection.count_error(&plane, &refusal);
            let code = CloseCode::FrameTooLarge;
            return refuse_and_close(&connection.quic, send, RequestNumber(0), &refusal, code).await;
        }
        Ok(Err(Failed::Gone)) => {
            let refusal = Refusal::new(ErrorCode::InvalidFrame, "a stream was given up within a frame");
            return connection.count_error(&plane, &refusal);
        }
        Err(_) => {
            let refusal = Refusal::new(ErrorCode::InvalidFrame, "a request took too long to arrive");
            connection.count_error(&plane, &refusal);
            let _ = (recv.stop(GIVEN_UP), send.reset(GIVEN_UP));
            return;
        }
    }
    if send.write_chunk(out.freeze()).await.is_ok() {
        let _ = send.finish();
    }
}

async fn read(recv: &mut RecvStream) -> Result<Frame, Failed> {
    let mut decoder = Decoder::default();
    loop {
        let too_large = |error: hither_protocol::frame::FrameTooLarge| {
            Failed::TooLarge(Refusal::new(ErrorCode::FrameTooLarge, error.to_string()))
        };
        if let Some(frame) = decoder.next_frame().map_err(too_large)? {
            return match decoder.pending_bytes() {
                0 => Ok(frame),
                bytes => Err(Failed::Refused(Refusal::new(
                    ErrorCode::TrailingBytes,
                    format!("{bytes} bytes follow the request of this stream"),
                ))),
            };
        }
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) => {
                let detail = "the stream ended within a frame";
                return Err(Failed::Refused(Refusal::new(ErrorCode::InvalidFrame, detail)));
            }
            Err(ReadError::Reset(_)) => return Err(Failed::Gone),
            Err(_) => return Err(Failed::Gone),
        }
    }
}
