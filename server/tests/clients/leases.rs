use hither_protocol::error::CloseCode;
use hither_protocol::limits::LEASES_CHECKED_MAX;
use hither_protocol::message::{
    Context, Goodbye, KeepAlive, KeepAliveReply, LeaseCheck, LeaseGrant, LeaseInfo, LeaseKind, LeaseList, Put, Reply,
    RetryToken, SessionClose,
};
use hither_protocol::{ErrorCode, LeaseId, LeaseState, SequenceNumber, SessionId};

use crate::harness::{Client, Server, closed_with, hello, until, within};

fn token(session: SessionId, sequence: u64) -> Context {
    let retry = RetryToken { session, sequence: SequenceNumber(sequence), acknowledged: SequenceNumber(sequence - 1) };
    Context { retry: Some(retry), ..Context::default() }
}

/// A lease that lives as long as the client's session, with a key on it.
async fn bound(client: &mut Client, session: SessionId) -> LeaseId {
    let grant = LeaseGrant { ttl_ms: 10_000, kind: LeaseKind::Bound };
    let lease = match client.call_with(grant, &token(session, 1)).await {
        Ok((_, Reply::LeaseGrant(grant))) => grant.lease,
        other => panic!("{other:?}"),
    };
    let put = Put { key: "held".into(), value: "1".into(), lease: Some(lease), previous: false };
    client.call_with(put, &token(session, 2)).await.expect("is put");
    lease
}

fn state_of(server: &Server, lease: LeaseId) -> Option<LeaseState> {
    server.engine.machine().state.read().lease(lease).map(|lease| lease.record.state)
}

#[tokio::test]
async fn a_goodbye_ends_the_session_and_what_hangs_on_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut other = server.client().await;
    let session = client.open_session(10_000).await;
    bound(&mut client, session).await;
    assert!(other.get("held").await.is_some());
    client.control.tell(0, &Goodbye {}).await;
    assert_eq!(closed_with(&client.stranger.closed().await), Some(CloseCode::Goodbye));
    assert_eq!(other.get("held").await, None);
    assert!(server.engine.machine().state.read().session(session).is_none());
}

#[tokio::test]
async fn a_keep_alive_is_answered_for_the_session_of_the_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.control.tell(0, &KeepAlive { number: 1 }).await;
    let reply = client.control.recv.message::<KeepAliveReply>().await;
    assert_eq!(reply, KeepAliveReply { number: 1, session_alive: None });
    let session = client.open_session(10_000).await;
    client.control.tell(0, &KeepAlive { number: 2 }).await;
    let reply = client.control.recv.message::<KeepAliveReply>().await;
    assert_eq!(reply, KeepAliveReply { number: 2, session_alive: Some(true) });
    client.call(SessionClose { session }).await.expect("is closed");
    client.control.tell(0, &KeepAlive { number: 3 }).await;
    let reply = client.control.recv.message::<KeepAliveReply>().await;
    assert_eq!(reply, KeepAliveReply { number: 3, session_alive: None });
}

#[tokio::test]
async fn a_client_that_vanishes_is_suspected_and_one_that_comes_back_is_not() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let session = client.open_session(10_000).await;
    let lease = bound(&mut client, session).await;
    assert_eq!(state_of(&server, lease), Some(LeaseState::Alive));
    // Without a goodbye.
    client.stranger.quic.close(0u32.into(), b"");
    until("the lease is suspect", || state_of(&server, lease) == Some(LeaseState::Suspect)).await;
    let mut again = hello();
    again.session = Some(session);
    let mut back = Client::greet(server.node.client_addr(), &server.admin(), again).await;
    back.control.tell(0, &KeepAlive { number: 1 }).await;
    assert_eq!(back.control.recv.message::<KeepAliveReply>().await.session_alive, Some(true));
    until("the lease is alive", || state_of(&server, lease) == Some(LeaseState::Alive)).await;
}

#[tokio::test]
async fn moving_to_another_connection_is_no_silence() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let session = client.open_session(10_000).await;
    let lease = bound(&mut client, session).await;
    let mut again = hello();
    again.session = Some(session);
    let mut moved = Client::greet(server.node.client_addr(), &server.admin(), again).await;
    client.stranger.quic.close(0u32.into(), b"");
    within("the old connection is gone", async { while moved.connections_of("admin").await > 1 {} }).await;
    for number in 1..=5 {
        moved.control.tell(0, &KeepAlive { number }).await;
        assert_eq!(moved.control.recv.message::<KeepAliveReply>().await.session_alive, Some(true));
        assert_eq!(state_of(&server, lease), Some(LeaseState::Alive));
    }
}

#[tokio::test]
async fn a_silent_client_is_suspected_before_its_connection_is_given_up() {
    let server = Server::start().await;
    let (address, admin) = (server.node.client_addr(), server.admin());
    let (held, holds) = tokio::sync::oneshot::channel();
    let (wake_up, sleeps) = std::sync::mpsc::channel::<()>();
    // A process that stalls: its thread does nothing any more, not even for QUIC.
    let stalled = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let mut client = Client::connect(address, &admin).await;
            let session = client.open_session(10_000).await;
            let _ = held.send(bound(&mut client, session).await);
            client
        });
        let _ = sleeps.recv();
        drop(client);
    });
    let lease = within("a lease", holds).await.expect("is held");
    until("the lease is suspect", || state_of(&server, lease) == Some(LeaseState::Suspect)).await;
    assert_eq!(server.client().await.connections_of("admin").await, 2, "the connection is still there");
    drop(wake_up);
    stalled.join().expect("ends");
}

#[tokio::test]
async fn leases_of_other_namespaces_do_not_exist() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let grant = LeaseGrant { ttl_ms: 5_000, kind: LeaseKind::Ttl };
    let lease = match client.call(grant).await {
        Ok((_, Reply::LeaseGrant(grant))) => grant.lease,
        other => panic!("{other:?}"),
    };
    let mut elsewhere = hello();
    elsewhere.namespace = "elsewhere".to_owned();
    let mut other = Client::greet(server.node.client_addr(), &server.admin(), elsewhere).await;
    let refusal = other.call(LeaseInfo { lease, keys: true }).await.expect_err("is refused");
    assert_eq!(refusal.code, ErrorCode::LeaseNotFound);
    let unknown = LeaseId(lease.0 + 1);
    let gone = |reply: Result<_, _>| match reply {
        Ok((_, Reply::LeaseCheck(checked))) => checked.gone,
        other => panic!("{other:?}"),
    };
    let check = LeaseCheck { leases: vec![lease, unknown] };
    assert_eq!(gone(other.call(check.clone()).await), [lease, unknown]);
    assert_eq!(gone(client.call(check).await), [unknown]);
    let too_many = LeaseCheck { leases: vec![lease; LEASES_CHECKED_MAX + 1] };
    assert_eq!(client.call(too_many).await.expect_err("is refused").code, ErrorCode::InvalidArgument);
    let count = |reply: Result<_, _>| match reply {
        Ok((_, Reply::LeaseList(list))) => list.leases.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(other.call(LeaseList { after: None, limit: 0 }).await), 0);
    assert_eq!(count(client.call(LeaseList { after: None, limit: 0 }).await), 1);
    match client.call(LeaseInfo { lease, keys: true }).await {
        Ok((_, Reply::LeaseInfo(info))) => {
            assert_eq!((info.lease.lease, info.lease.ttl_ms, info.lease.owner.as_str()), (lease, 5_000, "admin"));
        }
        other => panic!("{other:?}"),
    }
}
