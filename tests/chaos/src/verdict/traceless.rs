//! What leaves no trace in history: requests that were carried out and changed nothing, and the revision at which a watch
//! from now on begins. Both say at which revision they found the state, which is held against what there was.

use std::time::Instant;

use hither::{KeyRange, Revision};

use super::Trial;
use crate::finding::{Finding, Kind};
use crate::ledger::{Asked, Condition, Op, OpId, Outcome, Plan};

/// Which revisions can have existed when: none before the request that made it was sent.
struct Existence {
    head: Revision,
    /// Revisions in order, each with the latest moment at which one up to it was asked for.
    asked: Vec<(Revision, Instant)>,
}

impl Existence {
    /// `made`: when the request was sent that made a revision, in order of revisions.
    fn new(head: Revision, made: impl Iterator<Item = (Revision, Instant)>) -> Self {
        let latest = |latest: &mut Option<Instant>, (revision, at): (Revision, Instant)| {
            *latest = (*latest).max(Some(at));
            latest.map(|latest| (revision, latest))
        };
        Self { head, asked: made.scan(None, latest).collect() }
    }

    /// The last that can have existed.
    fn by(&self, moment: Instant) -> Revision {
        let place = self.asked.partition_point(|(_, asked)| *asked <= moment);
        self.asked.get(place).map_or(self.head, |(revision, _)| Revision(revision.0 - 1))
    }
}

impl Trial<'_> {
    pub(super) fn try_traceless(&mut self) -> Result<(), Finding> {
        let mut made: Vec<(Revision, Instant)> = Vec::new();
        for (place, revision) in &self.seen {
            made.extend(self.record.ops[*place].asked.map(|asked| (*revision, asked.at)));
        }
        made.sort_unstable();
        let existence = Existence::new(self.history.head(), made.into_iter());
        for (place, op) in self.record.ops.iter().enumerate() {
            self.try_answer(place, op, &existence)?;
            self.found.nothing += u64::from(matches!(op.outcome, Outcome::Nothing(_)));
        }
        for opening in &self.record.openings {
            let last = existence.by(opening.told);
            if opening.revision > last {
                let what = format!(
                    "from now on is from {} on, when {last} was the last that can have existed",
                    opening.revision
                );
                return Err(Finding::new(Kind::Phantom, &opening.who, what));
            }
            self.found.openings += 1;
        }
        Ok(())
    }

    /// Whether a request was carried out after it was asked for and before it was answered, and rightly changed nothing if
    /// it says so.
    fn try_answer(&self, place: usize, op: &Op, existence: &Existence) -> Result<(), Finding> {
        let (Outcome::Done(at) | Outcome::Nothing(at)) = op.outcome else { return Ok(()) };
        let id = OpId::at(place);
        let changed = matches!(op.outcome, Outcome::Done(_));
        if let Some(Asked { after, .. }) = op.asked
            && (at < after || at == after && changed)
        {
            let what = format!("{id} was carried out at {at}, though {after} was acknowledged before it was asked for");
            return Err(self.flaw(Kind::Lost, at, &what));
        }
        if let Some(answered) = op.answered {
            let last = existence.by(answered);
            if at > last {
                let what = format!("{id} was answered at {at}, when {last} was the last that can have existed");
                return Err(self.flaw(Kind::Phantom, at, &what));
            }
        }
        if changed {
            return Ok(());
        }
        match self.effect(&op.plan, at) {
            Some(effect) => {
                let what = format!("{id} was told that it changed nothing at {at}, and {effect}: {:?}", op.plan);
                Err(self.flaw(Kind::Lost, at, &what))
            }
            None => Ok(()),
        }
    }

    /// What a request has to change in the state at a revision, if anything.
    fn effect(&self, plan: &Plan, at: Revision) -> Option<String> {
        match plan {
            Plan::Write { when: None, .. } => Some("it has no condition".to_owned()),
            Plan::Write { when: Some(Condition { key, value }), .. } => {
                let is = self.history.entry(key, at).map(|entry| &entry.value);
                (is == value.as_ref()).then(|| format!("its condition held: {key} was {is:?}"))
            }
            Plan::Delete(range) => {
                let there = self.history.state_at(range, at);
                there.keys().next().map(|key| format!("{key} was there"))
            }
            Plan::Revoke(lease) => {
                let there = self.history.state_at(&KeyRange::All, at);
                let of = there.values().find(|entry| entry.lease == Some(*lease))?;
                Some(format!("the lease had {}", of.key))
            }
        }
    }
}
