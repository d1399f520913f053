//! Where servers and identities come from: contexts, enrolment strings, renewal.

mod support;

use std::sync::Arc;

use hither::context::{Context, Contexts};
use hither::{Enrolment, ErrorCode};
use hither_protocol::{ALPN_CLIENT, ALPN_ENROLL};
use support::{Authority, CLUSTER, Heard, Server, soon};

fn enrolment(server: &Server, secret: &'static [u8]) -> Enrolment {
    Enrolment {
        endpoints: vec![server.address.to_string().parse().expect("an endpoint")],
        pin: server.authority.pin(),
        secret: secret.into(),
        cluster: CLUSTER,
        name: "reporting".to_owned(),
    }
}

#[tokio::test]
async fn without_an_identity_the_error_names_the_command_to_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let builder = hither::Client::builder().url("hither://127.0.0.1:1").contexts(Contexts::at(folder.path()));
    let error = builder.connect().await.expect_err("no identity");
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
    assert!(error.detail().contains("hither dev") && error.detail().contains("hither client add"), "{error}");
}

#[tokio::test]
async fn the_current_context_is_used_when_nothing_else_is_said() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let contexts = Contexts::at(folder.path().join("hither"));
    let context = Context {
        servers: vec![server.address.to_string().parse().expect("an endpoint")],
        namespace: "prod".parse().ok(),
        identity: server.authority.identity("me"),
        origin: Some("dev".to_owned()),
        enrolment: None,
    };
    contexts.save("here", &context).expect("saved");
    contexts.set_current("here").expect("set");
    // One that cannot be read, and is not asked for, is in nobody's way.
    std::fs::write(folder.path().join("hither/contexts/broken.toml"), "servers = 1").expect("written");
    let client = hither::Client::builder().contexts(contexts.clone()).connect().await.expect("a client");
    assert_eq!(client.options().namespace.as_str(), "prod");
    client.put("a", "v").await.expect("a put");
    // A URL that names its server finds it too, and overrides it.
    let url = format!("{}/other", server.url());
    let client = hither::Client::builder().url(url).contexts(contexts.clone()).connect().await.expect("a client");
    assert_eq!(client.options().namespace.as_str(), "other");
    assert_eq!(contexts.list().expect("a list"), ["broken", "here"]);
    contexts.remove("here").expect("removed");
    assert_eq!(contexts.current().expect("none"), None);
}

#[tokio::test]
async fn an_enrolment_string_works_once_and_from_then_on_by_itself() {
    let server = Server::start();
    server.add_secret(b"once");
    let folder = tempfile::tempdir().expect("a folder");
    let contexts = Contexts::at(folder.path().join("hither"));
    let line = enrolment(&server, b"once").to_string();
    for _ in 0..2 {
        let builder = hither::Client::builder().url(&line).contexts(contexts.clone());
        let client = soon("enrolment", builder.connect()).await.expect("a client");
        client.put("a", "v").await.expect("a put");
        client.close().await;
    }
    assert_eq!(contexts.list().expect("a list"), ["reporting"]);
    assert_eq!(contexts.current().expect("one").as_deref(), Some("reporting"));
    let (_, context) = contexts.load_current().expect("readable").expect("one");
    assert_eq!(context.identity.name(), "enrolled");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join("hither/contexts/reporting.pem");
        let mode = std::fs::metadata(path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the key is its owner's");
    }
    // On another machine, the string is worth nothing any more.
    let elsewhere = Contexts::at(folder.path().join("elsewhere"));
    let error = hither::Client::builder().url(&line).contexts(elsewhere).connect().await.expect_err("used");
    assert_eq!(error.code(), ErrorCode::EnrolmentInvalid);
}

#[tokio::test]
async fn an_enrolment_goes_to_no_server_but_the_one_that_its_pin_names() {
    let mut server = Server::start();
    server.add_secret(b"once");
    let folder = tempfile::tempdir().expect("a folder");
    let contexts = Contexts::at(folder.path());
    let mut pin = server.authority.pin();
    pin[31] ^= 1;
    let line = Enrolment { pin, ..enrolment(&server, b"once") }.to_string();
    let error = hither::Client::builder().url(line).contexts(contexts.clone()).connect().await.expect_err("another");
    assert_eq!(error.code(), ErrorCode::ClusterMismatch, "{error}");
    assert!(!error.to_string().contains("6f6e6365"), "the secret is in no error");
    assert_eq!(contexts.list().expect("a list"), [""; 0]);
    // Nor did the secret leave this machine: it is as good as before, and the server has not heard of it.
    let line = enrolment(&server, b"once").to_string();
    soon("enrolment", hither::Client::builder().url(line).contexts(contexts).connect()).await.expect("a client");
    for (heard, what) in [(Heard::Enrolment, "the second attempt"), (Heard::Hello, "who was enrolled by it")] {
        assert_eq!(soon(what, server.heard.recv()).await, Some(heard), "{what}");
    }
}

#[tokio::test]
async fn the_string_of_a_new_client_says_all_that_it_needs() {
    let server = Server::start();
    let client = server.client().connect().await.expect("a client");
    let added = client.client_add("reporting").await.expect("added");
    let expected = Enrolment { secret: b"a secret".as_slice().into(), ..enrolment(&server, b"") };
    assert_eq!(added.enrolment, expected);
    assert_eq!(added.enrolment.to_string().parse(), Ok(expected));
}

#[tokio::test]
async fn an_identity_is_renewed_after_two_thirds_of_its_time_and_kept() {
    // What is shown is near its end; what the server signs is fresh.
    let mut old = Authority::lasting(3_000, 600);
    let before = old.identity("tester");
    assert!(before.renew_at() < before.expires_at());
    old.lifetime = (0, 3_600);
    let authority = Arc::new(old);
    let server = Server::with(Arc::clone(&authority), &[ALPN_CLIENT, ALPN_ENROLL]);
    let folder = tempfile::tempdir().expect("a folder");
    let contexts = Contexts::at(folder.path());
    let context = Context {
        servers: vec![server.address.to_string().parse().expect("an endpoint")],
        namespace: None,
        identity: before.clone(),
        origin: None,
        enrolment: None,
    };
    contexts.save("here", &context).expect("saved");
    let client =
        hither::Client::builder().context("here").contexts(contexts.clone()).connect().await.expect("a client");
    let renewed = async {
        loop {
            let kept = contexts.load("here").expect("readable at any time").identity;
            if kept.expires_at() > before.expires_at() {
                return kept;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let kept = soon("the renewal", renewed).await;
    assert_eq!(kept.name(), "tester");
    // The client shows it at once, over a new connection, and nobody notices.
    let shown = async {
        while client.metrics().reconnects == 0 {
            client.put("a", "v").await.expect("a put");
        }
    };
    soon("the new connection", shown).await;
    client.put("a", "v").await.expect("a put");
}
