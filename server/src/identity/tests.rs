use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_data_directory_keeps_its_identity() {
    let data = tempfile::tempdir().expect("a directory");
    assert!(open(data.path()).expect("opens").is_none());
    let first = initialise(data.path()).expect("is made");
    let again = initialise(data.path()).expect("opens");
    assert_eq!(first.cluster(), again.cluster());
    assert_eq!(first.ca(), again.ca());
    assert_eq!(first.admin().expect("reads").certificate, again.admin().expect("reads").certificate);
}

#[test]
fn nobody_else_can_read_the_keys() {
    let data = tempfile::tempdir().expect("a directory");
    initialise(data.path()).expect("is made");
    let folder = data.path().join(FOLDER);
    assert_eq!(fs::metadata(&folder).expect("is there").permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&folder).expect("lists") {
        let entry = entry.expect("lists");
        assert_eq!(entry.metadata().expect("is there").permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    fs::set_permissions(folder.join("ca.key"), fs::Permissions::from_mode(0o644)).expect("opens it up");
    assert!(matches!(open(data.path()), Err(IdentityError::TooOpen { .. })));
}

#[test]
fn a_folder_of_a_newer_version_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    initialise(data.path()).expect("is made");
    let about = data.path().join(FOLDER).join("about.toml");
    let text = fs::read_to_string(&about).expect("reads").replace("format = 1", "format = 2");
    fs::write(&about, text).expect("writes");
    assert!(matches!(open(data.path()), Err(IdentityError::Newer { format: 2, .. })));
}

#[test]
fn certificates_name_who_they_are_for() {
    let data = tempfile::tempdir().expect("a directory");
    let identity = initialise(data.path()).expect("is made");
    let admin = Principal::of(&identity.admin().expect("reads").certificate).expect("names someone");
    assert_eq!((admin.kind, admin.name.as_str(), admin.generation), (Kind::Admin, FIRST_ADMIN, 1));
    assert_eq!(admin.cluster, identity.cluster());
    let expected = u64::try_from(CERTIFICATE_VALID.as_millis()).expect("fits");
    assert!(admin.expires_at.0.abs_diff(now().0 + expected) < 60_000);
}

#[test]
fn a_renewed_certificate_is_shown_from_the_next_handshake_on_and_after_a_restart() {
    let data = tempfile::tempdir().expect("a directory");
    let identity = initialise(data.path()).expect("is made");
    let Inner { folder, node, authority, server, .. } = &*identity.inner;
    let before = server.chain();
    server.renew(folder, authority, *node).expect("is renewed");
    let after = server.chain();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1], "the CA stays");
    assert_eq!(open(data.path()).expect("opens").expect("is there").inner.server.chain(), after);
    let third = u64::try_from(CERTIFICATE_VALID.as_millis() / 3).expect("fits");
    assert!(is_due(UnixMillis(now().0 + third - 60_000)));
    assert!(!is_due(UnixMillis(now().0 + third + 60_000)));
}

#[test]
fn a_request_decides_nothing_but_the_key() {
    let data = tempfile::tempdir().expect("a directory");
    let identity = initialise(data.path()).expect("is made");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut wish = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).expect("params");
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = wish.serialize_request(&key).expect("a request");
    let issued = identity
        .authority()
        .sign_client(csr.der(), hither_protocol::message::Role::Client, "web", 3)
        .expect("is signed");
    let principal = Principal::of(&issued.certificate).expect("names someone");
    assert_eq!((principal.kind, principal.name.as_str(), principal.generation), (Kind::Client, "web", 3));
    let text = String::from_utf8_lossy(&issued.certificate).into_owned();
    assert!(!text.contains("evil"));
    assert!(identity.authority().sign_client(b"nonsense", hither_protocol::message::Role::Client, "web", 1).is_err());
}
