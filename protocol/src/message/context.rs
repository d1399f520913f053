//! What travels beside a request: tagged fields, so that more can be added.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, Refusal};
use crate::{SequenceNumber, SessionId};

const TAG_DEADLINE: u8 = 1;
const TAG_TRACE: u8 = 2;
const TAG_RETRY: u8 = 3;

/// Most bytes of fields in one frame: it is read before anything is known about the request.
const CONTEXT_BYTES_MAX: usize = 1024;
/// Longest trace context that is passed on: a longer one is none.
const TRACE_BYTES_MAX: usize = CONTEXT_BYTES_MAX / 2;

/// The tagged fields before the body of a request. A field that this version does not know is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Milliseconds the caller still waits, counted from when the server read the frame.
    pub deadline_ms: Option<u64>,
    /// W3C trace context, as its sender wrote it.
    pub trace: Option<Bytes>,
    /// Names a mutation, so that its retry is recognised.
    pub retry: Option<RetryToken>,
}

/// Names one mutation of one session: a retry with the same token, on any node, returns the first outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryToken {
    /// The session.
    pub session: SessionId,
    /// The number of the mutation in it, from 1.
    pub sequence: SequenceNumber,
    /// Every number up to this one was answered; their outcomes may be forgotten.
    pub acknowledged: SequenceNumber,
}

impl Context {
    /// Whether no field is set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.deadline_ms.is_none() && self.trace.is_none() && self.retry.is_none()
    }

    /// Appends the block: its length (u16), then `tag u8, length u16, bytes` for each field.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u16_le(0);
        if let Some(deadline_ms) = self.deadline_ms {
            put_field(out, TAG_DEADLINE, &deadline_ms.to_le_bytes());
        }
        if let Some(trace) = self.trace.as_ref().filter(|trace| trace.len() <= TRACE_BYTES_MAX) {
            put_field(out, TAG_TRACE, trace);
        }
        if let Some(retry) = &self.retry {
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&retry.session.0.to_le_bytes());
            bytes[8..16].copy_from_slice(&retry.sequence.0.to_le_bytes());
            bytes[16..].copy_from_slice(&retry.acknowledged.0.to_le_bytes());
            put_field(out, TAG_RETRY, &bytes);
        }
        let length = u16::try_from(out.len() - start - 2).unwrap_or(u16::MAX);
        out[start..start + 2].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads the block; returns it and what follows.
    ///
    /// # Errors
    /// `InvalidFrame`.
    pub fn decode(body: &Bytes) -> Result<(Self, Bytes), Refusal> {
        let invalid = || Refusal::new(ErrorCode::InvalidFrame, "the fields before the body do not decode");
        let mut rest = body.clone();
        let length = usize::from(rest.try_get_u16_le().map_err(|_| invalid())?);
        if length > rest.len() || length > CONTEXT_BYTES_MAX {
            return Err(invalid());
        }
        let mut fields = rest.split_to(length);
        let mut context = Self::default();
        while fields.has_remaining() {
            let tag = fields.get_u8();
            let length = usize::from(fields.try_get_u16_le().map_err(|_| invalid())?);
            if length > fields.len() {
                return Err(invalid());
            }
            let mut field = fields.split_to(length);
            match tag {
                TAG_DEADLINE => context.deadline_ms = Some(field.try_get_u64_le().map_err(|_| invalid())?),
                TAG_TRACE => context.trace = Some(field).filter(|trace| trace.len() <= TRACE_BYTES_MAX),
                TAG_RETRY => {
                    let mut next = || field.try_get_u64_le().map_err(|_| invalid());
                    context.retry = Some(RetryToken {
                        session: SessionId(next()?),
                        sequence: SequenceNumber(next()?),
                        acknowledged: SequenceNumber(next()?),
                    });
                }
                _ => {}
            }
        }
        Ok((context, rest))
    }
}

fn put_field(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    out.put_u8(tag);
    out.put_u16_le(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_skipped() {
        let mut out = BytesMut::new();
        out.put_u16_le(6 + 11);
        put_field(&mut out, 200, b"new");
        put_field(&mut out, TAG_DEADLINE, &7u64.to_le_bytes());
        out.put_slice(b"body");
        let (context, body) = Context::decode(&out.freeze()).expect("decodes");
        assert_eq!(context, Context { deadline_ms: Some(7), ..Context::default() });
        assert_eq!(&body[..], b"body");
    }

    #[test]
    fn a_field_that_lies_about_its_length_is_refused() {
        for bytes in [&[9, 0, 1][..], &[3, 0, 1, 255, 255], &[4, 0, 1, 1, 0, 7], &[1]] {
            let body = Bytes::copy_from_slice(bytes);
            assert_eq!(Context::decode(&body).map_err(|refusal| refusal.code), Err(ErrorCode::InvalidFrame));
        }
    }
}
