//! What the runner does to relays, servers and processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use hither::{Enrolment, Role};
use hither_tests::relay::{Relay, Rules, Way};
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::scenario::FAULTS;
use crate::stage::Stage;

type Args = Map<String, Value>;

/// Whether a name stands for something that the runner does.
pub(crate) fn is_fault(actor: &str) -> bool {
    FAULTS.contains(&actor)
}

/// The relays of a run, by the actor that each is for.
#[derive(Default)]
pub(crate) struct Relays(BTreeMap<String, Relay>);

impl Relays {
    /// Puts one between an actor and the server.
    pub(crate) fn add(&mut self, actor: &str, server: SocketAddr, seed: usize) -> std::io::Result<()> {
        self.0.insert(actor.to_owned(), Relay::start(server, seed as u64)?);
        Ok(())
    }

    /// Where an actor finds the server.
    pub(crate) fn address(&self, actor: &str) -> Option<SocketAddr> {
        self.0.get(actor).map(Relay::addr)
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.0.values().for_each(Relay::heal);
    }

    /// Those that a step means: one actor's, or all.
    fn meant(&self, args: &Args) -> Result<Vec<&Relay>, String> {
        match args.get("actor").and_then(Value::as_str) {
            None => Ok(self.0.values().collect()),
            Some(actor) => Ok(vec![self.0.get(actor).ok_or_else(|| format!("{actor} has no relay"))?]),
        }
    }
}

/// Does something; returns what is to be said of it.
pub(crate) async fn carry_out(stage: &mut Stage<'_>, who: &str, op: &str, args: &Args) -> Result<Value, String> {
    match who {
        "relay" => relay(&stage.relays, op, args),
        "server" => server(stage, op, args).await,
        _ => process(stage, op, args).await,
    }
}

fn relay(relays: &Relays, op: &str, args: &Args) -> Result<Value, String> {
    let meant = relays.meant(args)?;
    let mut swallowed = 0;
    for relay in meant {
        match op {
            "cut" => relay.cut(),
            "cut_up" => relay.cut_way(Way::Up),
            "cut_down" => relay.cut_way(Way::Down),
            "heal" => relay.heal(),
            "rebind" => relay.rebind(),
            "rules" => relay.rules_both(|rules| *rules = read_rules(args)),
            "counts" => {}
            _ => return Err(format!("a relay does not {op}")),
        }
        swallowed += relay.counts().swallowed;
    }
    Ok(json!({ "swallowed": swallowed }))
}

fn read_rules(args: &Args) -> Rules {
    let share = |name: &str| args.get(name).and_then(Value::as_f64).unwrap_or_default();
    let time = |name: &str| Duration::from_millis(args.get(name).and_then(Value::as_u64).unwrap_or_default());
    Rules {
        cut: false,
        loss: share("loss"),
        duplicates: share("duplicates"),
        reordered: share("reordered"),
        delay: time("delay_ms"),
        jitter: time("jitter_ms"),
    }
}

async fn server(stage: &mut Stage<'_>, op: &str, args: &Args) -> Result<Value, String> {
    let text = |name: &str| args.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing"));
    let server = &mut stage.server;
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    match op {
        "kill" => server.node.kill().await,
        "stop" => {
            let status = server.node.terminate().await;
            return Ok(json!({ "code": status.code() }));
        }
        "restart" => server.node.restart().await,
        "pause" => server.node.pause(),
        "resume" => server.node.resume(),
        "gauge" => {
            let value = server.gauge(text("name")?).await.map_err(|error| failed(&error))?;
            return Ok(json!({ "value": value }));
        }
        "enrol" => {
            let role = match args.get("role").and_then(Value::as_str) {
                Some("admin") => Role::Admin,
                _ => Role::Client,
            };
            let admin = server.admin().await.map_err(|error| failed(&error))?;
            let added = admin.client_add(text("name")?).role(role).await.map_err(|error| failed(&error))?;
            let forged = Enrolment { secret: vec![0; added.enrolment.secret.len()].into(), ..added.enrolment.clone() };
            return Ok(json!({ "url": added.enrolment.to_string(), "forged": forged.to_string() }));
        }
        "revoke" => {
            let admin = server.admin().await.map_err(|error| failed(&error))?;
            let revoked = admin.client_revoke(text("name")?).await.map_err(|error| failed(&error))?;
            return Ok(json!({ "revoked": revoked }));
        }
        _ => return Err(format!("a server does not {op}")),
    }
    Ok(json!({}))
}

async fn process(stage: &mut Stage<'_>, op: &str, args: &Args) -> Result<Value, String> {
    let actor = args.get("actor").and_then(Value::as_str).ok_or("actor is missing")?;
    let process = stage.process(actor).map_err(|fault| fault.to_string())?;
    match op {
        "signal" => {
            let signal = match args.get("signal").and_then(Value::as_str) {
                Some("int") => Signal::INT,
                Some("term") => Signal::TERM,
                Some("kill") => Signal::KILL,
                Some("stop") => Signal::STOP,
                Some("cont") => Signal::CONT,
                _ => return Err("signal is int, term, kill, stop or cont".to_owned()),
            };
            process.signal(signal);
            Ok(json!({}))
        }
        "hangup" => {
            process.hang_up();
            Ok(json!({}))
        }
        "ended" => {
            let (status, stderr) = process.ended().await.map_err(|error| error.to_string())?;
            Ok(json!({ "code": status.code(), "signal": status.signal(), "stderr": stderr }))
        }
        "stderr" => Ok(json!({ "text": process.stderr() })),
        _ => Err(format!("a process does not {op}")),
    }
}
