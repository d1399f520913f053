//! Plays one scenario once, in one cast, and judges it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cast::Cast;
use crate::driving::{Answering, Player, Process};
use crate::faults::{self, Relays};
use crate::judge::Judge;
use crate::matching::{Matcher, brief};
use crate::scenario::{CLIENT, RUNNER, Scenario, Step};
use crate::vars::{Vars, part};
use crate::world::{Lane, Server, must};

/// What is not said to take longer.
const WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at what shall become so: no load, and far below what is waited for.
const LOOK: Duration = Duration::from_millis(10);
/// After a run, until the server has forgotten what it had.
const SETTLED: Duration = Duration::from_secs(15);

/// Why a run failed.
pub(crate) type Fault = String;

/// Everything that takes part in a run.
pub(crate) struct Stage<'a> {
    scenario: &'a Scenario,
    pub(crate) server: Server,
    namespace: String,
    pub(crate) actors: BTreeMap<String, ActorHere>,
    pub(crate) relays: Relays,
    vars: Vars,
    started: HashMap<String, Started>,
    judge: Judge,
}

/// An actor of a run.
pub(crate) struct ActorHere {
    player: Player,
    pub(crate) process: Option<Arc<Process>>,
    own: bool,
}

/// An operation that nobody waits for yet.
struct Started {
    actor: String,
    id: u64,
    handle: String,
    op: String,
    since: Instant,
    answering: Answering,
}

/// An answer and how long it took.
struct Answered {
    answer: Value,
    took: Duration,
}

/// Plays a scenario; afterwards everything is as it was before.
///
/// # Errors
/// What was not as it should be.
pub(crate) async fn play(lane: &mut Lane, scenario: &Scenario, cast: &Cast, run: usize) -> Result<(), Fault> {
    let mut stage = Stage::set(lane, scenario, cast, run).await.map_err(|error| format!("{error:#}"))?;
    let played = stage.steps().await;
    // What was cut is healed, so that goodbyes arrive.
    stage.relays.heal();
    let left = match &played {
        Ok(()) => stage.leave().await,
        Err(_) => Ok(()),
    };
    let outcome = played.and(left);
    if outcome.is_err() {
        lane.forget_drivers();
    } else {
        lane.give_back(scenario, stage.server);
    }
    outcome
}

impl<'a> Stage<'a> {
    async fn set(lane: &mut Lane, scenario: &'a Scenario, cast: &Cast, run: usize) -> anyhow::Result<Self> {
        let mut server = lane.server(scenario, run).await?;
        if server.connections == 0.0 {
            server.admin().await?;
        }
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
            let player = Player::Process(Arc::clone(&process));
            actors.insert(name.clone(), ActorHere { player, process: Some(process), own: actor.process });
        }
        actors.insert(RUNNER.to_owned(), ActorHere { player: Player::here(), process: None, own: false });
        let namespace = format!("run{run}");
        let mut vars = Vars::default();
        vars.set("context", json!(server.context));
        vars.set("namespace", json!(namespace));
        vars.set("server", json!(server.node.addr().to_string()));
        let mut stage = Self {
            scenario,
            server,
            namespace,
            actors,
            relays,
            vars,
            started: HashMap::new(),
            judge: Judge::default(),
        };
        stage.connect().await?;
        Ok(stage)
    }

    async fn connect(&mut self) -> anyhow::Result<()> {
        let url = format!("hither://{}/{}", self.server.node.addr(), self.namespace);
        let mut clients = vec![(RUNNER.to_owned(), url, false)];
        for (name, actor) in &self.scenario.actors {
            // Through a relay, the server's own address would be the way around it.
            let (address, learn) = match self.relays.address(name) {
                Some(relay) => (relay, "learn_servers=false&"),
                None => (self.server.node.addr(), ""),
            };
            let url = format!("hither://{address}/{}?{learn}{}", self.namespace, actor.options);
            self.vars.set(&format!("url_{name}"), json!(url.trim_end_matches(['&', '?'])));
            clients.push((name.clone(), url.trim_end_matches(['&', '?']).to_owned(), actor.unconnected));
        }
        for (name, url, unconnected) in clients {
            let uses_runner = self.scenario.steps.iter().any(|step| step.by.as_deref() == Some(RUNNER));
            if unconnected || (name == RUNNER && !uses_runner) {
                continue;
            }
            let mut args = Map::new();
            args.insert("url".into(), url.into());
            args.insert("context".into(), self.server.context.clone().into());
            if name == RUNNER {
                // The runner's own contexts are not the drivers'.
                let client = self.server.node.client().namespace(&self.namespace).connect().await?;
                let Player::Here(driver, _) = &self.actors[RUNNER].player else { continue };
                driver.adopt(CLIENT, client);
                continue;
            }
            let (_, answering) = self.actors[&name].player.ask("connect", None, Some(CLIENT), args);
            let answer = tokio::time::timeout(WITHIN, answering).await??;
            anyhow::ensure!(answer.get("ok").is_some(), "{name} is not connected: {}", brief(&answer));
        }
        Ok(())
    }

    async fn steps(&mut self) -> Result<(), Fault> {
        let scenario = self.scenario;
        for (number, step) in scenario.steps.iter().enumerate() {
            for turn in 0..step.repeat.unwrap_or(1) {
                self.vars.set("i", json!(turn));
                let done = self.step(step).await;
                done.map_err(|fault| format!("step {}, {}: {fault}", number + 1, step.words()))?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), Fault> {
        if let Some(time) = step.wait_ms {
            tokio::time::sleep(Duration::from_millis(time)).await;
            return Ok(());
        }
        if let Some(name) = &step.cancel {
            let started = self.started.get(name).ok_or("it was not started")?;
            let mut args = Map::new();
            args.insert("id".into(), started.id.into());
            let (_, answering) = self.actors[&started.actor].player.ask("cancel", None, None, args);
            let answer = wait(answering, WITHIN).await?;
            return expect(step, &answer, Matcher::default(), &self.vars).map(drop);
        }
        if let Some(name) = &step.join {
            let started = self.started.remove(name).ok_or("it was not started")?;
            let answer = wait(started.answering, within(step)).await?;
            let answered = Answered { answer, took: started.since.elapsed() };
            return self.judged(step, &started.actor, &started.handle, &started.op, answered);
        }
        if let Some(time) = step.absent_for_ms {
            return self.absent(step, Duration::from_millis(time)).await;
        }
        match step.eventually_ms {
            Some(time) => self.eventually(step, Duration::from_millis(time)).await,
            None if step.start.is_some() => self.begin(step),
            None => {
                let answered = self.ask(step, within(step)).await?;
                let (actor, handle, op) = names(step);
                self.judged(step, actor, handle, op, answered)
            }
        }
    }

    fn begin(&mut self, step: &Step) -> Result<(), Fault> {
        let (actor, handle, op) = names(step);
        let player = self.actors.get(actor).ok_or("only actors start what nobody waits for")?.player.clone();
        let args = self.vars.fill_object(&step.with)?;
        self.judge_opening(step);
        let since = Instant::now();
        let (id, answering) = player.ask(op, Some(handle), step.named.as_deref(), args);
        let started =
            Started { actor: actor.to_owned(), id, handle: handle.to_owned(), op: op.to_owned(), since, answering };
        self.started.insert(step.start.clone().unwrap_or_default(), started);
        Ok(())
    }

    async fn eventually(&mut self, step: &Step, time: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answered =
                self.ask(step, left.max(LOOK)).await.map_err(|fault| format!("{fault} (within {time:?})"))?;
            let (actor, handle, op) = names(step);
            let fault = match self.judged(step, actor, handle, op, answered) {
                Ok(()) => return Ok(()),
                Err(fault) if fault.starts_with(BROKEN) => return Err(fault),
                Err(fault) => fault,
            };
            if Instant::now() >= deadline {
                return Err(format!("not within {time:?}: {fault}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn absent(&mut self, step: &Step, time: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let answered = self.ask(step, left.max(LOOK)).await?;
            let (actor, handle, op) = names(step);
            let answer = answered.answer.clone();
            match self.judged(step, actor, handle, op, answered) {
                Ok(()) => return Err(format!("it came although it must not: {}", brief(&answer))),
                Err(fault) if fault.starts_with(BROKEN) => return Err(fault),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
        Ok(())
    }

    /// Asks whoever the step names, and waits for the answer.
    async fn ask(&mut self, step: &Step, within: Duration) -> Result<Answered, Fault> {
        let (actor, handle, op) = names(step);
        let mut args = self.vars.fill_object(&step.with)?;
        let since = Instant::now();
        if faults::is_fault(actor) {
            let done = tokio::time::timeout(within, faults::carry_out(self, actor, op, &args));
            let done = done.await.map_err(|_| format!("not within {within:?}"))?;
            let answer = done.map_or_else(|fault| json!({ "crash": fault }), |ok| json!({ "ok": ok }));
            return Ok(Answered { answer, took: since.elapsed() });
        }
        let waits = op.ends_with(".next") || op.ends_with(".lost") || op == "watch.collect";
        if waits && !args.contains_key("wait_ms") {
            args.insert("wait_ms".into(), u64::try_from(within.as_millis()).unwrap_or(u64::MAX).into());
        }
        self.judge_opening(step);
        let player = self.actors.get(actor).ok_or_else(|| format!("there is no actor {actor}"))?.player.clone();
        if op == "watch.collect" {
            let answer = self.collect(&player, actor, handle, &args, within).await?;
            return Ok(Answered { answer, took: since.elapsed() });
        }
        let (_, answering) = player.ask(op, Some(handle), step.named.as_deref(), args);
        // An operation that waits for what may not come says so itself; it gets the time to.
        let patience = if waits { within + Duration::from_secs(1) } else { within };
        Ok(Answered { answer: wait(answering, patience).await?, took: since.elapsed() })
    }

    /// Takes updates of a watch until they have so many events together.
    async fn collect(
        &mut self,
        player: &Player,
        actor: &str,
        handle: &str,
        args: &Map<String, Value>,
        within: Duration,
    ) -> Result<Value, Fault> {
        let count = args.get("count").and_then(Value::as_u64).ok_or("count is missing")?;
        let deadline = Instant::now() + within;
        let (mut events, mut kinds, mut revision) = (Vec::new(), Vec::new(), Value::Null);
        while (events.len() as u64) < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut args = Map::new();
            args.insert("wait_ms".into(), u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into());
            let (_, answering) = player.ask("watch.next", Some(handle), None, args);
            let answer = wait(answering, left + Duration::from_secs(1)).await?;
            let Some(ok) = answer.get("ok") else { return Ok(answer) };
            if let Some(none) = ok.get("none") {
                return Err(format!("{none} after {} of {count} events: {}", events.len(), brief(&json!(events))));
            }
            self.judge.look(actor, handle, "watch.next", ok).map_err(broken)?;
            events.extend(ok["events"].as_array().cloned().unwrap_or_default());
            kinds.push(ok["kind"].clone());
            revision = ok["revision"].clone();
        }
        Ok(json!({ "ok": { "events": events, "kinds": kinds, "revision": revision } }))
    }

    fn judge_opening(&mut self, step: &Step) {
        if let (Some(actor), Some(named)) = (&step.by, &step.named) {
            self.judge.opened(actor, named);
        }
    }

    /// Whether the answer is what the step says.
    fn judged(&mut self, step: &Step, actor: &str, handle: &str, op: &str, answered: Answered) -> Result<(), Fault> {
        let Answered { answer, took } = answered;
        if let (Some(ok), false) = (answer.get("ok"), op == "watch.collect") {
            self.judge.look(actor, handle, op, ok).map_err(broken)?;
        }
        let content = expect(step, &answer, Matcher { any_order: step.any_order }, &self.vars)?;
        let least = step.after_ms.map_or(Duration::ZERO, Duration::from_millis);
        if took < least {
            return Err(format!("it took {took:?}, less than {least:?}"));
        }
        for (name, path) in &step.save {
            let value = part(content, path).ok_or_else(|| format!("there is no {path} in {}", brief(content)))?;
            self.vars.set(name, value.clone());
        }
        Ok(())
    }

    /// Ends what the run began, and looks whether anything is left of it.
    async fn leave(&mut self) -> Result<(), Fault> {
        for (name, actor) in &self.actors {
            let reset = async {
                if actor.own {
                    return Ok(());
                }
                must(&actor.player, "reset").await?;
                let probe = must(&actor.player, "probe").await?;
                let left = json!({ "clients": 0, "ops": 0 });
                Matcher::default().check(&left, &probe).map_err(|fault| anyhow::anyhow!("left behind: {fault}"))
            };
            reset.await.map_err(|error| format!("afterwards, {name}: {error:#}"))?;
        }
        let (watches, requests, connections) = ("watches", "requests_in_flight", "connections");
        let wanted = [(watches, 0.0), (requests, 0.0), (connections, self.server.connections)];
        let owns = self.actors.values().any(|actor| actor.own);
        if owns || self.server.node.process().ended().is_some() {
            // A process that was killed says no goodbye: its connection idles out, on a server that ends with the run.
            return Ok(());
        }
        let deadline = Instant::now() + SETTLED;
        loop {
            let mut left = Vec::new();
            for (gauge, wanted) in wanted {
                let value = self.server.gauge(gauge).await.map_err(|error| format!("{error:#}"))?;
                if value != wanted {
                    left.push(format!("{gauge} is {value}, not {wanted}"));
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("afterwards, at the server: {}", left.join(", ")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The begin of a fault that asking again does not mend.
const BROKEN: &str = "a promise is broken: ";

fn broken(fault: String) -> Fault {
    format!("{BROKEN}{fault}")
}

fn names(step: &Step) -> (&str, &str, &str) {
    (
        step.by.as_deref().unwrap_or_default(),
        step.on.as_deref().unwrap_or(CLIENT),
        step.op.as_deref().unwrap_or_default(),
    )
}

fn within(step: &Step) -> Duration {
    step.within_ms.map_or(WITHIN, Duration::from_millis)
}

async fn wait(answering: Answering, time: Duration) -> Result<Value, Fault> {
    match tokio::time::timeout(time, answering).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err("the driver is gone".to_owned()),
        Err(_) => Err(format!("no answer within {time:?}")),
    }
}

/// Whether an answer is what a step demands; returns what it says.
fn expect<'v>(step: &Step, answer: &'v Value, matcher: Matcher, vars: &Vars) -> Result<&'v Value, Fault> {
    let (kind, wanted) = match (&step.gives, &step.fails) {
        (Some(wanted), _) => ("ok", Some(wanted)),
        (_, Some(wanted)) => ("err", Some(wanted)),
        _ if step.cancelled => ("cancelled", None),
        _ => ("ok", None),
    };
    let content = answer.get(kind).ok_or_else(|| format!("{kind} was expected, it is {}", brief(answer)))?;
    if let Some(wanted) = wanted {
        matcher.check(&vars.fill(wanted)?, content)?;
    }
    Ok(content)
}
