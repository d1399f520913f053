//! Whether history is what the writers were told: each acknowledged write at its revision and whole, none of them
//! twice, nothing that nobody asked for, and no lease ended before its time; and whether what leaves no trace in it was
//! told truly, refusals among it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hither::{Entry, Event, Key, LeaseId, Revision};

use crate::finding::{Finding, Kind};
use crate::history::{History, Step};
use crate::judge::{line, show};
use crate::ledger::{Condition, Op, OpId, Outcome, Plan, Record, writer_of};

mod refusals;
mod traceless;

/// Time that the checker may take to see that a client took a lease as lost. The client does so half a second before the
/// server may end it.
const NOTICED: Duration = Duration::from_millis(250);

/// What was found in history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Writes {
    pub(crate) requests: u64,
    pub(crate) acknowledged: u64,
    /// Of those whose outcome is unknown, how many took effect and how many did not.
    pub(crate) unknown_done: u64,
    pub(crate) unknown_lost: u64,
    /// Revisions of several keys that one request wrote.
    pub(crate) transactions: u64,
    /// Acknowledged, and without effect.
    pub(crate) nothing: u64,
    /// Refused, and sent or not.
    pub(crate) refused: u64,
    /// Of these, because a lease had ended.
    pub(crate) leaseless: u64,
    /// Watches that were to begin now.
    pub(crate) openings: u64,
    /// Revisions in which leases ended by themselves.
    pub(crate) expiries: u64,
    /// Leases among them that a client kept, and had taken as lost.
    pub(crate) lost: u64,
}

/// Compares history with the record of the writers.
pub(crate) fn writes(history: &History, record: &Record) -> Result<Writes, Finding> {
    let mut trial = Trial::new(history, record);
    for (revision, step) in history.steps() {
        trial.try_step(revision, step)?;
        trial.apply(step);
    }
    trial.finish()
}

struct Trial<'a> {
    history: &'a History,
    record: &'a Record,
    state: BTreeMap<Key, Entry>,
    /// Who says that a revision is theirs.
    claims: BTreeMap<Revision, usize>,
    /// Where requests took effect.
    seen: BTreeMap<usize, Revision>,
    /// Revisions that only a request whose outcome is unknown can explain.
    nobodys: Vec<Nobodys>,
    found: Writes,
}

/// A revision that no writer knows to be its own.
struct Nobodys {
    /// The requests that may have made it.
    by: Vec<usize>,
    /// What is wrong if none did.
    finding: Finding,
}

impl<'a> Trial<'a> {
    fn new(history: &'a History, record: &'a Record) -> Self {
        let base = history.base();
        let state = history.state_at(&hither::KeyRange::All, base);
        let state = state.into_iter().map(|(key, entry)| (key.clone(), entry.clone())).collect();
        let claim = |(place, op): (usize, &Op)| match op.outcome {
            Outcome::Done(revision) => Some((revision, place)),
            _ => None,
        };
        let claims = record.ops.iter().enumerate().filter_map(claim).collect();
        let nobodys = Vec::new();
        Self { history, record, state, claims, nobodys, seen: BTreeMap::new(), found: Writes::default() }
    }

    /// Finds who made a revision, and holds it to what they asked for.
    fn try_step(&mut self, revision: Revision, step: &Step) -> Result<(), Finding> {
        let claimed = self.claims.get(&revision).copied();
        let by = match wrote(step) {
            Some(None) => return Err(self.flaw(Kind::Phantom, revision, "a value that nobody wrote")),
            Some(Some(id)) => Some(id.place()),
            None => claimed,
        };
        if let (Some(by), Some(claimed)) = (by, claimed)
            && by != claimed
        {
            let who = OpId::at(claimed);
            return Err(self.flaw(Kind::Lost, revision, &format!("{who} was acknowledged at this revision")));
        }
        match by {
            Some(place) => self.try_request(revision, step, place),
            None => {
                self.try_nobodys(revision, step);
                Ok(())
            }
        }
    }

    fn try_request(&mut self, revision: Revision, step: &Step, place: usize) -> Result<(), Finding> {
        let id = OpId::at(place);
        let Some(op) = self.record.ops.get(place) else {
            return Err(self.flaw(Kind::Phantom, revision, &format!("{id} was never asked for")));
        };
        if let Some(before) = self.seen.insert(place, revision) {
            let what =
                format!("{id} took effect at {before} and again at {revision}; its writer knows {:?}", op.outcome);
            return Err(self.flaw(Kind::Twice, revision, &what));
        }
        match op.outcome {
            Outcome::Done(at) if at == revision => self.found.acknowledged += 1,
            Outcome::Unknown | Outcome::Pending => self.found.unknown_done += 1,
            // It was told of its second effect.
            Outcome::Done(at) if self.history.step(at).is_some_and(|step| wrote(step) == Some(Some(id))) => {
                let what = format!("{id} took effect at {revision} and again at {at}");
                return Err(self.flaw(Kind::Twice, at, &what));
            }
            outcome => {
                return Err(self.flaw(
                    Kind::Lost,
                    revision,
                    &format!("{id} took effect here; its writer knows {outcome:?}"),
                ));
            }
        }
        if let Some(flaw) = self.differs(step, &op.plan) {
            return Err(self.flaw(Kind::Lost, revision, &format!("{id} asked for {:?}: {flaw}", op.plan)));
        }
        self.found.transactions += u64::from(step.events.len() > 1);
        Ok(())
    }

    /// A revision that no request says is its own: leases that ended, standings that changed, or a deletion whose
    /// writer does not know what came of it.
    fn try_nobodys(&mut self, revision: Revision, step: &Step) {
        if step.events.iter().all(|event| matches!(event, Event::Liveness { .. })) {
            return;
        }
        match self.try_end_of_leases(revision, step) {
            Ok(lost) => {
                self.found.expiries += 1;
                self.found.lost += lost;
            }
            Err(finding) => {
                let may_be = |(place, op): (usize, &Op)| {
                    let open = matches!(op.outcome, Outcome::Unknown | Outcome::Pending);
                    let may_be =
                        open && !matches!(op.plan, Plan::Write { .. }) && self.differs(step, &op.plan).is_none();
                    may_be.then_some(place)
                };
                let by = self.record.ops.iter().enumerate().filter_map(may_be).collect();
                self.nobodys.push(Nobodys { by, finding });
            }
        }
    }

    /// Whether leases ended here, in their time; how many of them clients had kept.
    fn try_end_of_leases(&self, revision: Revision, step: &Step) -> Result<u64, Finding> {
        let ended: BTreeSet<LeaseId> =
            step.events.iter().filter_map(|event| self.state.get(event.key()?)?.lease).collect();
        if let Some(flaw) = self.is_not_the_end_of(&ended, step) {
            return Err(self.flaw(Kind::Phantom, revision, &format!("nobody asked for this, and {flaw}")));
        }
        for (lease, held) in ended.iter().filter_map(|lease| Some((lease, self.record.leases.get(lease)?))) {
            let lived = step.at.saturating_duration_since(held.sent);
            if lived < held.ttl {
                let what = format!(
                    "lease {lease} of {:?} ended {:?} after a sign of life that was acknowledged had been sent",
                    held.ttl, lived
                );
                return Err(self.flaw(Kind::Early, revision, &what));
            }
        }
        let mut kept = 0;
        for (lease, lost) in ended.iter().filter_map(|lease| Some((lease, self.record.kept.get(lease)?))) {
            kept += 1;
            if lost.is_none_or(|lost| lost > step.at + NOTICED) {
                let after = lost.map(|lost| lost.saturating_duration_since(step.at));
                let what =
                    format!("lease {lease} ended, and the client that kept it took it as lost only later: {after:?}");
                return Err(self.flaw(Kind::Early, revision, &what));
            }
        }
        Ok(kept)
    }

    /// Why these are not the deletions of all keys of these leases.
    fn is_not_the_end_of(&self, ended: &BTreeSet<LeaseId>, step: &Step) -> Option<String> {
        let deleted: BTreeSet<&Key> = step.events.iter().filter_map(deleted).collect();
        if deleted.len() != step.events.len() {
            return Some("it is not only deletions".to_owned());
        }
        let leased = |entry: &&Entry| entry.lease.is_some_and(|lease| ended.contains(&lease));
        let of: BTreeSet<&Key> = self.state.values().filter(leased).map(|entry| &entry.key).collect();
        (of != deleted).then(|| format!("the leases {ended:?} had the keys {of:?}"))
    }

    /// Why a revision is not what was asked for.
    fn differs(&self, step: &Step, plan: &Plan) -> Option<String> {
        let is_there = |key: &Key| self.state.contains_key(key);
        let (puts, deletes, lease): (&[_], Vec<&Key>, _) = match plan {
            Plan::Write { when, puts, deletes, lease } => {
                if let Some(Condition { key, value }) = when {
                    let is = self.state.get(key).map(|entry| &entry.value);
                    if is != value.as_ref() {
                        return Some(format!("its condition did not hold: {key} was {is:?}"));
                    }
                }
                (puts, deletes.iter().filter(|key| is_there(key)).collect(), *lease)
            }
            Plan::Delete(range) => {
                (&[], self.state.keys().filter(|key| range.contains(key.as_bytes())).collect(), None)
            }
            Plan::Revoke(lease) => {
                let of = self.state.values().filter(|entry| entry.lease == Some(*lease));
                (&[], of.map(|entry| &entry.key).collect(), None)
            }
        };
        let mut events = step.events.iter();
        for (key, value) in puts {
            match events.next() {
                Some(Event::Put { entry, .. })
                    if entry.key == *key && entry.value == *value && entry.lease == lease => {}
                other => return Some(format!("{key} should be written, there is {}", shown(other))),
            }
        }
        let rest: BTreeSet<&Key> = events.clone().filter_map(deleted).collect();
        if rest.len() != events.len() || rest != deletes.iter().copied().collect() {
            return Some(format!("{deletes:?} should be deleted"));
        }
        None
    }

    fn apply(&mut self, step: &Step) {
        for event in &step.events {
            match event {
                Event::Put { entry, .. } => drop(self.state.insert(entry.key.clone(), entry.clone())),
                Event::Delete { key, .. } => drop(self.state.remove(key)),
                Event::Liveness { .. } => {}
            }
        }
    }

    fn finish(mut self) -> Result<Writes, Finding> {
        // Each request explains one revision at most: looked for as a matching, since several may explain the same.
        let mut made: BTreeMap<usize, usize> = BTreeMap::new();
        for (place, nobodys) in self.nobodys.iter().enumerate() {
            if !explain(&self.nobodys, place, &mut made, &mut BTreeSet::new()) {
                return Err(nobodys.finding.clone());
            }
        }
        self.found.unknown_done += made.len() as u64;
        self.found.requests = self.record.ops.len() as u64;
        for (place, op) in self.record.ops.iter().enumerate() {
            let is_seen = self.seen.contains_key(&place);
            match op.outcome {
                Outcome::Done(revision) if !is_seen => {
                    let what = format!("{} was acknowledged at this revision: {:?}", OpId::at(place), op.plan);
                    return Err(self.flaw(Kind::Lost, revision, &what));
                }
                Outcome::Unknown | Outcome::Pending if !is_seen && !made.contains_key(&place) => {
                    self.found.unknown_lost += 1
                }
                _ => {}
            }
        }
        self.try_traceless()?;
        self.try_refusals()?;
        Ok(self.found)
    }

    fn flaw(&self, kind: Kind, revision: Revision, what: &str) -> Finding {
        let events = self.history.step(revision).map(|step| show(&step.events));
        let has = events.unwrap_or_else(|| format!("nothing: it ends at {}", self.history.head()));
        Finding::new(kind, "the writers", format!("{what}\n  history has at {revision}: {has}"))
    }
}

/// Finds a request for a revision, and another for the one that has it now if that is needed.
fn explain(nobodys: &[Nobodys], place: usize, made: &mut BTreeMap<usize, usize>, asked: &mut BTreeSet<usize>) -> bool {
    nobodys[place].by.iter().any(|by| {
        let free = asked.insert(*by) && made.get(by).copied().is_none_or(|other| explain(nobodys, other, made, asked));
        if free {
            made.insert(*by, place);
        }
        free
    })
}

/// Who wrote the values of a revision, if it has any; none in it if that is nobody known.
fn wrote(step: &Step) -> Option<Option<OpId>> {
    step.events.iter().find_map(|event| match event {
        Event::Put { entry, .. } => Some(writer_of(&entry.value)),
        _ => None,
    })
}

fn deleted(event: &Event) -> Option<&Key> {
    if let Event::Delete { key, .. } = event { Some(key) } else { None }
}

fn shown(event: Option<&Event>) -> String {
    event.map_or_else(|| "nothing".to_owned(), line)
}

#[cfg(test)]
mod tests;
