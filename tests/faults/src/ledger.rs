//! What was acknowledged, and whether a node still knows it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use hither::{Client, KeyRange, Revision};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Acknowledged writes are gone.
    #[error("{count} acknowledged writes were lost, such as {such_as}")]
    Lost {
        /// How many.
        count: usize,
        /// The key of one.
        such_as: String,
    },
    /// A key that was deleted is there.
    #[error("the acknowledged deletion of {0} was lost")]
    Undeleted(String),
    /// A key is there, and is of another write.
    #[error("{key} was acknowledged at {acknowledged} and is now of {found}")]
    Changed {
        /// Which.
        key: String,
        /// The revision of its write.
        acknowledged: u64,
        /// The revision that it has.
        found: u64,
    },
    /// A revision was given out twice.
    #[error("revision {revision} was given out for {first}, and again for {second}")]
    Reused {
        /// Which.
        revision: u64,
        /// What it was for.
        first: String,
        /// What it was for the second time.
        second: String,
    },
    /// The store's clock went back.
    #[error("revision {found} is lower than {known}, which was given out")]
    Lower {
        /// What the store says.
        found: Revision,
        /// What it said before.
        known: Revision,
    },
}

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
    twice: Option<Broken>,
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
            self.twice = Some(Broken::Reused { revision: revision.0, first: before, second: what });
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
        if let Some(twice) = &self.twice {
            bail!(twice.clone());
        }
        let (stamp, found) = reader.range(KeyRange::prefix(prefix)).stamped().await.context("reading it back")?;
        ensure!(stamp.revision >= self.last(), Broken::Lower { found: stamp.revision, known: self.last() });
        let mut seen = BTreeSet::new();
        for entry in found.entries {
            let key = String::from_utf8_lossy(entry.key.as_bytes()).into_owned();
            match self.fates.get(&key) {
                Some(Fate::Written { revision, value }) => {
                    let same = entry.mod_revision.0 == *revision && entry.value == value.as_bytes();
                    let found = entry.mod_revision.0;
                    ensure!(same, Broken::Changed { key, acknowledged: *revision, found });
                }
                Some(Fate::Deleted) => bail!(Broken::Undeleted(key)),
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
            bail!(Broken::Lost { count: lost.len(), such_as: (*first).clone() });
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
