//! Bytes from somebody who means harm: always an error with a number, never a panic, never memory for a lie.

use bytes::Bytes;
use hither_protocol::codec::{Decoder, Frame};
use hither_protocol::frame::{Flags, FrameTooLarge, HEADER_BYTES, Header};
use hither_protocol::limits::{FRAME_BYTES_MAX, TXN_OPS_MAX};
use hither_protocol::message::{Compare, Filter, Relation, Request, Txn, op};
use hither_protocol::{ErrorCode, Refusal, Version};

use crate::alloc::peak_bytes;
use crate::said::{Said, frame};
use crate::samples::{Sample, samples};

/// 2^60 as a varint.
const HUGE: [u8; 9] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];

fn header(length: u32, op: u16) -> Header {
    Header { length, op, version: 1, flags: Flags::default(), id: 1 }
}

/// A frame of this op whose length is honest and whose body is whatever it is.
fn with_body(frame: &Frame, body: impl Into<Bytes>) -> Frame {
    let body = body.into();
    Frame { header: Header { length: body.len() as u32, ..frame.header }, body }
}

fn framed() -> Vec<(Sample, Frame)> {
    samples()
        .into_iter()
        .map(|sample| {
            let frame = frame(&sample.said.encode(1, false));
            (sample, frame)
        })
        .collect()
}

fn code(result: Result<Said, Refusal>) -> Option<ErrorCode> {
    result.err().map(|refusal| refusal.code)
}

#[test]
fn a_frame_over_the_limit_costs_nothing() {
    for length in [u32::MAX, FRAME_BYTES_MAX as u32 + 1] {
        let bytes = header(length, op::PUT).to_bytes();
        let peak = peak_bytes(|| {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert_eq!(decoder.next_frame(), Err(FrameTooLarge { length }));
            assert_eq!(decoder.next_frame(), Err(FrameTooLarge { length }), "the stream cannot go on");
            let (mut decoder, mut piece) = (Decoder::default(), Bytes::copy_from_slice(&bytes));
            assert_eq!(decoder.next_frame_of(&mut piece), Err(FrameTooLarge { length }));
            assert_eq!(decoder.next_frame_of(&mut piece), Err(FrameTooLarge { length }), "the stream cannot go on");
        });
        assert!(peak < 1024, "{peak} bytes were allocated for an announcement of {length}");
    }
}

#[test]
fn an_announced_frame_costs_what_has_arrived_of_it() {
    let bytes = header(FRAME_BYTES_MAX as u32, op::PUT).to_bytes();
    let peak = peak_bytes(|| {
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        decoder.push(b"a first piece");
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.pending_bytes(), HEADER_BYTES + 13);
    });
    assert!(peak < 4096, "{peak} bytes were allocated for an announcement");
}

#[test]
fn a_truncated_body_is_refused_at_every_length() {
    for (sample, frame) in framed() {
        for end in 0..frame.body.len() {
            let cut = with_body(&frame, frame.body.slice(..end));
            assert_eq!(
                code(Said::decode(&cut)),
                Some(ErrorCode::InvalidFrame),
                "{}, {}, {end} bytes",
                sample.message,
                sample.case
            );
        }
    }
}

#[test]
fn a_byte_too_many_is_refused() {
    for (sample, frame) in framed() {
        let longer = with_body(&frame, [&frame.body[..], &[0]].concat());
        assert_eq!(code(Said::decode(&longer)), Some(ErrorCode::TrailingBytes), "{}, {}", sample.message, sample.case);
    }
}

#[test]
fn an_unknown_operation_is_named() {
    let known: Vec<u16> = framed().iter().map(|(_, frame)| frame.header.op).collect();
    for op in (0..=u16::MAX).filter(|op| !known.contains(op)) {
        let frame = Frame { header: header(0, op), body: Bytes::new() };
        assert_eq!(code(Said::decode(&frame)), Some(ErrorCode::UnknownOperation), "{op:#06x}");
    }
}

#[test]
fn another_version_is_never_guessed_at() {
    for (sample, frame) in framed() {
        for version in [0, 2, u8::MAX] {
            let other = Frame { header: Header { version, ..frame.header }, body: frame.body.clone() };
            assert_eq!(code(Said::decode(&other)), Some(ErrorCode::UnsupportedVersion), "{}", sample.message);
        }
    }
}

/// At every place of every message, so at every length of every collection, text and byte string among them.
#[test]
fn a_lying_length_gets_no_memory() {
    for (sample, frame) in framed() {
        for at in 0..=frame.body.len() {
            let body = [&frame.body[..at], &HUGE, &frame.body[at..]].concat();
            let lying = with_body(&frame, body);
            let peak = peak_bytes(|| drop(Said::decode(&lying)));
            assert!(peak < 64 * 1024, "{}, {}: {peak} bytes for a lie at {at}", sample.message, sample.case);
        }
    }
}

#[test]
fn a_collection_of_2_to_the_60_in_100_bytes_is_refused() {
    for op in [op::TXN, op::SNAPSHOT, op::BATCH, op::RESET, op::RANGE | op::REPLY, op::LEASE_LIST | op::REPLY] {
        for lead in 0..40 {
            let mut body = vec![0; lead];
            body.extend(HUGE);
            body.resize(100, 0);
            let frame = Frame { header: header(100, op), body: body.into() };
            let peak = peak_bytes(|| {
                assert!(Said::decode(&frame).is_err());
            });
            assert!(peak < 64 * 1024, "op {op:#06x}: {peak} bytes for a lie at {lead}");
        }
    }
}

#[test]
fn an_overlong_number_is_refused() {
    // The first field of each is a number of 64 bits: eleven bytes, and ten that say more than 64 bits.
    for op in [op::LEASE_RENEW, op::SESSION_CLOSE, op::KEEP_ALIVE, op::CANCEL_WATCH, op::GO_AWAY] {
        for number in [&[0x80; 11][..], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]] {
            let mut body = number.to_vec();
            body.extend([0; 8]);
            let frame = Frame { header: header(body.len() as u32, op), body: body.into() };
            assert_eq!(code(Said::decode(&frame)), Some(ErrorCode::InvalidFrame), "op {op:#06x}");
        }
    }
}

#[test]
fn a_variant_that_does_not_exist_is_refused() {
    // A range of kind 4, a get whose consistency is of kind 3, a put whose option is neither there nor not, a transaction
    // whose comparison is of kind 8, one that compares versions in a fifth way.
    for (op, body) in [
        (op::DELETE, &b"\x04\x01a\x00"[..]),
        (op::GET, b"\x01a\x03"),
        (op::PUT, b"\x01a\x011\x02\x00"),
        (op::PUT, b"\x01a\x011\x00\x02"),
        (op::TXN, b"\x01\x08\x01a\x00\x00"),
        (op::TXN, b"\x01\x01\x01a\x04\x00\x00\x00"),
        (op::LEASE_GRANT, b"\x01\x02"),
        (op::END, b"\x03"),
        (op::CLIENT_REVOKE, b"\x02\xff\xfe"),
    ] {
        let frame = Frame { header: header(body.len() as u32, op), body: Bytes::from_static(body) };
        assert_eq!(code(Said::decode(&frame)), Some(ErrorCode::InvalidFrame), "op {op:#06x}, {body:?}");
    }
}

/// The bodies of transactions above are refused for the comparison and for nothing else.
#[test]
fn every_comparison_that_exists_is_read() {
    let bodies = [&b"\x01\x05\x01a\x00\x00"[..], b"\x01\x07\x01a\x00\x00\x00", b"\x01\x01\x01a\x03\x00\x00\x00"];
    for (body, compare) in bodies.into_iter().zip([
        Compare::Absent("a".into()),
        Compare::Lease("a".into(), None),
        Compare::Version("a".into(), Relation::Greater, Version(0)),
    ]) {
        let frame = Frame { header: header(body.len() as u32, op::TXN), body: Bytes::from_static(body) };
        let (_, request) = Request::decode(&frame).expect("it is well formed");
        assert_eq!(request, Txn { when: vec![compare], ..Txn::default() }.into());
    }
}

/// A flag is one byte, 0 or 1: it is not taken for true because it is not 0.
#[test]
fn a_flag_that_is_neither_set_nor_not_is_refused() {
    // Watch 1, all keys, from now, no lineage, every event, three flags of the filter, the one for previous entries, and
    // no least interval.
    let subscribe = [1, 3, 0, 0, 0, 1, 1, 0, 0, 0];
    let decoded = |body: [u8; 10]| {
        let frame = Frame { header: header(10, op::SUBSCRIBE), body: Bytes::copy_from_slice(&body) };
        Said::decode(&frame)
    };
    let Ok(Said::Subscribe(read)) = decoded(subscribe) else { panic!("it is well formed") };
    assert_eq!(read.filter, Filter::default());
    for flag in 5..=8 {
        for byte in [2, 0xff] {
            let mut body = subscribe;
            body[flag] = byte;
            assert_eq!(code(decoded(body)), Some(ErrorCode::InvalidFrame), "byte {flag} is {byte}");
        }
    }
}

#[test]
fn a_flipped_bit_never_makes_a_message_that_changes_when_it_is_passed_on() {
    for (sample, frame) in framed() {
        for bit in 0..frame.body.len() * 8 {
            let mut body = frame.body.to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            let Ok(said) = Said::decode(&with_body(&frame, body)) else { continue };
            let again = Said::decode(&crate::said::frame(&said.encode(1, false)));
            assert_eq!(again, Ok(said), "{}, {}, bit {bit}", sample.message, sample.case);
        }
    }
}

/// No type of the protocol contains itself, so no bytes can make decoding recurse: a small stack is enough for all.
#[test]
fn nesting_is_no_way_to_the_end_of_the_stack() {
    let deep = || {
        for (_, frame) in framed() {
            for byte in 0..6 {
                let body = Bytes::from(vec![byte; 100_000]);
                let _ = Said::decode(&with_body(&frame, body));
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(deep).expect("a thread can be started");
    thread.join().expect("decoding stays on its stack");
}

/// Two bytes on the wire are a hundred in memory: without a cap, one frame would take a hundred times its size.
#[test]
fn a_transaction_of_a_million_operations_is_read_but_not_kept() {
    const OPS: usize = 1_000_000;
    // No comparison; `then` is so many gets of the empty key; no `otherwise`.
    let mut body = vec![0, 0xc0, 0x84, 0x3d];
    body.resize(4 + 2 * OPS, 0);
    body.push(0);
    let frame = Frame { header: header(body.len() as u32, op::TXN), body: body.into() };
    let peak = peak_bytes(|| {
        let (_, request) = Request::decode(&frame).expect("it is well formed");
        let Request::Txn(Txn { then, .. }) = request else { panic!("another request") };
        assert!(then.len() > TXN_OPS_MAX, "the door must see that there are too many");
    });
    assert!(peak < 256 * 1024, "{peak} bytes are held for one transaction");
}
