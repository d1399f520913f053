//! Keys, values, transactions and leases.

use serde_json::{Value, json};

use crate::home::{Home, until, write};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?} is no JSON: {error}"))
}

#[test]
fn a_value_of_any_bytes_comes_back_byte_for_byte() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(home.run_with(&["kv", "put", "stdin", "-"], &bytes).code, 0);
    assert_eq!(home.run(&["kv", "get", "stdin"]).out, bytes);
    write(&home.path("file"), &bytes);
    home.ok(&["kv", "put", "file", "@file"]);
    assert_eq!(home.run(&["kv", "get", "file"]).out, bytes);
    home.ok(&["kv", "put", "literal", "@file", "--literal"]);
    assert_eq!(home.ok(&["kv", "get", "literal"]), "@file");
    let entry = parse(&home.ok(&["kv", "get", "file", "-o", "json"]));
    assert!(entry["value_base64"].as_str().unwrap().starts_with("AAECAw"), "{entry}");
    assert_eq!(entry.get("value"), None);
}

#[test]
fn a_key_does_nothing_to_the_terminal_that_it_is_listed_on() {
    let home = Home::new();
    let _server = home.dev(&[]);
    home.ok(&["kv", "put", "a\x1b[2J\r\nb", "v"]);
    let listed = home.ok(&["kv", "ls", "-o", "table"]);
    let row = listed.lines().nth(1).unwrap_or_default();
    assert!(row.starts_with(r"a\u{1b}[2J\r\nb  v "), "{listed:?}");
    assert_eq!(listed.lines().count(), 2, "{listed:?}");
    let entry = parse(home.ok(&["kv", "ls", "-o", "jsonl"]).trim());
    assert_eq!(entry["key"], "a\u{1b}[2J\r\nb");
}

#[test]
fn an_entry_in_json_has_exactly_the_promised_fields() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let lease = home.ok(&["lease", "grant", "1h"]).trim().to_owned();
    let first = parse(&home.ok(&["kv", "put", "a/1", "one", "-o", "json"]))["revision"].as_u64().unwrap();
    let second = parse(&home.ok(&["kv", "put", "a/1", "two", "--lease", &lease, "-o", "json"]))["revision"].clone();
    let entry = json!({
        "key": "a/1", "value": "two", "create_revision": first, "mod_revision": second, "version": 2, "lease": lease,
    });
    assert_eq!(parse(&home.ok(&["kv", "get", "a/1", "-o", "json"])), entry);
    home.ok(&["kv", "put", "a/2", "x"]);
    home.ok(&["kv", "put", "b", "x"]);
    assert_eq!(parse(&home.ok(&["kv", "ls", "a/", "-o", "json"])).as_array().unwrap().len(), 2);
    let lines = home.ok(&["kv", "ls", "a/", "-o", "jsonl", "--reverse", "--limit", "1"]);
    assert_eq!(parse(lines.trim())["key"], "a/2");
    assert_eq!(home.ok(&["kv", "ls", "a/"]), "two\nx\n");
    assert_eq!(home.ok(&["kv", "ls", "a/", "--keys-only"]), "a/1\na/2\n");
    assert_eq!(home.ok(&["kv", "ls", "--count"]), "3\n");
    let bare = parse(home.ok(&["kv", "ls", "b", "--keys-only", "-o", "jsonl"]).trim());
    assert_eq!((bare.get("value"), bare["version"].as_u64()), (None, Some(1)));
}

#[test]
fn the_exit_code_says_what_happened() {
    let home = Home::new();
    let server = home.dev(&[]);
    let code = |arguments: &[&str]| {
        let ran = home.run(arguments);
        assert!(ran.code == 0 || ran.err.lines().count() >= 1, "a failure says why: {arguments:?}");
        ran.code
    };
    assert_eq!(code(&["kv", "put", "a", "1"]), 0);
    assert_eq!(code(&["kv", "get", "a", "--nonsense"]), 2);
    assert_eq!(code(&["kv", "put", "a", "@/no/such/file"]), 2);
    assert_eq!(code(&["kv", "put", "", "1"]), 2);
    assert_eq!(code(&["kv", "get", "none"]), 3);
    assert_eq!(code(&["lease", "info", "abc"]), 3);
    assert_eq!(code(&["kv", "put", "a", "2", "--if-absent"]), 4);
    assert_eq!(code(&["kv", "put", "a", "2", "--if-revision", "999"]), 4);
    let address = server.address();
    drop(server);
    let ran = home.run(&["kv", "get", "a", "--timeout", "300ms"]);
    assert_eq!(ran.code, 5, "{}", ran.err);
    assert!(ran.err.contains(&address), "it names the address: {}", ran.err);
    let stranger = Home::new();
    let ran = stranger.run(&["--server", &address, "kv", "get", "a"]);
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(ran.err.contains("hither client add"), "it names the command to run: {}", ran.err);
}

#[test]
fn deleting_nothing_succeeds_and_says_0() {
    let home = Home::new();
    let _server = home.dev(&[]);
    assert_eq!(home.ok(&["kv", "del", "none"]), "0\n");
    home.ok(&["kv", "put", "a/1", ""]);
    home.ok(&["kv", "put", "a/2", ""]);
    assert_eq!(home.ok(&["kv", "del", "a/"]), "0\n", "a delete does not guess that a prefix was meant");
    assert_eq!(home.ok(&["kv", "del", "a/", "--prefix"]), "2\n");
}

#[test]
fn a_transaction_takes_one_branch_and_says_which() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let take = ["kv", "txn", "--if", "absent lock", "--then", "put lock 'me too'", "--else", "get lock", "-o", "json"];
    let first = home.run(&take);
    assert_eq!(first.code, 0);
    let outcome = parse(&String::from_utf8(first.out).unwrap());
    assert_eq!(outcome["succeeded"], true);
    assert_eq!(outcome["results"][0]["op"], "put");
    let second = home.run(&take);
    assert_eq!(second.code, 4);
    let outcome = parse(&String::from_utf8(second.out).unwrap());
    assert_eq!(outcome["succeeded"], false);
    assert_eq!(outcome["results"][0]["entry"]["value"], "me too");
    let script = b"if = [\"version lock = 1\"]\nthen = [\"del lock\", \"put a 1\"]\n";
    assert_eq!(home.run_with(&["kv", "txn", "-"], script).code, 0);
    assert_eq!(home.run(&["kv", "get", "lock"]).code, 3);
    assert_eq!(home.ok(&["kv", "get", "a"]), "1");
}

#[test]
fn what_ls_prints_load_puts() {
    let home = Home::new();
    let _server = home.dev(&[]);
    home.ok(&["kv", "put", "a", "text"]);
    home.run_with(&["kv", "put", "b", "-"], b"\x00\xff");
    let lines = home.ok(&["kv", "ls", "-o", "jsonl"]);
    assert_eq!(home.run_with(&["-n", "copy", "kv", "load"], lines.as_bytes()).out, b"2\n");
    assert_eq!(home.run(&["-n", "copy", "kv", "get", "b"]).out, b"\x00\xff");
    assert_eq!(home.run(&["-n", "other", "kv", "get", "b"]).code, 3, "namespaces do not meet");
}

#[test]
fn of_a_long_load_every_line_is_put_and_of_a_key_the_last() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let line = |key: usize, value: usize| format!("{{\"key\":\"k{key:04}\",\"value\":\"{value}\"}}\n");
    let mut lines = (0..1_000).map(|number| line(number, number)).collect::<String>();
    lines += &line(999, 7);
    assert_eq!(home.run_with(&["kv", "load"], lines.as_bytes()).out, b"1001\n");
    assert_eq!(home.ok(&["kv", "ls", "k", "-o", "plain"]).lines().count(), 1_000);
    assert_eq!(home.ok(&["kv", "get", "k0999"]), "7");

    let broken = format!("{}{}not json\n{}", line(1, 70), line(2, 70), line(3, 70));
    let ran = home.run_with(&["kv", "load"], broken.as_bytes());
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("line 3: ") && ran.err.contains("the 2 before it were put"), "{}", ran.err);
    let unreadable = [line(4, 70).as_bytes(), b"\xff\n"].concat();
    let ran = home.run_with(&["kv", "load"], &unreadable);
    assert!(ran.err.contains("line 2: ") && ran.err.contains("the 1 before it were put"), "{}", ran.err);
    assert_eq!(home.ok(&["kv", "get", "k0004"]), "70");
    assert_eq!(["k0001", "k0002", "k0003"].map(|key| home.ok(&["kv", "get", key])), ["70", "70", "3"]);
}

#[test]
fn a_leading_slash_gets_a_hint_and_is_obeyed() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let ran = home.run(&["kv", "put", "/a", "1"]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.starts_with("hint: "), "{}", ran.err);
    assert_eq!(home.run(&["kv", "get", "a"]).code, 3);
    assert_eq!(home.ok(&["kv", "get", "/a"]), "1");
}

#[test]
fn a_lease_takes_its_keys_along() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let lease = home.ok(&["lease", "grant", "1h"]).trim().to_owned();
    home.ok(&["kv", "put", "mine", "1", "--lease", &lease]);
    assert_eq!(home.ok(&["lease", "info", &lease]), "mine\n");
    assert!(home.ok(&["lease", "ls"]).lines().any(|line| line == lease));
    home.ok(&["lease", "renew", &lease]);
    assert_eq!(home.ok(&["lease", "revoke", &lease]), "1\n");
    assert_eq!(home.run(&["kv", "get", "mine"]).code, 3);
    let short = home.ok(&["lease", "grant", "1s"]).trim().to_owned();
    home.ok(&["kv", "put", "brief", "1", "--lease", &short]);
    until("an unrenewed lease ends", || home.run(&["kv", "get", "brief"]).code == 3);
}

#[test]
fn an_instance_comes_and_goes() {
    let home = Home::new();
    let _server = home.dev(&[]);
    home.ok(&["svc", "register", "api", "--id", "n1", "--endpoint", "10.0.0.5:80", "--tag", "v1", "--permanent"]);
    let listed = parse(&home.ok(&["svc", "ls", "api", "-o", "json"]));
    assert_eq!(listed[0]["endpoints"][0], json!({ "scheme": "tcp", "host": "10.0.0.5", "port": 80 }));
    assert_eq!(listed[0]["tags"][0], "v1");
    home.ok(&["svc", "deregister", "api", "n1"]);
    assert_eq!(home.run(&["svc", "deregister", "api", "n1"]).code, 3);
    assert_eq!(home.ok(&["svc", "ls", "api"]), "");
    // Held for as long as the command runs.
    let mut held =
        crate::home::Running::start(home.command(&["svc", "register", "api", "--id", "n2", "--endpoint", "a:1"]));
    assert_eq!(held.line(), "services/api/n2");
    assert_eq!(home.ok(&["svc", "ls", "api"]), "n2\n");
    assert_eq!(held.terminate(), 0);
    assert_eq!(home.ok(&["svc", "ls", "api"]), "");
}
