//! `hither watch`.

use serde_json::Value;

use crate::home::{Home, Running, until};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?} is no JSON: {error}"))
}

#[test]
fn a_watch_begins_with_the_present_and_goes_on_with_every_change() {
    let home = Home::new();
    let _server = home.dev(&[]);
    home.ok(&["kv", "put", "a/1", "one"]);
    home.ok(&["kv", "put", "ab", "not below a/"]);
    let mut watch = Running::start(home.command(&["watch", "a/", "-o", "jsonl"]));
    let first = parse(&watch.line());
    assert_eq!((&first["type"], &first["key"], &first["value"]), (&"put".into(), &"a/1".into(), &"one".into()));
    home.ok(&["kv", "put", "a/2", "two"]);
    home.ok(&["kv", "del", "a/1"]);
    assert_eq!(parse(&watch.line())["key"], "a/2");
    let last = parse(&watch.line());
    assert_eq!((&last["type"], &last["key"]), (&"delete".into(), &"a/1".into()));
    assert!(last["mod_revision"].as_u64() > first["mod_revision"].as_u64());
    assert_eq!(watch.terminate(), 0, "a watch that is asked to stop ends well");
}

#[test]
fn from_a_revision_includes_it() {
    let home = Home::new();
    let _server = home.dev(&[]);
    home.ok(&["kv", "put", "a", "1"]);
    let from = home.ok(&["kv", "put", "a", "2"]).trim().to_owned();
    home.ok(&["kv", "put", "a", "3"]);
    assert_eq!(home.ok(&["watch", "a", "--from", &from, "--count", "2"]), "2\n3\n");
    assert_eq!(home.ok(&["watch", "a", "--count", "1"]), "3\n", "without it, the present");
}

#[test]
fn plain_prints_values_and_an_empty_line_for_what_is_gone() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let from = home.ok(&["kv", "put", "a", "1"]).trim().to_owned();
    home.ok(&["kv", "del", "a"]);
    assert_eq!(home.ok(&["watch", "a", "--from", &from, "--count", "2"]), "1\n\n");
}

#[test]
fn a_command_runs_for_each_event_in_order() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let from = home.ok(&["kv", "put", "a/b c", "value\n"]).trim().to_owned();
    home.ok(&["kv", "del", "a/b c"]);
    let command =
        r#"printf '%s|%s|%s|%s' "$HITHER_EVENT_TYPE" "$HITHER_EVENT_KEY" "$HITHER_EVENT_VERSION" "$(cat)"; echo"#;
    let out = home.ok(&["watch", "a/", "--from", &from, "--count", "2", "--exec", command]);
    assert_eq!(out, "put|a/b c|1|value\ndelete|a/b c||\n");
    let ran = home.run(&["watch", "a/", "--from", &from, "--count", "2", "--exec", "exit 7"]);
    assert_eq!(ran.code, 0, "the watch goes on after a command that fails");
    assert_eq!(ran.err.matches("--exec").count(), 2, "{}", ran.err);
}

#[test]
fn a_watch_goes_on_over_a_killed_server() {
    let home = Home::new();
    let mut server = home.dev(&[]);
    let mut watch = Running::start(home.command(&["watch", "a"]));
    home.ok(&["kv", "put", "a", "before"]);
    assert_eq!(watch.line(), "before");
    server.process.child.kill().unwrap();
    server.process.child.wait().unwrap();
    let admin = server.field("admin");
    let again = home.dev(&["--listen", &server.address(), "--admin", admin.trim_start_matches("http://")]);
    until("the server serves again", || home.run(&["kv", "put", "a", "after"]).code == 0);
    assert_eq!(watch.line(), "after");
    drop(again);
}

#[test]
fn a_reader_that_goes_away_ends_the_watch_quietly() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let from = home.ok(&["kv", "put", "a", "1"]).trim().to_owned();
    let mut watch = Running::start(home.command(&["watch", "a", "--from", &from]));
    assert_eq!(watch.line(), "1");
    watch.hang_up();
    // The writer notices at an event.
    until("the watch ends", || {
        home.ok(&["kv", "put", "a", "2"]);
        watch.ended()
    });
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_watch_that_sees_nothing_ends_with_its_timeout() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let ran = home.run(&["watch", "quiet", "--timeout", "1s"]);
    assert_eq!(ran.code, 124, "{}", ran.err);
}
