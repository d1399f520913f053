use hither_protocol::error::CloseCode;
use hither_protocol::message::{Role, SessionReply};
use hither_protocol::{ALPN_CLIENT, ClusterId, ErrorCode};
use hither_server::identity;
use quinn::{ConnectionError, TransportErrorCode};
use std::time::Duration;

use crate::harness::{Client, Server, Stranger, closed_with, hello};

#[tokio::test]
async fn a_client_with_an_identity_is_welcomed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.welcome.name, "admin");
    assert_eq!(client.welcome.role, Role::Admin);
    assert_eq!(client.welcome.lineage.cluster, server.identity.cluster());
    assert_eq!(client.welcome.endpoints, [server.node.client_addr().to_string()]);
    assert_eq!(client.welcome.leader.as_ref().map(|leader| leader.node), Some(server.identity.node()));
    client.is_undisturbed().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_so() {
    let server = Server::start().await;
    let stranger =
        Stranger::connect(server.node.client_addr(), &server.identity.ca(), None, ALPN_CLIENT).await.expect("connects");
    assert_eq!(closed_with(&stranger.closed().await), Some(CloseCode::Unauthenticated));
    server.client().await.is_undisturbed().await;
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_by_tls_and_told_no_more_than_that() {
    let server = Server::start().await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    let other = identity::initialise(elsewhere.path()).expect("an identity").admin().expect("reads");
    let stranger = Stranger::connect(server.node.client_addr(), &server.identity.ca(), Some(&other), ALPN_CLIENT).await;
    let error = match stranger {
        Ok(stranger) => stranger.closed().await,
        Err(error) => error,
    };
    let ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
    // unknown_ca
    assert_eq!(close.error_code, TransportErrorCode::crypto(48));
    assert!(close.reason.is_empty(), "{close:?}");
    server.client().await.is_undisturbed().await;
}

#[tokio::test]
async fn another_protocol_is_refused_by_tls() {
    let server = Server::start().await;
    let error = Stranger::connect(server.node.client_addr(), &server.identity.ca(), Some(&server.admin()), b"h3")
        .await
        .err()
        .expect("is refused");
    let ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
    // no_application_protocol
    assert_eq!(close.error_code, TransportErrorCode::crypto(120));
    assert!(close.reason.is_empty(), "{close:?}");
    server.client().await.is_undisturbed().await;
}

#[tokio::test]
async fn who_does_not_say_hello_is_closed() {
    let server = Server::start_with(|config| config.clients.hello_timeout = Duration::from_millis(100)).await;
    let connect = || async {
        Stranger::connect(server.node.client_addr(), &server.identity.ca(), Some(&server.admin()), ALPN_CLIENT)
            .await
            .expect("connects")
    };
    let silent = connect().await;
    assert_eq!(closed_with(&silent.closed().await), Some(CloseCode::HelloTimeout));
    let halting = connect().await;
    let mut lane = halting.open().await;
    lane.write(&[9]).await;
    assert_eq!(closed_with(&halting.closed().await), Some(CloseCode::HelloTimeout));
    server.client().await.is_undisturbed().await;
}

#[tokio::test]
async fn who_does_not_take_the_welcome_leaves_nothing_behind() {
    let timeout = Duration::from_millis(200);
    let server = Server::start_with(|config| config.clients.hello_timeout = timeout).await;
    let takes_nothing = |transport: &mut quinn::TransportConfig| {
        transport.stream_receive_window(0_u32.into());
    };
    let (ca, admin) = (server.identity.ca(), server.admin());
    let stranger =
        Stranger::connect_with(server.node.client_addr(), &ca, Some(&admin), ALPN_CLIENT, takes_nothing).await;
    let stranger = stranger.expect("connects");
    let mut lane = stranger.open().await;
    lane.tell(0, &hello()).await;
    assert_eq!(closed_with(&stranger.closed().await), Some(CloseCode::HelloTimeout));
    let mut client = server.client().await;
    assert_eq!(client.connections_of("admin").await, 1, "the one that asks");
}

#[tokio::test]
async fn a_client_that_expects_another_cluster_is_told_so() {
    let server = Server::start().await;
    let admin = server.admin();
    let stranger =
        Stranger::connect(server.node.client_addr(), &admin.ca, Some(&admin), ALPN_CLIENT).await.expect("connects");
    let mut control = stranger.open().await;
    let mut wrong = hello();
    wrong.cluster = Some(ClusterId([9; 16]));
    control.tell(1, &wrong).await;
    assert_eq!(control.recv.refusal().await.code, ErrorCode::ClusterMismatch);
    assert_eq!(closed_with(&stranger.closed().await), Some(CloseCode::ClusterMismatch));
}

#[tokio::test]
async fn the_servers_own_namespace_cannot_be_chosen() {
    let server = Server::start().await;
    let admin = server.admin();
    let stranger =
        Stranger::connect(server.node.client_addr(), &admin.ca, Some(&admin), ALPN_CLIENT).await.expect("connects");
    let mut control = stranger.open().await;
    let mut wrong = hello();
    wrong.namespace = ".system".to_owned();
    control.tell(1, &wrong).await;
    assert_eq!(control.recv.refusal().await.code, ErrorCode::InvalidName);
}

#[tokio::test]
async fn a_session_is_resumed_by_its_own_identity_only() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let session = client.open_session(10_000).await;
    let mut again = hello();
    again.session = Some(session);
    let resumed = Client::greet(server.node.client_addr(), &server.admin(), again.clone()).await;
    assert!(matches!(resumed.welcome.session, Some(SessionReply::Resumed(resumed)) if resumed.ttl_ms == 10_000));

    let other = crate::identities::enrolled(&server, &mut client, "other").await;
    let stolen = Client::greet(server.node.client_addr(), &other, again.clone()).await;
    assert_eq!(stolen.welcome.session, Some(SessionReply::Expired));

    again.session = Some(hither_protocol::SessionId(12345));
    let unknown = Client::greet(server.node.client_addr(), &server.admin(), again).await;
    assert_eq!(unknown.welcome.session, Some(SessionReply::Expired));
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let server = Server::start_with(|config| config.clients.connections_max = 1).await;
    let mut first = server.client().await;
    let admin = server.admin();
    let second =
        Stranger::connect(server.node.client_addr(), &admin.ca, Some(&admin), ALPN_CLIENT).await.expect("connects");
    assert_eq!(closed_with(&second.closed().await), Some(CloseCode::TooManyConnections));
    first.is_undisturbed().await;
}
