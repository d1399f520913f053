//! `hither client`.

use crate::home::Home;

#[test]
fn one_string_lets_another_user_in_until_it_is_revoked() {
    let home = Home::new();
    let _server = home.dev(&[]);
    home.ok(&["kv", "put", "a", "1"]);
    let enrolment = home.ok(&["client", "add", "laptop"]).trim().to_owned();
    assert!(enrolment.starts_with("hither-enroll://"), "{enrolment}");

    let other = Home::new();
    assert_eq!(other.ok(&["--server", &enrolment, "kv", "get", "a"]), "1");
    assert_eq!(other.ok(&["--server", &enrolment, "kv", "get", "a"]), "1", "the same string finds what it brought");
    let third = Home::new();
    let ran = third.run(&["--server", &enrolment, "kv", "get", "a"]);
    assert_eq!(ran.code, 6, "the secret works once: {}", ran.err);

    let ran = other.run(&["--server", &enrolment, "client", "add", "friend"]);
    assert_eq!(ran.code, 6, "a client is no admin: {}", ran.err);
    assert!(home.ok(&["client", "ls"]).lines().any(|name| name == "laptop"));
    home.ok(&["client", "revoke", "laptop"]);
    let ran = other.run(&["--server", &enrolment, "kv", "get", "a"]);
    assert_eq!(ran.code, 6, "{}", ran.err);
}
