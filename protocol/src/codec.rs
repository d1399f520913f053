//! Frames out of a byte stream, and into one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ErrorCode, Refusal};
use crate::frame::{Flags, FrameTooLarge, HEADER_BYTES, Header};
use crate::message::Context;

/// A frame off the wire: its header and its undecoded body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// The body: as long as the header said.
    pub body: Bytes,
}

/// Cuts a byte stream into frames, however its pieces fall.
///
/// It holds at most one incomplete frame beyond what was pushed, and never allocates by an announced length.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole frame; none until more is pushed.
    ///
    /// # Errors
    /// [`FrameTooLarge`]: the stream cannot go on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameTooLarge> {
        let Some(bytes) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(bytes)?;
        let length = header.length as usize;
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(Frame { header, body: self.buffer.split_to(length).freeze() }))
    }

    /// The next whole frame of what was pushed and of `piece`, which goes on after it; none once the rest of `piece` was
    /// taken. A frame that lies within `piece` is a part of it and not a copy: it holds all of its memory.
    ///
    /// # Errors
    /// [`FrameTooLarge`]: the stream cannot go on.
    pub fn next_frame_of(&mut self, piece: &mut Bytes) -> Result<Option<Frame>, FrameTooLarge> {
        if self.buffer.is_empty() {
            if let Some(bytes) = piece.first_chunk::<HEADER_BYTES>() {
                let header = Header::decode(bytes)?;
                let length = header.length as usize;
                if piece.len() >= HEADER_BYTES + length {
                    piece.advance(HEADER_BYTES);
                    return Ok(Some(Frame { header, body: piece.split_to(length) }));
                }
            } else if piece.is_empty() {
                // Nothing of what was held is held on to.
                self.buffer = BytesMut::new();
                return Ok(None);
            }
        }
        self.buffer.extend_from_slice(piece);
        piece.clear();
        self.next_frame()
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }
}

/// A message that is the body of a frame: one frozen type per (op, version).
pub trait Message: Serialize + DeserializeOwned {
    /// Its op.
    const OP: u16;
    /// Its version.
    const VERSION: u8 = 1;
}

/// Appends a frame with `message` as its body.
pub fn encode<M: Message>(out: &mut BytesMut, id: u64, message: &M) {
    encode_parts(out, M::OP, M::VERSION, Flags::default(), id, None, message);
}

/// Appends a frame with a context before the body.
pub fn encode_with<M: Message>(out: &mut BytesMut, id: u64, context: &Context, message: &M) {
    let context = (!context.is_empty()).then_some(context);
    encode_parts(out, M::OP, M::VERSION, Flags::default(), id, context, message);
}

/// Appends a frame, every part named.
pub fn encode_parts<B: Serialize>(
    out: &mut BytesMut,
    op: u16,
    version: u8,
    flags: Flags,
    id: u64,
    context: Option<&Context>,
    body: &B,
) {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    let mut flags = flags;
    if let Some(context) = context {
        flags = flags.with(Flags::CONTEXT);
        context.encode(out);
    }
    encode_body(out, body);
    let length = out.len() - start - HEADER_BYTES;
    // Bodies are bounded where they are made; one over 4 GiB cannot exist in 2 MiB frames.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let header = Header { length, op, version, flags, id };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
}

/// Appends the postcard encoding of `body`.
///
/// # Panics
/// If a type's own `Serialize` fails; the types of this crate cannot.
pub fn encode_body<B: Serialize>(out: &mut BytesMut, body: &B) {
    struct Tail<'a>(&'a mut BytesMut);
    impl postcard::ser_flavors::Flavor for Tail<'_> {
        type Output = ();

        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.put_u8(byte);
            Ok(())
        }

        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            // Most of what comes is a small number.
            match bytes {
                [byte] => self.0.put_u8(*byte),
                _ => self.0.extend_from_slice(bytes),
            }
            Ok(())
        }

        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }
    // Growing memory does not fail, and no type here has a map of unknown length, which is all postcard refuses.
    #[expect(clippy::expect_used, reason = "see the line above")]
    postcard::serialize_with_flavor(body, Tail(out)).expect("a message of the protocol serialises");
}

/// Decodes what a body begins with; returns the rest too.
///
/// # Errors
/// `InvalidFrame` for bytes that do not begin with a `B`.
pub fn decode_first<B: DeserializeOwned>(body: &[u8]) -> Result<(B, &[u8]), Refusal> {
    postcard::take_from_bytes(body)
        .map_err(|error| Refusal::new(ErrorCode::InvalidFrame, format!("the body does not decode: {error}")))
}

/// Decodes a whole body.
///
/// # Errors
/// `InvalidFrame` for bytes that are not a `B`, `TrailingBytes` for more than one.
pub fn decode_body<B: DeserializeOwned>(body: &[u8]) -> Result<B, Refusal> {
    let (message, rest) = decode_first(body)?;
    if rest.is_empty() {
        return Ok(message);
    }
    Err(Refusal::new(ErrorCode::TrailingBytes, format!("{} bytes follow the message", rest.len())))
}

/// Decodes a frame that should carry an `M`.
///
/// # Errors
/// `UnknownOperation`, `UnsupportedVersion`, or those of [`decode_body`].
pub fn decode<M: Message>(frame: &Frame) -> Result<M, Refusal> {
    if frame.header.op != M::OP {
        return Err(unknown_operation(frame.header.op));
    }
    check_version(frame.header, M::VERSION)?;
    let (_, body) = split_context(frame)?;
    decode_body(&body)
}

/// The context of a frame, if it has one, and the body after it.
///
/// # Errors
/// `InvalidFrame`.
pub fn split_context(frame: &Frame) -> Result<(Context, Bytes), Refusal> {
    if !frame.header.flags.has(Flags::CONTEXT) {
        return Ok((Context::default(), frame.body.clone()));
    }
    Context::decode(&frame.body)
}

/// The refusal of an op that nobody here knows.
#[must_use]
pub fn unknown_operation(op: u16) -> Refusal {
    Refusal::new(ErrorCode::UnknownOperation, format!("operation {op:#06x} is not known here; update the server"))
}

/// Whether a frame has the version that this side speaks.
///
/// # Errors
/// `UnsupportedVersion`.
pub fn check_version(header: Header, version: u8) -> Result<(), Refusal> {
    if header.version == version {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::UnsupportedVersion,
        format!("version {} of operation {:#06x} is not spoken here, version {version} is", header.version, header.op),
    ))
}
