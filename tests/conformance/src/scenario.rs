//! Scenarios: what is in the files, and whether it makes sense.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Those that are not played by a driver.
pub(crate) const FAULTS: [&str; 3] = ["relay", "server", "process"];
/// The handle of an actor's first client.
pub(crate) const CLIENT: &str = "client";

/// One file: the scenarios of an area.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scenario: Vec<Scenario>,
}

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its name, unique.
    pub(crate) id: String,
    /// What it shows.
    pub(crate) title: String,
    /// The requirements that it shows.
    pub(crate) cites: BTreeSet<String>,
    /// Which server.
    #[serde(default)]
    pub(crate) server: Server,
    /// Settings of a server of its own: names as in the environment.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
    /// Who takes part.
    pub(crate) actors: BTreeMap<String, Actor>,
    /// What happens.
    pub(crate) steps: Vec<Step>,
    /// The file that it stands in.
    #[serde(skip)]
    pub(crate) area: String,
}

/// Which server a scenario runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Server {
    /// One that others use too, in a namespace of its own.
    #[default]
    Shared,
    /// One that may be killed.
    Own,
}

/// Somebody who does things, in some language.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Actor {
    /// Reaches the server through a relay of its own.
    pub(crate) relay: bool,
    /// Options in the URL.
    pub(crate) options: String,
    /// Is not connected when the scenario begins.
    pub(crate) unconnected: bool,
    /// Has a process of its own, which may end.
    pub(crate) process: bool,
}

/// Something that happens, and what must come of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Step {
    /// Who.
    pub(crate) by: Option<String>,
    /// Does what.
    #[serde(rename = "do")]
    pub(crate) op: Option<String>,
    /// On which handle; the actor's client if nothing is said.
    pub(crate) on: Option<String>,
    /// The name of what is made.
    #[serde(rename = "as")]
    pub(crate) named: Option<String>,
    /// With which arguments.
    pub(crate) with: Map<String, Value>,
    /// It returns, and the answer contains this.
    pub(crate) gives: Option<Value>,
    /// It fails, and the error contains this.
    pub(crate) fails: Option<Value>,
    /// It says that it was cancelled.
    pub(crate) cancelled: bool,
    /// The longest that it may take.
    pub(crate) within_ms: Option<u64>,
    /// The shortest.
    pub(crate) after_ms: Option<u64>,
    /// It is asked again until it is so.
    pub(crate) eventually_ms: Option<u64>,
    /// It is asked again, and is never so.
    pub(crate) absent_for_ms: Option<u64>,
    /// Lists may have another order.
    pub(crate) any_order: bool,
    /// What to keep of the answer: name and path.
    pub(crate) save: BTreeMap<String, String>,
    /// Nobody waits for it until `join`.
    pub(crate) start: Option<String>,
    /// Waits for what was started.
    pub(crate) join: Option<String>,
    /// Cancels what was started.
    pub(crate) cancel: Option<String>,
    /// So many times.
    pub(crate) repeat: Option<u64>,
    /// Nothing happens for so long.
    pub(crate) wait_ms: Option<u64>,
}

impl Step {
    /// What it does, in a few words.
    pub(crate) fn words(&self) -> String {
        match (&self.by, &self.op, &self.join, &self.cancel, self.wait_ms) {
            (Some(by), Some(op), ..) => format!("{by}: {op}"),
            (_, _, Some(name), ..) => format!("join {name}"),
            (_, _, _, Some(name), _) => format!("cancel {name}"),
            (_, _, _, _, Some(time)) => format!("wait {time} ms"),
            _ => "nothing".to_owned(),
        }
    }
}

impl Scenario {
    /// The operations that an actor needs.
    pub(crate) fn ops_of(&self, actor: &str) -> BTreeSet<&str> {
        let connects = self.actors.get(actor).is_some_and(|actor| !actor.unconnected);
        let of = |step: &'_ Step| step.by.as_deref() == Some(actor);
        let ops = self.steps.iter().filter(|step| of(step)).filter_map(|step| step.op.as_deref()).map(sent);
        let cancels = self.steps.iter().filter_map(|step| step.cancel.as_deref());
        let started = |name: &str| self.steps.iter().any(|step| of(step) && step.start.as_deref() == Some(name));
        ops.chain(connects.then_some("connect")).chain(cancels.filter(|name| started(name)).map(|_| "cancel")).collect()
    }

    /// Whether the scenario makes sense.
    fn check(&self) -> anyhow::Result<()> {
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        ensure!(plain(&self.id) && !self.id.is_empty(), "the id must be of a-z 0-9 -");
        ensure!(!self.cites.is_empty(), "it cites no requirement");
        ensure!(!self.actors.is_empty(), "nobody takes part");
        ensure!(self.settings.is_empty() || self.server == Server::Own, "settings need a server of its own");
        // Who ends without a goodbye is still counted when the next scenario looks.
        let process = self.actors.values().any(|actor| actor.process);
        ensure!(!process || self.server == Server::Own, "a process that may end needs a server of its own");
        let mut started = BTreeSet::new();
        for (number, step) in self.steps.iter().enumerate() {
            self.check_step(step, &mut started).with_context(|| format!("step {}, {}", number + 1, step.words()))?;
        }
        for name in self.actors.keys() {
            ensure!(!FAULTS.contains(&name.as_str()), "{name} is no name for an actor");
            ensure!(self.steps.iter().any(|step| step.by.as_ref() == Some(name)), "{name} does nothing");
        }
        // What a process has under way ends with it.
        started.retain(|name| !self.starts_in_a_process(name));
        ensure!(started.is_empty(), "nobody joins {started:?}");
        Ok(())
    }

    fn starts_in_a_process(&self, name: &str) -> bool {
        let step = self.steps.iter().find(|step| step.start.as_deref() == Some(name));
        let actor = step.and_then(|step| self.actors.get(step.by.as_deref()?));
        actor.is_some_and(|actor| actor.process)
    }

    fn check_step<'a>(&'a self, step: &'a Step, started: &mut BTreeSet<&'a str>) -> anyhow::Result<()> {
        let kinds = [step.by.is_some(), step.join.is_some(), step.cancel.is_some(), step.wait_ms.is_some()];
        ensure!(kinds.iter().filter(|kind| **kind).count() == 1, "one of by, join, cancel and wait_ms");
        ensure!(step.by.is_some() == step.op.is_some(), "by and do go together");
        let outcomes = [step.gives.is_some(), step.fails.is_some(), step.cancelled];
        ensure!(outcomes.iter().filter(|outcome| **outcome).count() <= 1, "one of gives, fails and cancelled");
        if step.absent_for_ms.is_some() {
            ensure!(step.gives.is_some(), "what must be absent stands in gives");
        }
        if let Some(by) = step.by.as_deref() {
            let known = FAULTS.contains(&by) || self.actors.contains_key(by);
            ensure!(known, "there is no actor {by}");
            let own = self.server == Server::Own;
            let op = step.op.as_deref().unwrap_or_default();
            if by == "server" {
                ensure!(own || matches!(op, "gauge" | "enrol" | "revoke"), "a shared server stays as it is");
            }
            if by == "relay" {
                ensure!(self.actors.values().any(|actor| actor.relay), "nobody has a relay");
            }
            if op == "exit" {
                ensure!(self.actors.get(by).is_some_and(|actor| actor.process), "who exits needs a process of its own");
            }
        }
        if let Some(name) = step.start.as_deref() {
            ensure!(started.insert(name), "{name} is started twice");
        }
        if let Some(name) = step.join.as_deref() {
            ensure!(started.remove(name), "{name} was not started");
        }
        if let Some(name) = step.cancel.as_deref() {
            ensure!(started.contains(name), "{name} was not started");
        }
        Ok(())
    }
}

/// The operation that a driver is sent for one of a scenario.
pub(crate) fn sent(op: &str) -> &str {
    match op {
        "watch.collect" | "watch.until" => "watch.next",
        "come_and_go" => "connect",
        other => other,
    }
}

/// Every scenario of a folder, in the order of files and in them.
///
/// # Errors
/// For the first that makes no sense.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Vec<Scenario>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("{}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.sort();
    let mut scenarios: Vec<Scenario> = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let file: File = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let area = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for mut scenario in file.scenario {
            scenario.area.clone_from(&area);
            scenario.check().with_context(|| format!("{}: {}", path.display(), scenario.id))?;
            if scenarios.iter().any(|other| other.id == scenario.id) {
                bail!("{}: {} is there twice", path.display(), scenario.id);
            }
            scenarios.push(scenario);
        }
    }
    Ok(scenarios)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(steps: &str) -> anyhow::Result<()> {
        let text = format!("id = 'x'\ntitle = 'x'\ncites = ['HC-001']\nactors = {{ a = {{}} }}\nsteps = [{steps}]");
        toml::from_str::<Scenario>(&text)?.check()
    }

    #[test]
    fn a_scenario_that_makes_no_sense_is_refused_with_its_reason() {
        read("{ by = 'a', do = 'kv.get', with = { key = 'k' }, gives = { entry = '$none' } }").expect("it makes sense");
        let said = |steps: &str| format!("{:#}", read(steps).expect_err(steps));
        assert!(said("{ by = 'b', do = 'kv.get' }").contains("there is no actor b"));
        assert!(said("{ by = 'a' }").contains("by and do"));
        assert!(said("{ by = 'a', do = 'kv.get', givs = 1 }").contains("givs"));
        assert!(said("{ by = 'a', do = 'kv.get', start = 'g' }").contains("nobody joins"));
        assert!(said("{ by = 'a', do = 'kv.get' }, { join = 'g' }").contains("was not started"));
        assert!(said("{ by = 'a', do = 'kv.get' }, { by = 'server', do = 'kill' }").contains("shared server"));
    }
}
