//! What holds for every watch, whatever a scenario says of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

/// Judges every update that any watch of a run delivers.
#[derive(Default)]
pub(crate) struct Judge {
    watches: HashMap<(String, String), Watched>,
    services: HashMap<(String, String), Followed>,
}

/// A watch of keys so far.
#[derive(Default)]
struct Watched {
    updates: u64,
    revision: u64,
    seen: BTreeSet<(u64, String)>,
}

/// A service watch so far.
#[derive(Default)]
struct Followed {
    view: Option<(u64, BTreeMap<String, Value>)>,
    state: Option<String>,
}

impl Judge {
    /// A new handle has a new history.
    pub(crate) fn opened(&mut self, actor: &str, handle: &str) {
        let name = (actor.to_owned(), handle.to_owned());
        self.watches.remove(&name);
        self.services.remove(&name);
    }

    /// Looks at what an operation returned.
    ///
    /// # Errors
    /// Which promise is broken.
    pub(crate) fn look(&mut self, actor: &str, handle: &str, op: &str, ok: &Value) -> Result<(), String> {
        let name = (actor.to_owned(), handle.to_owned());
        if ok.get("none").is_some() {
            return Ok(());
        }
        match op {
            "watch.next" => self.watches.entry(name).or_default().update(ok),
            "service.watch.next" => self.services.entry(name).or_default().update(ok),
            _ => Ok(()),
        }
    }
}

impl Watched {
    fn update(&mut self, update: &Value) -> Result<(), String> {
        let revision = number(update, "revision")?;
        let kind = update["kind"].as_str().unwrap_or_default();
        let resets = kind == "reset";
        if revision < self.revision || (revision == self.revision && self.updates > 0 && !resets) {
            return Err(format!("an update of revision {revision} came after one of {}", self.revision));
        }
        if kind == "snapshot" && self.updates > 0 {
            return Err("a second snapshot came".to_owned());
        }
        let before = self.revision;
        let mut last = 0;
        for event in update["events"].as_array().ok_or("an update has no events")? {
            let at = number(event, "revision")?;
            let what = event["key"].as_str().or(event["lease"].as_str()).unwrap_or_default().to_owned();
            if at < last {
                return Err(format!("an event of revision {at} stands after one of {last}"));
            }
            if at > revision {
                return Err(format!("an event of revision {at} stands in an update of {revision}"));
            }
            if kind == "changes" && self.updates > 0 && at <= before {
                return Err(format!("an event of revision {at} came when {before} had been told"));
            }
            if !self.seen.insert((at, what.clone())) && !resets {
                return Err(format!("the event of {what} at revision {at} came twice"));
            }
            last = at;
        }
        self.updates += 1;
        self.revision = revision;
        Ok(())
    }
}

impl Followed {
    fn update(&mut self, update: &Value) -> Result<(), String> {
        let view = &update["view"];
        let revision = number(view, "revision")?;
        let state = view["state"].as_str().map(str::to_owned);
        let now = by_id(&view["instances"])?;
        let delta = |name: &str| by_id(&update[name]);
        let (added, changed, removed) = (delta("added")?, delta("changed")?, delta("removed")?);
        let Some((before, known)) = self.view.take() else {
            if added != now || !changed.is_empty() || !removed.is_empty() {
                return Err("the first update is not the whole state, all of it added".to_owned());
            }
            (self.view, self.state) = (Some((revision, now)), state);
            return Ok(());
        };
        let quiet = added.is_empty() && changed.is_empty() && removed.is_empty();
        if revision < before || (revision == before && state == self.state) {
            return Err(format!("a view of revision {revision} came after one of {before}, and its state is the same"));
        }
        if quiet && state == self.state {
            return Err(format!("an update of revision {revision} changes nothing"));
        }
        let mut expected = known.clone();
        for (id, instance) in added {
            if expected.insert(id.clone(), instance).is_some() {
                return Err(format!("{id} is added although it was there"));
            }
        }
        for (id, instance) in changed {
            match expected.insert(id.clone(), instance.clone()) {
                Some(old) if old != instance => {}
                Some(_) => return Err(format!("{id} is said to have changed and is the same")),
                None => return Err(format!("{id} changed although it was not there")),
            }
        }
        for id in removed.keys() {
            if expected.remove(id).is_none() {
                return Err(format!("{id} is removed although it was not there"));
            }
        }
        if expected != now {
            return Err("the delta does not lead from the view before to this one".to_owned());
        }
        (self.view, self.state) = (Some((revision, now)), state);
        Ok(())
    }
}

fn by_id(instances: &Value) -> Result<BTreeMap<String, Value>, String> {
    let list = instances.as_array().ok_or("a list of instances is missing")?;
    let named = list.iter().map(|instance| {
        let id = instance["id"].as_str().ok_or("an instance has no id")?;
        Ok((id.to_owned(), instance.clone()))
    });
    let all: BTreeMap<_, _> = named.collect::<Result<_, String>>()?;
    if all.len() == list.len() { Ok(all) } else { Err("an instance is there twice".to_owned()) }
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    value[name].as_u64().ok_or_else(|| format!("{name} is missing in {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changes(revision: u64, events: &[u64]) -> Value {
        let events: Vec<Value> =
            events.iter().map(|at| json!({ "type": "put", "key": format!("k{at}"), "revision": at })).collect();
        json!({ "revision": revision, "kind": "changes", "events": events })
    }

    #[test]
    fn a_watch_that_repeats_skips_back_or_mixes_is_found_out() {
        let mut judge = Judge::default();
        let mut look = |handle: &str, update: Value| judge.look("a", handle, "watch.next", &update);
        look("w", changes(3, &[2, 3])).expect("in order");
        look("w", changes(5, &[4, 5])).expect("in order");
        assert!(look("w", changes(5, &[])).expect_err("twice").contains("after one of 5"));
        assert!(look("w", changes(6, &[5])).expect_err("twice").contains("had been told"));
        assert!(look("v", changes(6, &[5, 4])).expect_err("disorder").contains("stands after"));
        assert!(look("u", changes(6, &[7])).expect_err("ahead").contains("in an update of 6"));
    }

    #[test]
    fn a_delta_that_does_not_add_up_is_found_out() {
        let one = json!({ "id": "1", "weight": 1 });
        let two = json!({ "id": "2", "weight": 1 });
        let update = |revision: u64, instances: &[&Value], added: &[&Value], removed: &[&Value]| {
            json!({
                "view": { "revision": revision, "state": "synced", "instances": instances },
                "added": added, "changed": [], "removed": removed,
            })
        };
        let mut judge = Judge::default();
        let mut look = |update: Value| judge.look("a", "s", "service.watch.next", &update);
        look(update(3, &[&one], &[&one], &[])).expect("the whole state");
        assert!(look(update(4, &[&one, &two], &[], &[])).is_err());
        let mut judge = Judge::default();
        let mut look = |update: Value| judge.look("a", "s", "service.watch.next", &update);
        look(update(3, &[&one], &[&one], &[])).expect("the whole state");
        look(update(4, &[&two], &[&two], &[&one])).expect("it adds up");
        assert!(look(update(5, &[&two], &[], &[])).expect_err("nothing").contains("changes nothing"));
    }
}
