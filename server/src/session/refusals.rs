//! What happens to bad input: an answer with a number, a line in the log now and then, and at some point the end.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hither_protocol::error::CloseCode;
use hither_protocol::message::encode_refusal;
use hither_protocol::{ErrorCode, Refusal, RequestNumber};
use parking_lot::Mutex;
use quinn::SendStream;
use tokio::time::timeout;

use super::accept::close;

/// Lines about bad input in one second; the rest is counted and said in one line.
const LINES_PER_SECOND: u32 = 5;
/// How long the last words on a stream may take to arrive before the connection is closed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Says what was wrong with input, but not so often that the log becomes the problem. Never a byte of the input itself.
#[derive(Debug)]
pub(crate) struct Complaints {
    second: Mutex<Second>,
}

#[derive(Debug)]
struct Second {
    began: Instant,
    lines: u32,
    unsaid: u64,
}

impl Default for Complaints {
    fn default() -> Self {
        Self { second: Mutex::new(Second { began: Instant::now(), lines: 0, unsaid: 0 }) }
    }
}

impl Complaints {
    pub(super) fn log(&self, remote: SocketAddr, what: &dyn Display) {
        if let Some(unsaid) = self.may_speak(Instant::now()) {
            if unsaid > 0 {
                tracing::warn!(unsaid, "more bad input came than is worth a line each");
            }
            tracing::warn!(%remote, "{what}");
        }
    }

    /// Whether there may be a line now, and how many there were not before it.
    fn may_speak(&self, now: Instant) -> Option<u64> {
        let mut second = self.second.lock();
        if now.duration_since(second.began) >= Duration::from_secs(1) {
            second.began = now;
            second.lines = 0;
        }
        if second.lines == LINES_PER_SECOND {
            second.unsaid += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.unsaid))
    }
}

/// Says why on a stream, waits a moment for it to arrive, and closes the connection.
pub(super) async fn refuse_and_close(
    quic: &quinn::Connection,
    mut send: SendStream,
    number: RequestNumber,
    refusal: &Refusal,
    code: CloseCode,
) {
    let mut out = BytesMut::new();
    encode_refusal(&mut out, number, refusal);
    let say = async {
        send.write_all(&out).await.ok()?;
        send.finish().ok()?;
        send.stopped().await.ok()
    };
    let _ = timeout(LAST_WORDS, say).await;
    close(quic, code);
}

/// Whether a refusal says that the input broke the rules of the wire, not that the request could not be granted.
pub(super) fn is_malformed(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        ErrorCode::InvalidFrame
            | ErrorCode::UnknownOperation
            | ErrorCode::UnsupportedVersion
            | ErrorCode::FrameTooLarge
            | ErrorCode::TrailingBytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_bad_input_is_one_line_and_a_count() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let said = (0..1_000).filter(|_| complaints.may_speak(start).is_some()).count();
        assert_eq!(said, LINES_PER_SECOND as usize);
        assert_eq!(complaints.may_speak(start + Duration::from_secs(2)), Some(1_000 - u64::from(LINES_PER_SECOND)));
    }
}
