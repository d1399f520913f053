//! What was acknowledged, and whether a node still knows it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use hither::{Client, KeyRange, Revision};

/// What is known of a key that is written once and deleted at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Written {
        revision: u64,
        value: String,
    },
    /// A deletion is under way: both answers are right.
    Deleting,
    Deleted,
}

/// The acknowledged writes of a load whose keys are never used twice, so that no loss is covered by a later write.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    fates: BTreeMap<String, Fate>,
    /// Every revision that was given out for a write, and for what.
    revisions: BTreeMap<u64, String>,
    /// What was given out twice; a writer has nobody to tell.
    twice: Vec<String>,
}

impl Ledger {
    /// A write was acknowledged; of several keys in one revision if it was a transaction.
    pub fn wrote(&mut self, revision: Revision, writes: &[(String, String)]) {
        let names: Vec<_> = writes.iter().map(|(key, _)| key.as_str()).collect();
        self.gave_out(revision, names.join(" and "));
        for (key, value) in writes {
            self.fates.insert(key.clone(), Fate::Written { revision: revision.0, value: value.clone() });
        }
    }

    /// A key is about to be deleted.
    pub fn deletes(&mut self, key: &str) {
        self.fates.insert(key.to_owned(), Fate::Deleting);
    }

    /// Its deletion was acknowledged.
    pub fn deleted(&mut self, revision: Revision, key: &str) {
        self.gave_out(revision, format!("the deletion of {key}"));
        self.fates.insert(key.to_owned(), Fate::Deleted);
    }

    fn gave_out(&mut self, revision: Revision, what: String) {
        if let Some(before) = self.revisions.insert(revision.0, what.clone()) {
            self.twice.push(format!("revision {revision} was given out for {before}, and again for {what}"));
        }
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.revisions.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// The highest revision that was given out.
    #[must_use]
    pub fn last(&self) -> Revision {
        Revision(self.revisions.last_key_value().map_or(0, |(&revision, _)| revision))
    }

    /// Reads all of it back from a node that was told none of what this side knows.
    ///
    /// # Errors
    /// The first promise that does not hold: an acknowledged write or deletion that is gone, a revision given out
    /// twice or lower than before.
    pub async fn verify(&self, reader: &Client, prefix: &str) -> anyhow::Result<()> {
        if let Some(twice) = self.twice.first() {
            bail!("{twice}");
        }
        let (stamp, found) = reader.range(KeyRange::prefix(prefix)).stamped().await.context("reading it back")?;
        ensure!(stamp.revision >= self.last(), "revision {} is lower than {}", stamp.revision, self.last());
        let mut seen = BTreeSet::new();
        for entry in found.entries {
            let key = String::from_utf8_lossy(entry.key.as_bytes()).into_owned();
            match self.fates.get(&key) {
                Some(Fate::Written { revision, value }) => {
                    let same = entry.mod_revision.0 == *revision && entry.value == value.as_bytes();
                    ensure!(same, "{key} was acknowledged at {revision} and is now of {}", entry.mod_revision);
                }
                Some(Fate::Deleted) => bail!("the acknowledged deletion of {key} was lost"),
                // Not acknowledged yet.
                Some(Fate::Deleting) | None => {}
            }
            seen.insert(key);
        }
        let lost: Vec<_> = self
            .fates
            .iter()
            .filter(|(key, fate)| matches!(fate, Fate::Written { .. }) && !seen.contains(*key))
            .map(|(key, _)| key)
            .collect();
        if let Some(first) = lost.first() {
            bail!("{} acknowledged writes were lost, such as {first}", lost.len());
        }
        Ok(())
    }

    /// Whether the events of one watch over everything are exactly what was acknowledged: each once, in its order.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, told: &[(u64, String)]) -> anyhow::Result<()> {
        let revisions: Vec<u64> = told.iter().map(|(revision, _)| *revision).collect();
        ensure!(revisions.is_sorted(), "a watch told revisions out of their order");
        let distinct: BTreeSet<_> = told.iter().collect();
        ensure!(distinct.len() == told.len(), "a watch told an event twice");
        let of_watch: BTreeSet<u64> = revisions.into_iter().collect();
        let of_writers: BTreeSet<u64> = self.revisions.keys().copied().collect();
        if let Some(missed) = of_writers.difference(&of_watch).next() {
            bail!("a watch was never told of revision {missed}, {}", self.revisions[missed]);
        }
        if let Some(invented) = of_watch.difference(&of_writers).next() {
            bail!("a watch was told of revision {invented}, which nobody wrote");
        }
        Ok(())
    }
}
