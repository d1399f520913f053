//! Plays one scenario once, in one cast, and judges it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cast::Cast;
use crate::driving::{Answering, Process};
use crate::fault::Fault;
use crate::faults;
use crate::judge::Judge;
use crate::matching::{Matcher, brief};
use crate::scenario::{CLIENT, Scenario, Step};
use crate::stage::{LOOK, Stage, milliseconds};
use crate::vars::part;
use crate::world::Lane;

/// What is not said to take longer.
const WITHIN: Duration = Duration::from_secs(10);
/// What a driver may take to say that nothing came in the time that it was given.
const GRACE: Duration = Duration::from_secs(2);

/// Plays a scenario; afterwards everything is as it was before.
///
/// # Errors
/// What was not as it should be.
pub(crate) async fn play(lane: &mut Lane, scenario: &Scenario, cast: &Cast, run: usize) -> Result<(), Fault> {
    let stage = Stage::set(lane, scenario, cast, run).await;
    let stage = stage.inspect_err(|_| lane.forget_drivers())?;
    let mut playing = Playing { stage, started: HashMap::new(), judge: Judge::default() };
    let played = playing.steps().await;
    let mut stage = playing.stage;
    // What was cut is healed, so that goodbyes arrive.
    stage.relays.heal();
    let outcome = match played {
        Ok(()) | Err(Fault::Unsupported(_)) => played.and(stage.leave().await),
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(()) | Err(Fault::Unsupported(_)) => lane.give_back(scenario, stage.server),
        Err(_) => lane.forget_drivers(),
    }
    outcome
}

/// A run under way.
struct Playing<'a> {
    stage: Stage<'a>,
    started: HashMap<String, Started>,
    judge: Judge,
}

/// What a step asks for, with every name filled in.
#[derive(Clone)]
struct Asked {
    actor: String,
    handle: String,
    op: String,
    named: Option<String>,
    args: Map<String, Value>,
}

/// Operations of a driver's process, which are done on nothing.
const OF_THE_PROCESS: [&str; 4] = ["connect", "probe", "reset", "worker"];

/// An operation that nobody waits for yet.
struct Started {
    asked: Asked,
    id: u64,
    since: Instant,
    answering: Answering,
}

/// An answer and how long it took.
struct Answered {
    answer: Value,
    took: Duration,
}

impl Playing<'_> {
    async fn steps(&mut self) -> Result<(), Fault> {
        let scenario = self.stage.scenario;
        for (number, step) in scenario.steps.iter().enumerate() {
            for turn in 0..step.repeat.unwrap_or(1) {
                self.stage.vars.set("i", turn.into());
                let done = self.step(step).await;
                done.map_err(|fault| fault.at(format!("step {}, {}", number + 1, step.words())))?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), Fault> {
        let vars = &self.stage.vars;
        if let Some(time) = step.wait_ms {
            tokio::time::sleep(Duration::from_millis(time)).await;
            return Ok(());
        }
        if let Some(name) = &step.cancel {
            let started = self.started.get(&vars.fill_name(name)?).ok_or("it was not started")?;
            let mut args = Map::new();
            args.insert("id".into(), started.id.into());
            let (_, answering) = self.stage.process(&started.asked.actor)?.ask("cancel", None, None, args);
            let answer = wait(answering, WITHIN).await?;
            return self.expect(step, &answer).map(drop);
        }
        if let Some(name) = &step.join {
            let started = self.started.remove(&vars.fill_name(name)?).ok_or("it was not started")?;
            let answer = wait(started.answering, within(step)).await?;
            let answered = Answered { answer, took: started.since.elapsed() };
            return self.judged(step, &started.asked, answered);
        }
        let asked = self.asked(step)?;
        if let Some(name) = &step.start {
            let name = self.stage.vars.fill_name(name)?;
            return self.begin(name, asked);
        }
        if let Some(time) = step.absent_for_ms {
            return self.absent(step, asked, Duration::from_millis(time)).await;
        }
        if let Some(time) = step.eventually_ms {
            return self.eventually(step, asked, Duration::from_millis(time)).await;
        }
        let answered = self.ask(&asked, within(step)).await?;
        self.judged(step, &asked, answered)
    }

    fn asked(&self, step: &Step) -> Result<Asked, Fault> {
        let vars = &self.stage.vars;
        let name = |name: &Option<String>| name.as_ref().map(|name| vars.fill_name(name)).transpose();
        Ok(Asked {
            actor: step.by.clone().unwrap_or_default(),
            handle: name(&step.on)?.unwrap_or_else(|| CLIENT.to_owned()),
            op: step.op.clone().unwrap_or_default(),
            named: name(&step.named)?,
            args: vars.fill_object(&step.with)?,
        })
    }

    fn begin(&mut self, name: String, asked: Asked) -> Result<(), Fault> {
        self.judge_opening(&asked);
        let since = Instant::now();
        let player = self.stage.process(&asked.actor)?;
        let (id, answering) = player.ask(&asked.op, asked.on(), asked.named.as_deref(), asked.args.clone());
        self.started.insert(name, Started { asked, id, since, answering });
        Ok(())
    }

    async fn eventually(&mut self, step: &Step, asked: Asked, time: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A call begun at the end gets the time that any call gets.
            let patience = if asked.waits() { left.max(LOOK) } else { left.max(within(step)) };
            let answered = self.ask(&asked, patience).await?;
            match self.judged(step, &asked, answered) {
                Err(Fault::Differs(text)) if Instant::now() >= deadline => {
                    return Err(format!("not within {time:?}: {text}").into());
                }
                Err(Fault::Differs(_)) => tokio::time::sleep(LOOK).await,
                judged => return judged,
            }
        }
    }

    async fn absent(&mut self, step: &Step, asked: Asked, time: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = if asked.waits() { left.max(LOOK) } else { within(step) };
            let answered = self.ask(&asked, patience).await?;
            let answer = answered.answer.clone();
            match self.judged(step, &asked, answered) {
                Ok(()) => return Err(format!("it came although it must not: {}", brief(&answer)).into()),
                Err(Fault::Differs(_)) => tokio::time::sleep(LOOK).await,
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Asks whoever the step names, and waits for the answer.
    async fn ask(&mut self, asked: &Asked, within: Duration) -> Result<Answered, Fault> {
        let since = Instant::now();
        let answered = |answer| Answered { answer, took: since.elapsed() };
        if faults::is_fault(&asked.actor) {
            let doing = faults::carry_out(&mut self.stage, &asked.actor, &asked.op, &asked.args);
            let done = tokio::time::timeout(within, doing).await.map_err(|_| format!("not within {within:?}"))?;
            return Ok(answered(json!({ "ok": done? })));
        }
        self.judge_opening(asked);
        let player = self.stage.process(&asked.actor)?;
        match asked.op.as_str() {
            "watch.collect" | "watch.until" => return Ok(answered(self.collect(&player, asked, within).await?)),
            "come_and_go" => return Ok(answered(come_and_go(&player, asked, within).await?)),
            _ => {}
        }
        let mut args = asked.args.clone();
        if asked.waits() && !args.contains_key("wait_ms") {
            args.insert("wait_ms".into(), milliseconds(within));
        }
        let (_, answering) = player.ask(&asked.op, asked.on(), asked.named.as_deref(), args);
        let patience = if asked.waits() { within + GRACE } else { within };
        Ok(answered(wait(answering, patience).await?))
    }

    /// Takes updates of a watch: until they have `count` events together, or until they have come to `revision`.
    async fn collect(&mut self, player: &Process, asked: &Asked, within: Duration) -> Result<Value, Fault> {
        let number = |name: &str| asked.args.get(name).and_then(Value::as_u64);
        let (count, until) = (number("count").unwrap_or(0), number("revision").unwrap_or(0));
        let deadline = Instant::now() + within;
        let (mut events, mut kinds, mut revision) = (Vec::new(), Vec::new(), 0);
        let mut state = Map::new();
        while (events.len() as u64) < count || revision < until {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut args = Map::new();
            args.insert("wait_ms".into(), milliseconds(left));
            let (_, answering) = player.ask("watch.next", Some(&asked.handle), None, args);
            let answer = wait(answering, left + GRACE).await?;
            let Some(ok) = answer.get("ok") else { return Ok(answer) };
            if let Some(none) = ok.get("none") {
                let so_far = format!("{none} after {} events, at revision {revision}", events.len());
                return Err(format!("{so_far}: {}", brief(&json!(events))).into());
            }
            self.judge.look(&asked.actor, &asked.handle, "watch.next", ok).map_err(Fault::Broken)?;
            for event in ok["events"].as_array().into_iter().flatten() {
                let key = event["key"].as_str().unwrap_or_default();
                match event["type"].as_str() {
                    Some("put") => drop(state.insert(key.to_owned(), event["value"].clone())),
                    Some("delete") => drop(state.remove(key)),
                    _ => {}
                }
                events.push(event.clone());
            }
            kinds.push(ok["kind"].clone());
            revision = ok["revision"].as_u64().unwrap_or_default();
        }
        // What these updates alone make of nothing.
        Ok(json!({ "ok": { "events": events, "kinds": kinds, "revision": revision, "state": state } }))
    }

    fn judge_opening(&mut self, asked: &Asked) {
        if let Some(named) = &asked.named {
            self.judge.opened(&asked.actor, named);
        }
    }

    /// Whether the answer is what the step says.
    fn judged(&mut self, step: &Step, asked: &Asked, answered: Answered) -> Result<(), Fault> {
        let Answered { answer, took } = answered;
        if let Some(ok) = answer.get("ok") {
            self.judge.look(&asked.actor, &asked.handle, &asked.op, ok).map_err(Fault::Broken)?;
        }
        let content = self.expect(step, &answer)?.clone();
        let least = step.after_ms.map_or(Duration::ZERO, Duration::from_millis);
        if took < least {
            return Err(format!("it took {took:?}, less than {least:?}").into());
        }
        for (name, path) in &step.save {
            let value = part(&content, path).ok_or_else(|| format!("there is no {path} in {}", brief(&content)))?;
            self.stage.vars.set(name, value.clone());
        }
        Ok(())
    }

    /// Whether an answer is what a step demands; returns what it says.
    fn expect<'v>(&self, step: &Step, answer: &'v Value) -> Result<&'v Value, Fault> {
        let (kind, wanted) = match (&step.gives, &step.fails) {
            (Some(wanted), _) => ("ok", Some(wanted)),
            (_, Some(wanted)) => ("err", Some(wanted)),
            _ if step.cancelled => ("cancelled", None),
            _ => ("ok", None),
        };
        if let Some(why) = answer.get("unsupported") {
            return Err(Fault::Unsupported(why.as_str().unwrap_or_default().to_owned()));
        }
        if let Some(crash) = answer.get("crash") {
            return Err(Fault::Broken(format!("crash: {}", crash.as_str().unwrap_or_default())));
        }
        let content = answer.get(kind).ok_or_else(|| format!("{kind} was expected, it is {}", brief(answer)))?;
        if let Some(wanted) = wanted {
            Matcher { any_order: step.any_order }.check(&self.stage.vars.fill(wanted)?, content)?;
        }
        Ok(content)
    }
}

impl Asked {
    /// The handle to do it on, if it is done on one.
    fn on(&self) -> Option<&str> {
        (!OF_THE_PROCESS.contains(&self.op.as_str())).then_some(&*self.handle)
    }

    /// Whether it waits for what may not come: then it is told for how long.
    fn waits(&self) -> bool {
        matches!(
            self.op.as_str(),
            "watch.next" | "state.next" | "service.watch.next" | "lease.lost" | "registration.lost"
        )
    }
}

/// A client that connects, reads a key and closes.
async fn come_and_go(player: &Process, asked: &Asked, within: Duration) -> Result<Value, Fault> {
    const PASSER: &str = "passer";
    let mut connect = asked.args.clone();
    let key = connect.remove("key").unwrap_or_default();
    let get = Map::from_iter([("key".to_owned(), key)]);
    let steps = [("connect", None, connect), ("kv.get", Some(PASSER), get), ("close", Some(PASSER), Map::new())];
    for (op, on, args) in steps {
        let named = if on.is_none() { Some(PASSER) } else { None };
        let answer = wait(player.ask(op, on, named, args).1, within).await?;
        if answer.get("ok").is_none() {
            return Ok(answer);
        }
    }
    Ok(json!({ "ok": {} }))
}

fn within(step: &Step) -> Duration {
    step.within_ms.map_or(WITHIN, Duration::from_millis)
}

async fn wait(answering: Answering, time: Duration) -> Result<Value, Fault> {
    match tokio::time::timeout(time, answering).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Fault::Broken("the driver is gone".to_owned())),
        Err(_) => Err(Fault::Broken(format!("no answer within {time:?}"))),
    }
}
