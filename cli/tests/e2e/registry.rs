//! Services on the command line: registered, found, changed, taken out, and run.

use crate::home::{Home, Running, until};
use serde_json::Value;

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_is_registered_is_found_changed_and_taken_out() {
    let home = Home::new();
    let _server = home.dev(&[]);
    assert_eq!(home.run(&["discover", "api"]).code, 5, "nobody is there");
    let register = ["svc", "register", "api", "--port", "8080", "--permanent", "--tag", "blue", "--id"];
    home.ok(&[&register[..], &["n1", "--zone", "a"]].concat());
    home.ok(&[&register[..], &["n2", "--zone", "b"]].concat());
    assert_eq!(home.ok(&["discover", "api"]), "http://127.0.0.1:8080\nhttp://127.0.0.1:8080\n");
    assert_eq!(home.ok(&["discover", "api", "--one", "--zone", "b"]), "http://127.0.0.1:8080\n");

    assert_eq!(home.ok(&["svc", "update", "api", "n1", "--weight", "0", "--meta", "team=red"]), "services/api/n1\n");
    assert_eq!(home.ok(&["svc", "drain", "api", "n2"]), "services/api/n2\n");
    let view = parse(&home.ok(&["discover", "api", "--tag", "blue", "-o", "json"]));
    assert_eq!((view["state"].as_str(), view["source"].as_str()), (Some("synced"), Some("live")), "{view}");
    assert!(view["age_ms"].as_u64().is_some_and(|age| age < 10_000), "{view}");
    assert_eq!(
        (view["instances"][0]["weight"].as_u64(), view["instances"][0]["metadata"]["team"].as_str()),
        (Some(0), Some("red"))
    );
    assert_eq!(view["instances"][1]["status"], "draining");
    assert_eq!(home.run(&["discover", "api", "--one"]).code, 5, "neither takes traffic");
    assert_eq!(home.run(&["discover", "api", "--wait", "1", "--timeout", "300ms"]).code, 124);
    assert_eq!(home.run(&["svc", "update", "api", "n3", "--zone", "c"]).code, 3);
    assert_eq!(home.run(&["svc", "update", "api", "n1"]).code, 2, "what is to change?");

    assert_eq!(home.run(&["svc", "deregister", "api", "n1", "--epoch", "1"]).code, 4, "another registration");
    home.ok(&["svc", "deregister", "api", "n1"]);
    let left = parse(&home.ok(&["kv", "get", "stopped/api/n1"]));
    assert!(left["stopped_at"].as_str().is_some_and(|at| at.starts_with("20")), "{left}");
    home.ok(&["kv", "put", "services/api/odd", "{}"]);
    let view = parse(&home.ok(&["discover", "api", "-o", "json"]));
    assert_eq!(view["invalid"][0]["key"], "services/api/odd");
    for name in ["Api", "a.b", "-a"] {
        assert_eq!(home.run(&["svc", "register", "--port", "1", "--permanent", "--", name]).code, 2, "{name}");
    }
}

#[test]
fn a_watch_of_a_service_tells_who_comes_and_goes() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let mut watch = Running::start(home.command(&["svc", "watch", "api", "--count", "3", "-o", "jsonl"]));
    home.ok(&["svc", "register", "api", "--id", "n1", "--port", "80", "--permanent"]);
    assert_eq!(parse(&watch.line())["type"], "up");
    home.ok(&["svc", "drain", "api", "n1"]);
    let changed = parse(&watch.line());
    assert_eq!((changed["type"].as_str(), changed["instance"]["status"].as_str()), (Some("changed"), Some("draining")));
    home.ok(&["svc", "deregister", "api", "n1"]);
    assert_eq!(parse(&watch.line())["type"], "down");
}

#[test]
fn a_command_is_registered_while_it_runs_and_its_end_is_passed_on() {
    let home = Home::new();
    let _server = home.dev(&[]);
    let there = |home: &Home| home.run(&["discover", "api"]).code == 0;
    let script = "trap 'echo asked; exit 7' TERM; echo begun; while :; do sleep 0.05; done";
    let mut running = Running::start(home.command(&["run", "--register", "api:8000", "--", "bash", "-c", script]));
    assert_eq!(running.line(), "begun");
    until("it is registered", || there(&home));
    assert_eq!(home.ok(&["discover", "api"]), "http://127.0.0.1:8000\n");
    assert_eq!(running.terminate(), 7, "the signal and the exit code are passed on");
    assert!(!there(&home), "it is deregistered when it ends");
    assert_eq!(home.ok(&["kv", "ls", "stopped/api/", "--count"]), "1\n", "and leaves behind when");

    let run = |command: &[&str]| home.run(&[&["run", "--register", "api:1", "--"], command].concat()).code;
    assert_eq!(run(&["no-such-command"]), 127);
    assert_eq!(run(&["/etc/hostname"]), 126);
    assert_eq!(run(&["true"]), 0);
    assert_eq!(run(&["bash", "-c", "exit 3"]), 3);
    assert_eq!(run(&["bash", "-c", "kill -9 $$"]), 128 + 9);
    assert_eq!(home.run(&["run", "--register", "Api:1", "--", "sleep", "60"]).code, 2, "the command is stopped again");
    assert!(!there(&home));
}
