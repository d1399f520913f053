//! What is said arrives as it was said, however the stream is cut.

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{Decoder, encode_body};
use hither_protocol::message::{Batch, Context, op};
use hither_protocol::{RequestNumber, Revision};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::said::{Said, frame, frames};
use crate::strategies::{context, event, said};

proptest! {
    #[test]
    fn messages_survive_a_stream_cut_anywhere(
        messages in vec((said(), any::<u64>()), 1..5),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut stream = BytesMut::new();
        for (said, id) in &messages {
            stream.extend_from_slice(&said.encode(*id, false));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();

        let mut decoder = Decoder::default();
        let mut arrived = Vec::new();
        for piece in cuts.windows(2) {
            decoder.push(&stream[piece[0]..piece[1]]);
            while let Some(frame) = decoder.next_frame().expect("no frame is over the limit") {
                arrived.push((Said::decode(&frame).expect("it was encoded here"), frame.header.id));
            }
        }
        prop_assert_eq!(decoder.pending_bytes(), 0);
        prop_assert_eq!(arrived, messages);
    }

    /// Nothing of a frame is taken for a frame before its last byte is there.
    #[test]
    fn half_a_frame_is_no_frame(said in said(), end in any::<prop::sample::Index>()) {
        let bytes = said.encode(1, false);
        let mut decoder = Decoder::default();
        decoder.push(&bytes[..end.index(bytes.len())]);
        prop_assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn a_context_leaves_the_bytes_after_it_alone(context in context(), body in vec(any::<u8>(), 0..64)) {
        let mut out = BytesMut::new();
        context.encode(&mut out);
        out.extend_from_slice(&body);
        let (decoded, rest) = Context::decode(&out.freeze()).expect("it was encoded here");
        prop_assert_eq!(decoded, context);
        prop_assert_eq!(&rest[..], &body[..]);
    }

    /// The server encodes an event once for all its watchers.
    #[test]
    fn a_batch_of_encoded_events_is_the_batch_of_the_events(
        events in vec(event(), 0..200),
        from in any::<u64>(),
        to in any::<u64>(),
        folded in any::<bool>(),
    ) {
        let encoded: Vec<Bytes> = events
            .iter()
            .map(|event| {
                let mut out = BytesMut::new();
                encode_body(&mut out, event);
                out.freeze()
            })
            .collect();
        let (from, to) = (Revision(from), Revision(to));
        let parts = Batch::encode_parts(from, to, folded, events.len() as u64, &encoded);
        let mut whole = BytesMut::new();
        encode_body(&mut whole, &Batch { from, to, folded, events });
        prop_assert_eq!(parts, whole.freeze());
    }
}

#[test]
fn a_reply_in_several_frames_says_so_in_each_but_the_last() {
    use hither_protocol::frame::Flags;
    use hither_protocol::message::{RangeReply, Reply, Stamp};

    let page = Reply::Range(RangeReply { entries: Vec::new(), count: 0, more: false });
    let mut out = BytesMut::new();
    page.encode(&mut out, RequestNumber(4), &Stamp::default(), true);
    page.encode(&mut out, RequestNumber(4), &Stamp::default(), false);
    let more: Vec<bool> = frames(&out).iter().map(|frame| frame.header.flags.has(Flags::MORE)).collect();
    assert_eq!(more, [true, false]);
}

#[test]
fn a_request_without_context_spends_no_byte_on_it() {
    let get = hither_protocol::message::Get { key: "a".into(), consistency: Default::default() };
    let bytes = Said::Request(Context::default(), get.into()).encode(1, false);
    let frame = frame(&bytes);
    assert_eq!((frame.header.op, frame.header.flags.0), (op::GET, 0));
    assert_eq!(&frame.body[..], b"\x01a\x00");
}
