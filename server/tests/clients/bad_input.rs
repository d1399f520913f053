use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hither_protocol::error::CloseCode;
use hither_protocol::frame::{Flags, Header};
use hither_protocol::limits::{FRAME_BYTES_MAX, KEY_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use hither_protocol::message::{Consistency, Get, KeepAlive, KeepAliveReply, Put, Request, Txn, TxnOp, op};
use hither_protocol::{ErrorCode, Key, KeyRange};
use quinn::VarInt;

use crate::harness::{Client, Server, closed_with, frame_of, within};

fn get() -> Request {
    Get { key: "a".into(), consistency: Consistency::Linearizable }.into()
}

fn put(key: &[u8], value_bytes: usize) -> Put {
    Put { key: Key::from(key), value: Bytes::from(vec![0; value_bytes]), lease: None, previous: false }
}

/// A frame of any header, and whatever body.
fn frame(op: u16, version: u8, body: &[u8]) -> BytesMut {
    let length = u32::try_from(body.len()).expect("fits");
    let mut out = BytesMut::new();
    Header { length, op, version, flags: Flags::default(), id: 9 }.encode(&mut out);
    out.put_slice(body);
    out
}

#[tokio::test]
async fn a_frame_that_is_no_request_is_refused_and_the_lane_goes_on() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut trailing = frame_of(get(), 9);
    trailing.put_u8(0);
    let body_length = u32::try_from(trailing.len() - 16).expect("fits");
    trailing[..4].copy_from_slice(&body_length.to_le_bytes());
    // A collection of 2^60 elements in eleven bytes.
    let mut bomb = vec![0];
    bomb.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    for (bytes, code) in [
        (frame(0x0777, 1, b"whatever"), ErrorCode::UnknownOperation),
        (frame(op::GET, 99, b"whatever"), ErrorCode::UnsupportedVersion),
        (frame(op::GET, 1, b""), ErrorCode::InvalidFrame),
        (frame(op::TXN, 1, &bomb), ErrorCode::InvalidFrame),
        (frame(op::GET, 1, &[0xff; 100]), ErrorCode::InvalidFrame),
        (trailing, ErrorCode::TrailingBytes),
    ] {
        client.requests.write(&bytes).await;
        let answer = client.requests.recv.next().await;
        assert_eq!(answer.header.id, 9);
        let refusal = hither_protocol::message::Reply::decode(&answer).expect("decodes").expect_err("is a refusal");
        assert_eq!(refusal.code, code);
        client.is_undisturbed().await;
    }
}

#[tokio::test]
async fn what_is_no_message_of_the_control_lane_is_refused_and_the_lane_goes_on() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (bytes, code) in [
        (frame(0x0777, 1, b""), ErrorCode::UnknownOperation),
        (frame(op::SUBSCRIBE, 2, b""), ErrorCode::UnsupportedVersion),
        (frame(op::SUBSCRIBE, 1, b"x"), ErrorCode::InvalidFrame),
        (frame(op::KEEP_ALIVE, 1, b"\x01\x01"), ErrorCode::TrailingBytes),
    ] {
        client.control.write(&bytes).await;
        assert_eq!(client.control.recv.refusal().await.code, code);
    }
    client.control.tell(0, &KeepAlive { number: 5 }).await;
    assert_eq!(client.control.recv.message::<KeepAliveReply>().await.number, 5);
    client.is_undisturbed().await;
}

#[tokio::test]
async fn a_length_that_lies_ends_the_connection_and_nobody_elses() {
    let server = Server::start().await;
    let mut other = server.client().await;
    let mut header = BytesMut::new();
    Header { length: u32::MAX, op: op::GET, version: 1, flags: Flags::default(), id: 9 }.encode(&mut header);
    let mut on_the_lane = server.client().await;
    on_the_lane.requests.write(&header).await;
    assert_eq!(on_the_lane.requests.recv.refusal().await.code, ErrorCode::FrameTooLarge);
    assert_eq!(closed_with(&on_the_lane.stranger.closed().await), Some(CloseCode::FrameTooLarge));

    let mut on_control = server.client().await;
    on_control.control.write(&header).await;
    assert_eq!(on_control.control.recv.refusal().await.code, ErrorCode::FrameTooLarge);
    assert_eq!(closed_with(&on_control.stranger.closed().await), Some(CloseCode::FrameTooLarge));

    let on_its_own = server.client().await;
    let mut own = on_its_own.stranger.open().await;
    own.write(&header).await;
    assert_eq!(own.recv.refusal().await.code, ErrorCode::FrameTooLarge);
    assert_eq!(closed_with(&on_its_own.stranger.closed().await), Some(CloseCode::FrameTooLarge));
    other.is_undisturbed().await;
}

#[tokio::test]
async fn a_frame_that_ends_too_soon_is_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let whole = frame_of(get(), 9);
    let mut own = client.stranger.open().await;
    own.write(&whole[..whole.len() - 1]).await;
    own.send.finish().expect("finishes");
    assert_eq!(own.recv.refusal().await.code, ErrorCode::InvalidFrame);
    assert_eq!(own.recv.try_next().await, None);

    let mut own = client.stranger.open().await;
    own.write(&[&whole[..], b"more"].concat()).await;
    assert_eq!(own.recv.refusal().await.code, ErrorCode::TrailingBytes);
    client.is_undisturbed().await;

    client.requests.write(&whole[..7]).await;
    client.requests.send.finish().expect("finishes");
    assert_eq!(client.requests.recv.refusal().await.code, ErrorCode::InvalidFrame);
}

#[tokio::test]
async fn keys_and_values_are_taken_up_to_their_limits_and_not_beyond() {
    let server = Server::start().await;
    let client = server.client().await;
    for (put, refused) in [
        (put(b"", 0), Some(ErrorCode::KeyEmpty)),
        (put(&[b'k'; KEY_BYTES_MAX], VALUE_BYTES_MAX), None),
        (put(&[b'k'; KEY_BYTES_MAX + 1], 0), Some(ErrorCode::KeyTooLong)),
        (put(b"k", VALUE_BYTES_MAX + 1), Some(ErrorCode::ValueTooLarge)),
        (put(b"\0\xff../..//\r\n%00", 1), None),
    ] {
        let mut own = client.stranger.open().await;
        own.write(&frame_of(put, 1)).await;
        own.send.finish().expect("finishes");
        let answer = hither_protocol::message::Reply::decode(&own.recv.next().await).expect("decodes");
        assert_eq!(answer.err().map(|refusal| refusal.code), refused);
    }
    let mut own = client.stranger.open().await;
    let too_large = frame(op::PUT, 1, &vec![0; FRAME_BYTES_MAX + 1]);
    // The server closes the connection before all of it is written.
    let _ = own.send.write_all(&too_large).await;
    assert_eq!(closed_with(&client.stranger.closed().await), Some(CloseCode::FrameTooLarge));
    server.client().await.is_undisturbed().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_a_number() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ops = |count: usize| (0..count).map(|number| TxnOp::Put(put(format!("k{number}").as_bytes(), 0))).collect();
    let txn = |then| Txn { when: Vec::new(), then, otherwise: Vec::new() };
    let twice = vec![TxnOp::Put(put(b"k", 0)), TxnOp::Put(put(b"k", 0))];
    for (request, code) in [
        (Request::from(txn(ops(TXN_OPS_MAX + 1))), ErrorCode::TooManyOps),
        (txn(twice).into(), ErrorCode::DuplicateKeyInTxn),
        (Client::range(KeyRange::Span("b".into(), "a".into())).into(), ErrorCode::InvalidRange),
        (Get { key: "a".into(), consistency: Consistency::Stale { max_age_ms: 0 } }.into(), ErrorCode::TooStale),
    ] {
        // An age of zero is what a leader alone has.
        match client.call(request).await {
            Err(refusal) => assert_eq!(refusal.code, code),
            Ok(_) => assert_eq!(code, ErrorCode::TooStale),
        }
    }
    client.is_undisturbed().await;
}

#[tokio::test]
async fn too_many_errors_end_the_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut other = server.client().await;
    let mut flood = BytesMut::new();
    for _ in 0..200 {
        flood.extend_from_slice(&frame(0x0777, 1, b""));
    }
    client.requests.write(&flood).await;
    assert_eq!(closed_with(&client.stranger.closed().await), Some(CloseCode::ExcessiveErrors));
    other.is_undisturbed().await;
}

#[tokio::test]
async fn ten_thousand_streams_of_one_byte_hurt_nobody_else() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut other = server.client().await;
    // Most of them wait for the server to allow more streams.
    let quic = client.stranger.quic.clone();
    let flood = tokio::spawn(async move {
        let mut streams = Vec::new();
        for _ in 0..10_000 {
            let Ok((mut send, recv)) = quic.open_bi().await else { return };
            if send.write_all(&[1]).await.is_err() {
                return;
            }
            streams.push((send, recv));
        }
    });
    for _ in 0..50 {
        let started = std::time::Instant::now();
        other.is_undisturbed().await;
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    flood.abort();
}

#[tokio::test]
async fn a_flood_of_streams_given_up_ends_the_connection() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut other = server.client().await;
    within("the end", async {
        while let Ok((mut send, mut recv)) = client.stranger.quic.open_bi().await {
            let _ = send.write_all(&[1]).await;
            let _ = send.reset(VarInt::from_u32(1));
            let _ = recv.stop(VarInt::from_u32(1));
        }
    })
    .await;
    assert_eq!(closed_with(&client.stranger.closed().await), Some(CloseCode::ExcessiveErrors));
    other.is_undisturbed().await;
}
