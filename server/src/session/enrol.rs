//! Enrolment: the one conversation with somebody who has no identity yet. One stream, one request, one answer.

use bytes::BytesMut;
use hither_protocol::codec::{Decoder, Frame};
use hither_protocol::error::CloseCode;
use hither_protocol::frame::HEADER_BYTES;
use hither_protocol::message::{Reply, Request, encode_refusal};
use hither_protocol::{ErrorCode, Refusal, RequestNumber};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::Plane;
use super::accept::close;

/// A secret and a signing request are far smaller than this.
const BYTES_MAX: usize = 16 * 1024;

pub(super) async fn serve(plane: &Plane, quic: quinn::Connection) {
    let remote = quic.remote_address();
    let asked = timeout(plane.clients.hello_timeout, read(&quic)).await;
    let Ok(Some((mut send, frame))) = asked else {
        plane.complaints.log(remote, &"an enrolment without a request");
        return close(&quic, CloseCode::HelloTimeout);
    };
    let mut out = BytesMut::new();
    let number = RequestNumber(frame.as_ref().map_or(0, |frame| frame.header.id));
    let answer = match frame.and_then(|frame| Request::decode(&frame)) {
        Ok((_, Request::Enrol(_))) if plane.is_draining() => {
            Err(Refusal::new(ErrorCode::ShuttingDown, "the server is going down"))
        }
        Ok((_, Request::Enrol(enrol))) => plane.service.book.enrol(&enrol, plane.service.endpoints()).await,
        Ok(_) => Err(Refusal::new(ErrorCode::Unauthenticated, "without an identity there is nothing to ask but one")),
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok((stamp, reply)) => Reply::Enrol(reply).encode(&mut out, number, &stamp, false),
        Err(refusal) => {
            plane.complaints.log(remote, &format_args!("an enrolment was refused: {refusal}"));
            encode_refusal(&mut out, number, &refusal);
        }
    }
    let say = async {
        send.write_all(&out).await.ok()?;
        send.finish().ok()?;
        send.stopped().await.ok()
    };
    let _ = timeout(plane.clients.hello_timeout, say).await;
    close(&quic, CloseCode::Goodbye);
}

async fn read(quic: &quinn::Connection) -> Option<(SendStream, Result<Frame, Refusal>)> {
    let (send, mut recv) = quic.accept_bi().await.ok()?;
    Some((send, read_frame(&mut recv).await))
}

async fn read_frame(recv: &mut RecvStream) -> Result<Frame, Refusal> {
    let mut decoder = Decoder::default();
    let too_large = |detail: String| Refusal::new(ErrorCode::FrameTooLarge, detail);
    loop {
        if let Some(frame) = decoder.next_frame().map_err(|error| too_large(error.to_string()))? {
            return Ok(frame);
        }
        if decoder.pending_bytes() > BYTES_MAX + HEADER_BYTES {
            return Err(too_large(format!("an enrolment has at most {BYTES_MAX} bytes")));
        }
        match recv.read_chunk(BYTES_MAX, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            _ => return Err(Refusal::new(ErrorCode::InvalidFrame, "the stream ended within a frame")),
        }
    }
}
