use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::frame::Flags;
use hither_protocol::limits::{LANE_BODY_BYTES_MAX, VALUE_BYTES_MAX};
use hither_protocol::message::{
    CancelRequest, Compare, Consistency, Context, Get, Projection, Put, Range, Reply, Status, Txn, TxnOp,
};
use hither_protocol::{Applied, ErrorCode, KeyRange, Revision};

use crate::harness::{Client, Incoming, Server, frame_of, until, within};

#[tokio::test]
async fn what_was_put_is_read_back() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let first = client.put("a", "1").await;
    let second = client.put("a", "2").await;
    assert!(second > first);
    let entry = client.get("a").await.expect("is there");
    assert_eq!(&entry.value[..], b"2");
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version.0), (first, second, 2));
    assert_eq!(client.delete(KeyRange::prefix("a")).await, 1);
    assert_eq!(client.get("a").await, None);
}

#[tokio::test]
async fn many_requests_are_under_way_at_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut out = bytes::BytesMut::new();
    for number in 1..=500 {
        let put = Put { key: format!("k{number}").into(), value: Bytes::new(), lease: None, previous: false };
        out.extend_from_slice(&frame_of(put, number));
    }
    client.requests.write(&out).await;
    let mut answered = BTreeSet::new();
    for _ in 0..500 {
        let frame = client.requests.recv.next().await;
        Reply::decode(&frame).expect("decodes").expect("succeeds");
        assert!(answered.insert(frame.header.id));
    }
    assert_eq!(answered.last(), Some(&500));
}

#[tokio::test]
async fn a_transaction_takes_one_branch() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let put =
        |value: &'static str| TxnOp::Put(Put { key: "lock".into(), value: value.into(), lease: None, previous: false });
    let txn = Txn {
        when: vec![Compare::Absent("lock".into())],
        then: vec![put("first")],
        otherwise: vec![TxnOp::Get("lock".into())],
    };
    let succeeded = |reply: Result<_, _>| match reply {
        Ok((_, Reply::Txn(reply))) => reply.succeeded,
        other => panic!("{other:?}"),
    };
    assert!(succeeded(client.call(txn.clone()).await));
    assert!(!succeeded(client.call(txn).await));
}

/// Takes a list that comes in frames off the stream.
async fn pages(stream: &mut Incoming, number: u64) -> (usize, u64, usize) {
    let (mut entries, mut frames) = (0, 0);
    loop {
        let frame = stream.next().await;
        assert_eq!(frame.header.id, number);
        frames += 1;
        match Reply::decode(&frame).expect("decodes").expect("succeeds") {
            (_, Reply::Range(reply)) => {
                entries += reply.entries.len();
                if !frame.header.flags.has(Flags::MORE) {
                    assert_eq!(stream.try_next().await, None);
                    return (entries, reply.count, frames);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_large_value_travels_on_streams_of_its_own() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let value = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let put = Put { key: "large".into(), value: value.clone(), lease: None, previous: false };
    let mut own = client.stranger.open().await;
    own.write(&frame_of(put, 77)).await;
    own.send.finish().expect("finishes");
    let frame = own.recv.next().await;
    assert_eq!(frame.header.id, 77);
    Reply::decode(&frame).expect("decodes").expect("succeeds");

    // Asked on the lane, it comes on a stream of the server; the lane is free meanwhile.
    let number =
        client.ask(Get { key: "large".into(), consistency: Consistency::Linearizable }, &Context::default()).await;
    let mut stream = client.accept().await;
    let frame = stream.next().await;
    assert_eq!(frame.header.id, number.0);
    match Reply::decode(&frame).expect("decodes") {
        Ok((_, Reply::Get(get))) => assert_eq!(get.entry.expect("is there").value, value),
        other => panic!("{other:?}"),
    }
    client.is_undisturbed().await;

    // So does what a write answers.
    let put = Put { key: "large".into(), value: Bytes::new(), lease: None, previous: true };
    let number = client.ask(put, &Context::default()).await;
    let mut stream = client.accept().await;
    let frame = stream.next().await;
    assert_eq!(frame.header.id, number.0);
    match Reply::decode(&frame).expect("decodes") {
        Ok((_, Reply::Put(put))) => assert_eq!(put.previous.expect("was there").value, value),
        other => panic!("{other:?}"),
    }
    client.is_undisturbed().await;
    let put = Put { key: "large".into(), value: value.clone(), lease: None, previous: false };
    let mut own = client.stranger.open().await;
    own.write(&frame_of(put, 79)).await;
    Reply::decode(&own.recv.next().await).expect("decodes").expect("succeeds");

    // Asked on a stream of its own, it comes there.
    let mut own = client.stranger.open().await;
    own.write(&frame_of(Get { key: "large".into(), consistency: Consistency::Linearizable }, 78)).await;
    let frame = own.recv.next().await;
    assert_eq!(frame.header.id, 78);
    assert!(frame.body.len() > VALUE_BYTES_MAX);
}

#[tokio::test]
async fn a_long_list_comes_in_frames_of_one_revision() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let value = vec![1; 4_000];
    client.put_all((0..300).map(|number| format!("list/{number:04}")), &value).await;
    let number = client.ask(Client::range(KeyRange::prefix("list/")), &Context::default()).await;
    let mut stream = client.accept().await;
    let (entries, count, frames) = pages(&mut stream, number.0).await;
    assert_eq!((entries, count), (300, 300));
    assert!(frames > 1, "{frames}");

    let limited = Range { limit: 10, reverse: true, ..Client::range(KeyRange::prefix("list/")) };
    match client.call(limited).await {
        Ok((stamp, Reply::Range(reply))) => {
            assert_eq!(reply.entries.first().expect("entries").key, "list/0299".into());
            assert_eq!((reply.entries.len(), reply.count, reply.more), (10, 300, true));
            assert_eq!(stamp.revision, server.engine.machine().state.read().revision());
        }
        other => panic!("{other:?}"),
    }
    let counted = Range { projection: Projection::CountOnly, ..Client::range(KeyRange::All) };
    match client.call(counted).await {
        Ok((_, Reply::Range(reply))) => assert_eq!((reply.entries.len(), reply.count, reply.more), (0, 300, false)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_long_list_that_nobody_reads_holds_up_nobody() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let value = vec![1; LANE_BODY_BYTES_MAX / 2];
    client.put_all((0..200).map(|number| format!("list/{number:04}")), &value).await;
    client.ask(Client::range(KeyRange::prefix("list/")), &Context::default()).await;
    let _unread = client.accept().await;
    client.is_undisturbed().await;
    server.client().await.is_undisturbed().await;
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let future = Get { key: "a".into(), consistency: Consistency::AtLeast(Revision(1_000_000)) };
    let context = Context { deadline_ms: Some(50), ..Context::default() };
    let refusal = client.call_with(future, &context).await.expect_err("is refused");
    assert_eq!(refusal.code, ErrorCode::Timeout);
    assert_eq!(refusal.applied, hither_protocol::Applied::No);
    client.is_undisturbed().await;
}

#[expect(clippy::await_holding_lock, reason = "that nothing is applied meanwhile is what the test needs")]
#[tokio::test]
async fn a_write_that_is_not_applied_in_time_is_answered_once_and_may_yet_happen() {
    let server = Server::start().await;
    let mut client = server.client().await;
    {
        let _nothing_is_applied = server.engine.machine().state.write();
        let context = Context { deadline_ms: Some(50), ..Context::default() };
        let put = Put { key: "late".into(), value: Bytes::new(), lease: None, previous: false };
        let refusal = client.call_with(put, &context).await.expect_err("is refused");
        assert_eq!((refusal.code, refusal.applied), (ErrorCode::Timeout, Applied::Unknown));
    }
    // The next answers are those to the next requests.
    client.is_undisturbed().await;
    assert!(client.get("late").await.is_some());
}

#[expect(clippy::await_holding_lock, reason = "that nothing is applied meanwhile is what the test needs")]
#[tokio::test]
async fn a_write_that_is_taken_back_is_not_answered_and_leaves_room_for_another() {
    let server = Server::start_with(|config| config.clients.requests_in_flight_max = 1).await;
    let mut client = server.client().await;
    let put = |key: &str| Put { key: key.into(), value: Bytes::new(), lease: None, previous: false };
    {
        let _nothing_is_applied = server.engine.machine().state.write();
        let first = client.ask(put("first"), &Context::default()).await;
        until("an entry has the first", || server.engine.stats().entries_in_flight == 1).await;
        let context = Context { deadline_ms: Some(50), ..Context::default() };
        let second = client.ask(put("second"), &context).await;
        client.control.tell(0, &CancelRequest { request: first }).await;
        // Its time begins when it is let in.
        let frame = client.requests.recv.next().await;
        assert_eq!(frame.header.id, second.0);
        let refusal = Reply::decode(&frame).expect("decodes").expect_err("is refused");
        assert_eq!((refusal.code, refusal.applied), (ErrorCode::Timeout, Applied::No));
    }
    client.is_undisturbed().await;
    assert!(client.get("first").await.is_some(), "it was too late to keep it from happening");
    assert_eq!(client.get("second").await, None);
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_not_answered() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let future = Get { key: "a".into(), consistency: Consistency::AtLeast(Revision(1_000_000)) };
    let number = client.ask(future.clone(), &Context::default()).await;
    client.is_undisturbed().await;
    client.control.tell(0, &CancelRequest { request: number }).await;
    // The number is free once the request is gone.
    within("the request is gone", async {
        loop {
            client.requests.write(&frame_of(future.clone(), number.0)).await;
            let refusal = tokio::time::timeout(Duration::from_millis(100), client.requests.recv.refusal()).await;
            match refusal {
                // It was taken up, so the first one is gone.
                Err(_) => break,
                Ok(refusal) => assert_eq!(refusal.code, ErrorCode::InvalidArgument),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_says_how_it_is() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.put("a", "1").await;
    match client.call(Status {}).await {
        Ok((_, Reply::Status(status))) => {
            assert_eq!(status.cluster, server.identity.cluster());
            assert_eq!(status.connections, 1);
            // The first admin is a key too.
            assert_eq!(status.keys, 2);
            assert_eq!(status.leader.map(|leader| leader.address), Some(server.node.client_addr().to_string()));
        }
        other => panic!("{other:?}"),
    }
}
