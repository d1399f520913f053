use std::time::{SystemTime, UNIX_EPOCH};

use hither_protocol::error::CloseCode;
use hither_protocol::message::{ClientAdd, ClientAddReply, ClientList, ClientRevoke, RenewIdentity, Reply, Role};
use hither_protocol::{ALPN_CLIENT, ErrorCode, Refusal};
use hither_server::identity::Credentials;

use crate::harness::{Client, Server, Stranger, closed_with, enrol, hello, until};

async fn add(admin: &mut Client, name: &str) -> Result<ClientAddReply, Refusal> {
    add_for(admin, name, 60_000).await
}

async fn add_for(admin: &mut Client, name: &str, valid_ms: u64) -> Result<ClientAddReply, Refusal> {
    match admin.call(ClientAdd { name: name.to_owned(), role: Role::Client, valid_ms }).await? {
        (_, Reply::ClientAdd(reply)) => Ok(reply),
        other => panic!("{other:?}"),
    }
}

async fn revoke(admin: &mut Client, name: &str) -> bool {
    match admin.call(ClientRevoke { name: name.to_owned() }).await {
        Ok((_, Reply::ClientRevoke(reply))) => reply.revoked,
        other => panic!("{other:?}"),
    }
}

fn key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key")
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    u64::try_from(now.as_millis()).expect("fits")
}

/// A new identity with a certificate.
pub async fn enrolled(server: &Server, admin: &mut Client, name: &str) -> Credentials {
    let added = add(admin, name).await.expect("is added");
    enrol(server.node.client_addr(), &server.identity.ca(), added.secret, &key()).await.expect("is enrolled")
}

#[tokio::test]
async fn an_enrolled_client_may_use_data_and_not_identities() {
    let server = Server::start().await;
    let mut admin = server.client().await;
    let web = enrolled(&server, &mut admin, "web").await;
    assert_eq!(web.name, "web");
    let mut client = Client::connect(server.node.client_addr(), &web).await;
    assert_eq!((client.welcome.name.as_str(), client.welcome.role), ("web", Role::Client));
    client.is_undisturbed().await;
    let refusal = add(&mut client, "more").await.expect_err("is refused");
    assert_eq!(refusal.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn a_secret_is_good_for_one_client() {
    let server = Server::start().await;
    let mut admin = server.client().await;
    let (address, ca) = (server.node.client_addr(), server.identity.ca());
    let added = add(&mut admin, "web").await.expect("is added");
    let first = key();
    enrol(address, &ca, added.secret.clone(), &first).await.expect("is enrolled");
    // The answer may have been lost: the same key may ask again, another one may not.
    enrol(address, &ca, added.secret.clone(), &first).await.expect("is enrolled");
    let refusal = enrol(address, &ca, added.secret, &key()).await.expect_err("is refused");
    assert_eq!(refusal.code, ErrorCode::EnrolmentInvalid);
    let refusal = enrol(address, &ca, vec![0; 32].into(), &key()).await.expect_err("is refused");
    assert_eq!(refusal.code, ErrorCode::EnrolmentInvalid);
}

#[tokio::test]
async fn a_secret_that_has_ended_is_refused_like_one_that_never_was() {
    let server = Server::start().await;
    let mut admin = server.client().await;
    let (address, ca) = (server.node.client_addr(), server.identity.ca());
    let added = add_for(&mut admin, "web", 1).await.expect("is added");
    until("the secret has ended", || unix_ms() >= added.expires_at.0).await;
    let ended = enrol(address, &ca, added.secret, &key()).await.expect_err("is refused");
    assert_eq!(ended.code, ErrorCode::EnrolmentInvalid);
    let unknown = enrol(address, &ca, vec![0; 32].into(), &key()).await.expect_err("is refused");
    assert_eq!(ended, unknown, "a guesser learns nothing");
    let another = add(&mut admin, "web").await.expect("nobody took the name");
    enrol(address, &ca, another.secret, &key()).await.expect("is enrolled");
}

#[tokio::test]
async fn a_name_is_added_once_until_it_is_revoked() {
    let server = Server::start().await;
    let mut admin = server.client().await;
    let (address, ca) = (server.node.client_addr(), server.identity.ca());
    let lost = add(&mut admin, "web").await.expect("is added");
    let found = add(&mut admin, "web").await.expect("a lost secret is replaced");
    let refusal = enrol(address, &ca, lost.secret, &key()).await.expect_err("is refused");
    assert_eq!(refusal.code, ErrorCode::EnrolmentInvalid);
    let old = enrol(address, &ca, found.secret, &key()).await.expect("is enrolled");
    assert_eq!(add(&mut admin, "web").await.expect_err("is refused").code, ErrorCode::AlreadyExists);
    assert!(revoke(&mut admin, "web").await);
    assert!(!revoke(&mut admin, "web").await);
    let new = enrolled(&server, &mut admin, "web").await;
    Client::connect(address, &new).await.is_undisturbed().await;
    // The certificate of before does not come back to life with the name.
    let stranger = Stranger::connect(address, &ca, Some(&old), ALPN_CLIENT).await.expect("connects");
    let mut control = stranger.open().await;
    control.tell(1, &hello()).await;
    assert_eq!(control.recv.refusal().await.code, ErrorCode::IdentityRevoked);
    assert_eq!(closed_with(&stranger.closed().await), Some(CloseCode::IdentityRevoked));
    for name in ["", "Web", "-web", "a/b", &"a".repeat(64)] {
        assert_eq!(add(&mut admin, name).await.expect_err("is refused").code, ErrorCode::InvalidName, "{name}");
    }
}

#[tokio::test]
async fn revoking_closes_the_connections_of_an_identity_at_once() {
    let server = Server::start().await;
    let mut admin = server.client().await;
    let web = enrolled(&server, &mut admin, "web").await;
    let mut client = Client::connect(server.node.client_addr(), &web).await;
    client.is_undisturbed().await;
    assert!(revoke(&mut admin, "web").await);
    assert_eq!(closed_with(&client.stranger.closed().await), Some(CloseCode::IdentityRevoked));
    let again = Stranger::connect(server.node.client_addr(), &web.ca, Some(&web), ALPN_CLIENT).await.expect("connects");
    let mut control = again.open().await;
    control.tell(1, &hello()).await;
    assert_eq!(control.recv.refusal().await.code, ErrorCode::IdentityRevoked);
    admin.is_undisturbed().await;
}

#[tokio::test]
async fn identities_are_listed_with_their_connections() {
    let server = Server::start().await;
    let mut admin = server.client().await;
    let web = enrolled(&server, &mut admin, "web").await;
    add(&mut admin, "waiting").await.expect("is added");
    let _client = Client::connect(server.node.client_addr(), &web).await;
    let clients = match admin.call(ClientList {}).await {
        Ok((_, Reply::ClientList(list))) => list.clients,
        other => panic!("{other:?}"),
    };
    let seen: Vec<_> =
        clients.iter().map(|client| (client.name.as_str(), client.enrolled, client.connections)).collect();
    assert_eq!(seen, [("admin", true, 1), ("waiting", false, 0), ("web", true, 1)]);
    assert_eq!(clients[2].expires_at, Some(web.expires_at));
}

#[tokio::test]
async fn a_client_renews_its_certificate() {
    let server = Server::start().await;
    let mut admin = server.client().await;
    let web = enrolled(&server, &mut admin, "web").await;
    let mut client = Client::connect(server.node.client_addr(), &web).await;
    let key = key();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let renewed = match client.call(RenewIdentity { csr: csr.der().to_vec().into() }).await {
        Ok((_, Reply::RenewIdentity(reply))) => reply,
        other => panic!("{other:?}"),
    };
    let credentials = Credentials {
        name: "web".to_owned(),
        certificate: renewed.certificate,
        key: key.serialize_der().into(),
        ca: renewed.ca,
        expires_at: renewed.expires_at,
    };
    let mut again = Client::connect(server.node.client_addr(), &credentials).await;
    assert_eq!(again.welcome.name, "web");
    again.is_undisturbed().await;
    client.is_undisturbed().await;
}
