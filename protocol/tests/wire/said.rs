//! Anything that either side may say, as one type: what the tests below go through.

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{Decoder, Frame, Message, decode, encode_parts, unknown_operation};
use hither_protocol::frame::Flags;
use hither_protocol::message::*;
use hither_protocol::{Refusal, RequestNumber};

macro_rules! said {
    ($($plain:ident,)+) => {
        /// A message with what stands beside it in its frame, the id aside.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Said {
            $($plain($plain),)+
            Request(Context, Request),
            Reply(Stamp, Reply),
            Refused(Refusal),
        }

        impl Said {
            /// The message in a frame, whichever it is.
            pub(crate) fn decode(frame: &Frame) -> Result<Self, Refusal> {
                match frame.header.op {
                    $($plain::OP => decode::<$plain>(frame).map(Self::$plain),)+
                    op if op & op::REPLY != 0 => Ok(match Reply::decode(frame)? {
                        Ok((stamp, reply)) => Self::Reply(stamp, reply),
                        Err(refusal) => Self::Refused(refusal),
                    }),
                    op if op != 0 => Request::decode(frame).map(|(context, request)| Self::Request(context, request)),
                    op => Err(unknown_operation(op)),
                }
            }

            /// Its frame.
            pub(crate) fn encode(&self, id: u64, more: bool) -> Bytes {
                let mut out = BytesMut::new();
                let flags = if more { Flags::MORE } else { Flags::default() };
                match self {
                    $(Self::$plain(message) => {
                        encode_parts(&mut out, $plain::OP, $plain::VERSION, flags, id, None, message);
                    })+
                    Self::Request(context, request) => request.encode(&mut out, RequestNumber(id), context),
                    Self::Reply(stamp, reply) => reply.encode(&mut out, RequestNumber(id), stamp, more),
                    Self::Refused(refusal) => encode_refusal(&mut out, RequestNumber(id), refusal),
                }
                out.freeze()
            }
        }

        $(impl From<$plain> for Said {
            fn from(message: $plain) -> Self {
                Self::$plain(message)
            }
        })+
    };
}

said! {
    Hello, Welcome, Goodbye, KeepAlive, KeepAliveReply, Beat, Subscribe, SubscribeRefused, CancelWatch, CancelRequest,
    GoAway, Created, SnapshotPage, Batch, ResetPage, End,
}

/// The frames in `bytes`, which must end with one.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    let frames = std::iter::from_fn(|| decoder.next_frame().expect("no frame is over the limit")).collect();
    assert_eq!(decoder.pending_bytes(), 0, "the bytes end in the middle of a frame");
    frames
}

/// The frame that `bytes` are.
pub(crate) fn frame(bytes: &[u8]) -> Frame {
    let mut frames = frames(bytes);
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}
