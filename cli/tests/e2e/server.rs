//! `hither dev`, `serve` and `cluster init`.

use crate::home::{Home, Server, write};

#[test]
fn the_second_on_a_directory_is_told_in_one_sentence_who_holds_it() {
    let home = Home::new();
    let server = home.dev(&[]);
    let ran = home.run(&["dev", "--port", "0"]);
    assert_eq!(ran.code, 75);
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(last.contains("hither-data is in use by process"), "{}", ran.err);
    assert!(last.contains(&server.id().to_string()) && last.contains("--data"), "{}", ran.err);
}

#[test]
fn the_second_on_a_port_is_told_in_one_sentence_who_holds_it() {
    let home = Home::new();
    let server = home.dev(&[]);
    let ran = home.run(&["dev", "--data", "other", "--listen", &server.address(), "--admin", "127.0.0.1:0"]);
    assert_eq!(ran.code, 75, "{}", ran.err);
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(last.contains("/udp is in use by process") && last.contains(&server.id().to_string()), "{}", ran.err);
    let admin = server.field("admin");
    let ran = home.run(&["dev", "--data", "third", "--port", "0", "--admin", admin.trim_start_matches("http://")]);
    assert_eq!(ran.code, 75, "{}", ran.err);
    assert!(ran.err.contains("/tcp is in use by process"), "{}", ran.err);
}

#[test]
fn a_server_never_replaces_the_context_of_another() {
    let home = Home::new();
    let first = home.dev(&["--port", "0", "--data", "first"]);
    assert_eq!(first.field("context"), "dev");
    let second = home.dev(&["--port", "0", "--data", "second"]);
    assert_eq!(second.field("context"), "dev-2");
    home.ok(&["kv", "put", "where", "first"]);
    home.ok(&["--context", "dev-2", "kv", "put", "where", "second"]);
    assert_eq!(home.ok(&["kv", "get", "where"]), "first");
    // Its own it takes again, at another port.
    drop((first, second));
    let first = home.dev(&["--port", "0", "--data", "first"]);
    assert_eq!(first.field("context"), "dev");
    assert_eq!(home.ok(&["kv", "get", "where"]), "first");
}

#[test]
fn what_was_acknowledged_is_there_after_a_stop_and_after_a_kill() {
    let home = Home::new();
    let mut server = home.dev(&[]);
    home.ok(&["kv", "put", "a", "1"]);
    assert_eq!(server.process.terminate(), 0, "asked to stop, it ends well");
    let mut server = home.dev(&[]);
    assert_eq!(home.ok(&["kv", "get", "a"]), "1");
    let revision: u64 = home.ok(&["kv", "put", "a", "2"]).trim().parse().unwrap();
    server.process.child.kill().unwrap();
    server.process.child.wait().unwrap();
    let _server = home.dev(&[]);
    assert_eq!(home.ok(&["kv", "get", "a"]), "2");
    let next: u64 = home.ok(&["kv", "put", "a", "3"]).trim().parse().unwrap();
    assert!(next > revision, "no revision is used twice");
}

#[test]
fn serve_makes_no_node_out_of_an_empty_directory() {
    let home = Home::new();
    let example = home.ok(&["serve", "--example-config"]);
    write(&home.path("hither.toml"), example.as_bytes());
    let listen = ["--config", "hither.toml", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let ran = home.run(&[&["serve"], &listen[..]].concat());
    assert_eq!(ran.code, 78);
    assert!(ran.err.contains("hither cluster init"), "{}", ran.err);
    assert!(!home.path("hither-data").exists(), "nothing was made");
    home.ok(&["cluster", "init", "--config", "hither.toml"]);
    assert_eq!(home.run(&["cluster", "init", "--config", "hither.toml"]).code, 78, "not twice");
    let server = Server::start(home.command(&[&["serve"], &listen[..]].concat()));
    assert_eq!(server.field("context"), "serve");
    home.ok(&["kv", "put", "a", "1"]);
    assert!(home.ok(&["status"]).contains("this node"));
}

#[test]
fn an_unknown_setting_is_named_with_its_line_and_the_nearest_one() {
    let home = Home::new();
    write(&home.path("hither.toml"), b"[node]\nlisten = \"127.0.0.1:0\"\nadvertize = \"a:1\"\n");
    let ran = home.run(&["serve", "--config", "hither.toml"]);
    assert_eq!(ran.code, 78);
    for part in ["hither.toml:3", "node.advertize", "node.advertise"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

#[test]
fn an_address_that_is_none_has_to_be_advertised_as_another() {
    let home = Home::new();
    let ran = home.run(&["dev", "--listen", "0.0.0.0:0"]);
    assert_eq!(ran.code, 78);
    assert!(ran.err.contains("--advertise"), "{}", ran.err);
}

#[test]
fn a_directory_of_a_newer_format_is_left_alone() {
    let home = Home::new();
    drop(home.dev(&[]));
    let ident = home.path("hither-data/IDENT");
    let text = std::fs::read_to_string(&ident).unwrap();
    let newer = text.replacen("hither-data 1", "hither-data 99", 1);
    assert_ne!(newer, text);
    write(&ident, newer.as_bytes());
    let ran = home.run(&["dev", "--port", "0"]);
    assert_eq!(ran.code, 76, "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&ident).unwrap(), newer);
}

#[test]
fn completion_is_printed_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(home.ok(&["completion", shell]).contains("hither"), "{shell}");
    }
}

#[test]
fn bench_measures_and_cleans_up() {
    let home = Home::new();
    let _server = home.dev(&[]);
    for load in ["put", "get", "watch"] {
        let out = home.ok(&["bench", load, "--duration", "200ms", "--in-flight", "4", "--keys", "10", "-o", "json"]);
        let outcome: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(outcome["load"], load);
        assert!(outcome["operations"].as_u64() > Some(0) && outcome["errors"] == 0, "{outcome}");
        assert!(outcome["p50_us"].as_u64() <= outcome["p99_us"].as_u64());
    }
    assert_eq!(home.ok(&["kv", "ls", "--count"]), "0\n");
}

/// A build could lose the settings without any other sign: jemalloc goes on without those it does not find.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn the_allocator_has_its_settings() {
    let home = Home::new();
    let told = home.command(&["--version"]).env("MALLOC_CONF", "stats_print:true").output().unwrap();
    let told = String::from_utf8(told.stderr).unwrap();
    for setting in ["opt.narenas: 4", "opt.tcache_max: 4096", "opt.dirty_decay_ms: 1000", "opt.background_thread: true"]
    {
        assert!(told.contains(setting), "{setting} is not in {told}");
    }
}
