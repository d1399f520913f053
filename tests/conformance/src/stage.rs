//! Everything that takes part in one run, and what must be left of it afterwards: nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cast::Cast;
use crate::driving::Process;
use crate::fault::Fault;
use crate::faults::Relays;
use crate::matching::{Matcher, brief};
use crate::scenario::{CLIENT, Scenario};
use crate::vars::Vars;
use crate::world::{Lane, Server, must};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(25);
/// What every client is patient with, unless its scenario says otherwise: a busy machine.
const PATIENCE: &str = "connect_timeout=20s&request_timeout=15s&";
/// After a run, until the server has forgotten what it had.
const SETTLED: Duration = Duration::from_secs(15);
/// Between two looks at what shall become so: no load, and far below what is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Everything that takes part in a run.
pub(crate) struct Stage<'a> {
    /// What is played.
    pub(crate) scenario: &'a Scenario,
    /// Where.
    pub(crate) server: Server,
    /// Between actors and server.
    pub(crate) relays: Relays,
    /// What answers were kept.
    pub(crate) vars: Vars,
    actors: BTreeMap<String, ActorHere>,
    namespace: String,
}

/// An actor of a run.
struct ActorHere {
    process: Arc<Process>,
    own: bool,
}

impl<'a> Stage<'a> {
    /// Starts what is not there yet and connects who is to be connected.
    ///
    /// # Errors
    /// If something does not start, or somebody is not connected.
    pub(crate) async fn set(
        lane: &mut Lane,
        scenario: &'a Scenario,
        cast: &Cast,
        run: usize,
    ) -> anyhow::Result<Stage<'a>> {
        let mut server = lane.server(scenario, run).await?;
        server.admin().await?;
        let mut actors = BTreeMap::new();
        let mut relays = Relays::default();
        let mut numbers = HashMap::new();
        for (name, actor) in &scenario.actors {
            let language = cast.0[name];
            let process = if actor.process {
                lane.new_driver(language).await?
            } else {
                let number: &mut usize = numbers.entry(language).or_default();
                *number += 1;
                lane.driver(language, *number).await?
            };
            // What an earlier run said is not this one's.
            let _ = process.stderr();
            if actor.relay {
                relays.add(name, server.node.addr(), run)?;
            }
            actors.insert(name.clone(), ActorHere { process, own: actor.process });
        }
        let namespace = format!("run{run}");
        let mut vars = Vars::default();
        vars.set("context", json!(server.context));
        vars.set("namespace", json!(namespace));
        vars.set("server", json!(server.node.addr().to_string()));
        let mut stage = Self { scenario, server, relays, vars, actors, namespace };
        stage.connect().await?;
        Ok(stage)
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        for (name, actor) in &self.scenario.actors {
            // Through a relay, the server's own address would be the way around it.
            let (address, learn) = match self.relays.address(name) {
                Some(relay) => (relay, "learn_servers=false&"),
                None => (self.server.node.addr(), ""),
            };
            let options = &actor.options;
            let url = format!("hither://{address}/{}?{PATIENCE}{learn}{options}", self.namespace);
            let url = url.trim_end_matches('&');
            self.vars.set(&format!("url_{name}"), url.into());
            if actor.unconnected {
                continue;
            }
            let mut args = Map::new();
            args.insert("url".into(), url.into());
            args.insert("context".into(), self.server.context.clone().into());
            let (_, answering) = self.actors[name].process.ask("connect", None, Some(CLIENT), args);
            let answer = tokio::time::timeout(CONNECT, answering).await??;
            anyhow::ensure!(answer.get("ok").is_some(), "{name} is not connected: {}", brief(&answer));
        }
        Ok(())
    }

    /// The driver that carries out an actor's part.
    pub(crate) fn process(&self, actor: &str) -> Result<Arc<Process>, Fault> {
        let actor = self.actors.get(actor).ok_or_else(|| format!("there is no actor {actor}"))?;
        Ok(Arc::clone(&actor.process))
    }

    /// Ends what the run began, and looks whether anything is left of it.
    ///
    /// # Errors
    /// What is left.
    pub(crate) async fn leave(&mut self) -> Result<(), Fault> {
        for (name, actor) in self.actors.iter().filter(|(_, actor)| !actor.own) {
            let reset = async {
                must(&actor.process, "reset").await?;
                let probe = must(&actor.process, "probe").await?;
                let nothing = json!({ "clients": 0, "ops": 0 });
                Matcher::default().check(&nothing, &probe).map_err(|fault| anyhow::anyhow!("left behind: {fault}"))
            };
            reset.await.map_err(|error| Fault::from(error).at(format!("afterwards, {name}")))?;
        }
        let owns = self.actors.values().any(|actor| actor.own);
        if owns || self.server.node.process().ended().is_some() {
            // A process that was killed says no goodbye: what it had goes when its connection has idled out.
            return Ok(());
        }
        let wanted = [("watches", 0.0), ("requests_in_flight", 0.0), ("connections", self.server.connections)];
        let deadline = Instant::now() + SETTLED;
        loop {
            let mut left = Vec::new();
            for (gauge, wanted) in wanted {
                let value = self.server.gauge(gauge).await?;
                if value != wanted {
                    left.push(format!("{gauge} is {value}, not {wanted}"));
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("afterwards, at the server: {}", left.join(", ")).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A time as an argument.
pub(crate) fn milliseconds(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}
