//! What is said arrives as it was said, however the stream is cut.

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{Decoder, Frame, encode_body};
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

        let stream = stream.freeze();
        let (mut copying, mut sharing) = (Decoder::default(), Decoder::default());
        let (mut copied, mut shared) = (Vec::new(), Vec::new());
        let said = |frame: &Frame| (Said::decode(frame).expect("it was encoded here"), frame.header.id);
        for cut in cuts.windows(2) {
            let mut piece = stream.slice(cut[0]..cut[1]);
            copying.push(&piece);
            while let Some(frame) = copying.next_frame().expect("no frame is over the limit") {
                copied.push(said(&frame));
            }
            while let Some(frame) = sharing.next_frame_of(&mut piece).expect("no frame is over the limit") {
                shared.push(said(&frame));
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert_eq!((copying.pending_bytes(), sharing.pending_bytes()), (0, 0));
        prop_assert_eq!(&copied, &messages);
        prop_assert_eq!(&shared, &messages);
    }

    /// A frame that came in one piece is a part of it.
    #[test]
    fn a_frame_within_a_piece_is_not_copied(said in said(), before in 0_usize..2) {
        let bytes = said.encode(1, false);
        let mut stream = BytesMut::new();
        (0..=before).for_each(|_| stream.extend_from_slice(&bytes));
        let mut piece = stream.freeze();
        let memory = piece.as_ptr_range();
        let mut decoder = Decoder::default();
        while let Some(frame) = decoder.next_frame_of(&mut piece).expect("no frame is over the limit") {
            prop_assert!(frame.body.is_empty() || memory.contains(&frame.body.as_ptr()));
        }
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
