//! One function for each decoder of the protocol: what the fuzzer runs, and ordinary tests run over the corpus.
//!
//! A target must not panic on any bytes. What decodes must encode to something that decodes to the same.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use hither_protocol::RequestNumber;
use hither_protocol::codec::{Decoder, Frame, Message, decode, decode_body, encode, encode_body};
use hither_protocol::frame::{Flags, FrameTooLarge, Header};
use hither_protocol::message::*;

/// A name, which is that of the program in `fuzz_targets` and of the folder in `corpus`, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// The targets.
pub const TARGETS: &[Target] = &[
    ("frame", frame),
    ("request", request),
    ("reply", reply),
    ("control", control),
    ("watch", watch),
    ("context", context),
];

/// The cutting of a stream into frames. The first byte says how long its pieces are.
pub fn frame(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else { return };
    let whole = cut([stream].into_iter());
    let pieces = cut(stream.chunks(usize::from(size).max(1)));
    assert_eq!(whole, pieces, "a stream means the same however it is cut");
    let shared = cut_shared(stream.chunks(usize::from(size).max(1)));
    assert_eq!(whole, shared, "and whether its pieces are copied or shared");
}

fn cut_shared<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameTooLarge>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in pieces {
        let mut piece = Bytes::copy_from_slice(piece);
        loop {
            match decoder.next_frame_of(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameTooLarge>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// Requests, with the context before them.
pub fn request(data: &[u8]) {
    let Some(frame) = framed(data) else { return };
    let Ok((context, request)) = Request::decode(&frame) else { return };
    let mut out = BytesMut::new();
    request.encode(&mut out, RequestNumber(1), &context);
    assert_eq!(Request::decode(&one(&out)), Ok((context, request)));
}

/// Replies and refusals.
pub fn reply(data: &[u8]) {
    let Some(frame) = framed(data) else { return };
    let Ok(answer) = Reply::decode(&frame) else { return };
    let mut out = BytesMut::new();
    match &answer {
        Ok((stamp, reply)) => reply.encode(&mut out, RequestNumber(1), stamp, false),
        Err(refusal) => encode_refusal(&mut out, RequestNumber(1), refusal),
    }
    assert_eq!(Reply::decode(&one(&out)), Ok(answer));
}

/// The control lane.
pub fn control(data: &[u8]) {
    let Some(frame) = framed(data) else { return };
    match frame.header.op {
        op::HELLO => stable::<Hello>(&frame),
        op::WELCOME => stable::<Welcome>(&frame),
        op::GOODBYE => stable::<Goodbye>(&frame),
        op::KEEP_ALIVE => stable::<KeepAlive>(&frame),
        op::KEEP_ALIVE_REPLY => stable::<KeepAliveReply>(&frame),
        op::BEAT => stable::<Beat>(&frame),
        op::SUBSCRIBE => stable::<Subscribe>(&frame),
        op::SUBSCRIBE_REFUSED => stable::<SubscribeRefused>(&frame),
        op::CANCEL_WATCH => stable::<CancelWatch>(&frame),
        op::CANCEL_REQUEST => stable::<CancelRequest>(&frame),
        op::GO_AWAY => stable::<GoAway>(&frame),
        _ => {}
    }
}

/// The stream of a watch.
pub fn watch(data: &[u8]) {
    let Some(frame) = framed(data) else { return };
    match frame.header.op {
        op::CREATED => stable::<Created>(&frame),
        op::SNAPSHOT => stable::<SnapshotPage>(&frame),
        op::BATCH => {
            stable::<Batch>(&frame);
            batch_of_parts(&frame);
        }
        op::RESET => stable::<ResetPage>(&frame),
        op::END => stable::<End>(&frame),
        _ => {}
    }
}

/// The tagged fields before a body.
pub fn context(data: &[u8]) {
    let Ok((context, rest)) = Context::decode(&Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    context.encode(&mut out);
    out.extend_from_slice(&rest);
    assert_eq!(Context::decode(&out.freeze()), Ok((context, rest)));
}

/// The server makes batches from events that it encoded before: those must be the same bytes.
fn batch_of_parts(frame: &Frame) {
    let Ok(batch) = decode::<Batch>(frame) else { return };
    let events: Vec<Bytes> = batch
        .events
        .iter()
        .map(|event| {
            let mut out = BytesMut::new();
            encode_body(&mut out, event);
            out.freeze()
        })
        .collect();
    let parts = Batch::encode_parts(batch.from, batch.to, batch.folded, events.len() as u64, &events);
    assert_eq!(decode_body(&parts), Ok(batch));
}

fn stable<M: Message + PartialEq + Debug>(frame: &Frame) {
    let Ok(message) = decode::<M>(frame) else { return };
    let mut out = BytesMut::new();
    encode(&mut out, 1, &message);
    assert_eq!(decode::<M>(&one(&out)), Ok(message));
}

/// Op, version and flags, then the body: a frame whose length is honest.
fn framed(data: &[u8]) -> Option<Frame> {
    let (head, body) = data.split_first_chunk::<4>()?;
    let [low, high, version, flags] = *head;
    let length = u32::try_from(body.len()).ok()?;
    let op = u16::from_le_bytes([low, high]);
    let header = Header { length, op, version, flags: Flags(flags), id: 1 };
    Some(Frame { header, body: Bytes::copy_from_slice(body) })
}

fn one(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    decoder.next_frame().expect("what was encoded is no larger than what was decoded").expect("it is whole")
}
