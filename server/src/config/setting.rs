//! The table of settings.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::units::{parse_bytes, parse_duration, show_bytes, show_duration};
use super::{Config, LogFormat};
use crate::engine::Profile;

/// One setting.
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// What it is, and why its default is what it is.
    why: &'static str,
    /// Reads its value; the error says what it must be.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// Its value as it stands in the file.
    show: fn(&Config) -> String,
}

impl Setting {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

/// A bound without which the node would not work, and one beyond which it would not be safe.
fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("a number from {least} to {most}"))
}

fn between(text: &str, least: &str, most: &str) -> Result<std::time::Duration, String> {
    let duration = parse_duration(text)?;
    if duration < parse_duration(least)? || duration > parse_duration(most)? {
        return Err(format!("a time from {least} to {most}"));
    }
    Ok(duration)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address and a port, such as `127.0.0.1:7400` or `[::]:7400`".to_owned())
}

fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

macro_rules! settings {
    ($($section:literal $key:literal $why:literal
        |$config:ident, $text:ident| $set:expr, $show:expr;)+) => {
        pub(super) const SETTINGS: &[Setting] = &[$(Setting {
            section: $section,
            key: $key,
            why: $why,
            set: |$config, $text| { $set; Ok(()) },
            show: |$config| $show,
        }),+];
    };
}

settings! {
    "node" "data"
    "The data directory. It is made at the first start and belongs to one node for ever."
    |config, text| config.node.data = if text.is_empty() { return Err("a path".to_owned()) } else { PathBuf::from(text) },
        quoted(config.node.data.display());

    "node" "listen"
    "Where clients are listened for: QUIC, so UDP. Loopback, so that nobody is reached by accident; `0.0.0.0:7400` for\nall interfaces, and then set `advertise`."
    |config, text| config.node.listen = address(text)?, quoted(config.node.listen);

    "node" "advertise"
    "What clients are told to connect to, `host:port`. Empty for the address that is listened on, which is of no use to\nother machines if that is 0.0.0.0."
    |config, text| config.node.advertise = advertised(text)?, quoted(&config.node.advertise);

    "clients" "connections_max"
    "Most client connections at once. Each costs about 40 KiB."
    |config, text| config.clients.connections_max = number(text, 1, 1_000_000)?, config.clients.connections_max.to_string();

    "clients" "requests_in_flight_max"
    "Most requests of one connection that are worked on at once; more stay unread until one is answered. As many as a\nsession remembers outcomes."
    |config, text| config.clients.requests_in_flight_max = number(text, 1, 65_536)?,
        config.clients.requests_in_flight_max.to_string();

    "clients" "handshake_timeout"
    "How long a TLS handshake may take: five round trips over the worst link that anyone still uses."
    |config, text| config.clients.handshake_timeout = between(text, "100ms", "60s")?,
        quoted(show_duration(config.clients.handshake_timeout));

    "clients" "hello_timeout"
    "How long the first message may take after the handshake. A client sends it at once."
    |config, text| config.clients.hello_timeout = between(text, "100ms", "60s")?,
        quoted(show_duration(config.clients.hello_timeout));

    "clients" "idle_timeout"
    "How long a connection may be silent before it is given up. Longer than a client's stall should cost it: making all\nconnections anew at once is worse than keeping dead ones for a while."
    |config, text| config.clients.idle_timeout = between(text, "2s", "10m")?,
        quoted(show_duration(config.clients.idle_timeout));

    "clients" "beat_interval"
    "Between two beats, which tell a client that its watches are current. A client that misses three moves elsewhere."
    |config, text| config.clients.beat_interval = between(text, "50ms", "10s")?,
        quoted(show_duration(config.clients.beat_interval));

    "clients" "drain_timeout"
    "How long a shutdown waits for requests under way."
    |config, text| config.clients.drain_timeout = between(text, "0s", "10m")?,
        quoted(show_duration(config.clients.drain_timeout));

    "admin" "listen"
    "Where health and metrics are served: plain HTTP, so on loopback only; `off` for not at all."
    |config, text| config.admin.listen = loopback_or_off(text)?,
        quoted(config.admin.listen.map_or_else(|| "off".to_owned(), |address| address.to_string()));

    "raft" "profile"
    "Election times. `lan` (heartbeat 25 ms, election 75-100 ms) for nodes in one place with disks that sync in a few\nmilliseconds; `slow` (250 ms, 1.5-2.5 s) for others. The same on all nodes."
    |config, text| config.raft.profile = match text {
        "lan" => Profile::Lan,
        "slow" => Profile::Slow,
        _ => return Err("`lan` or `slow`".to_owned()),
    }, quoted(match config.raft.profile { Profile::Lan => "lan", Profile::Slow => "slow" });

    "raft" "queue_max"
    "Proposals that may wait for the log before clients are told that the server is busy: a tenth of a second of a full\nload."
    |config, text| config.raft.queue_max = number(text, 1, 1_000_000)?, config.raft.queue_max.to_string();

    "raft" "entries_in_flight_max"
    "Log entries under way at once, each of up to 512 operations: enough to keep a disk busy while the next is filled."
    |config, text| config.raft.entries_in_flight_max = number(text, 1, 1_024)?,
        config.raft.entries_in_flight_max.to_string();

    "raft" "patience"
    "How long a write or a fresh read waits for agreement. Clients wait 5 s by default."
    |config, text| config.raft.patience = between(text, "100ms", "60s")?, quoted(show_duration(config.raft.patience));

    "raft" "snapshot_entries"
    "Entries of the log after which the state on disk is made to catch up, so that older ones can go; 256 MiB of them do the\nsame. A restart replays no more."
    |config, text| config.raft.snapshot_entries = number(text, 10, 10_000_000)? as u64, config.raft.snapshot_entries.to_string();

    "raft" "log_entries_kept"
    "Entries that stay for other nodes to catch up from, or 64 MiB of them; who is further behind is sent the whole state."
    |config, text| config.raft.log_entries_kept = number(text, 10, 10_000_000)? as u64, config.raft.log_entries_kept.to_string();

    "state" "bytes_max"
    "Most bytes of keys and values. They are kept in memory; beyond this puts are refused and deletes still work."
    |config, text| config.state.bytes_max = parse_bytes(text)?, quoted(show_bytes(config.state.bytes_max));

    "state" "disk_reserve"
    "Bytes of disk that must stay free, or puts are refused: room to compact, and to delete."
    |config, text| config.state.disk_reserve = parse_bytes(text)?, quoted(show_bytes(config.state.disk_reserve));

    "state" "persist_interval"
    "How often the state on disk catches up with the one in memory. Only the time of a restart depends on it: the log has\neverything."
    |config, text| config.state.persist_interval = between(text, "1ms", "60s")?,
        quoted(show_duration(config.state.persist_interval));

    "state" "flush_interval"
    "Longest time that what was written there stays volatile; 16 MiB of it are made durable at once. What is volatile is\ntaken from the log again after a crash."
    |config, text| config.state.flush_interval = between(text, "10ms", "10m")?,
        quoted(show_duration(config.state.flush_interval));

    "watch" "history_bytes_max"
    "Most bytes of history kept in memory for watchers that were away. Beyond it the oldest goes, and who needs it is sent\nthe difference instead."
    |config, text| config.watch.history_bytes_max = parse_bytes(text)?,
        quoted(show_bytes(config.watch.history_bytes_max));

    "watch" "history_age_max"
    "The oldest history kept: longer than a deployment keeps a client away."
    |config, text| config.watch.history_age_max = between(text, "1s", "24h")?,
        quoted(show_duration(config.watch.history_age_max));

    "watch" "trim_interval"
    "How often it is looked whether there is more history than that. Each time that there is, the log takes one entry."
    |config, text| config.watch.trim_interval = between(text, "10ms", "60s")?,
        quoted(show_duration(config.watch.trim_interval));

    "log" "level"
    "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,hither_server::session=debug`."
    |config, text| config.log.level = if text.is_empty() { return Err("a level".to_owned()) } else { text.to_owned() },
        quoted(&config.log.level);

    "log" "format"
    "`text` for people, `json` for an object per line."
    |config, text| config.log.format = match text {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => return Err("`text` or `json`".to_owned()),
    }, quoted(match config.log.format { LogFormat::Text => "text", LogFormat::Json => "json" });
}

fn advertised(text: &str) -> Result<String, String> {
    let expected = || "a host and a port, such as `node1.example.org:7400`".to_owned();
    if text.is_empty() {
        return Ok(String::new());
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let named = !host.is_empty() && !host.contains(char::is_whitespace) && host.len() <= 255;
    if !named || port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(expected());
    }
    if matches!(host, "0.0.0.0" | "[::]") {
        return Err("the address of one machine, which nobody can connect to that way".to_owned());
    }
    Ok(text.to_owned())
}

fn loopback_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let address = address(text)?;
    if !address.ip().is_loopback() {
        return Err(
            "a loopback address, since it is served without encryption; use a proxy to reach it from elsewhere"
                .to_owned(),
        );
    }
    Ok(Some(address))
}

pub(super) fn example(config: &Config) -> String {
    let mut out = String::from(
        "# Every setting of a Hither node, with its default. Each can also be set in the environment, as\n\
         # HITHER_<SECTION>_<KEY> (such as HITHER_NODE_LISTEN), which wins over this file; flags win over both.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let _ = write!(out, "\n[{section}]\n");
        } else {
            out.push('\n');
        }
        for line in setting.why.lines() {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "{} = {}", setting.key, (setting.show)(config));
    }
    out
}
