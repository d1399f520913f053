//! The requirements, and what is known to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::language::Language;
use crate::scenario::Scenario;

/// The numbers in `requirements.md`: those of lines such as `| HC-001 | MUST | ... |`.
///
/// # Errors
/// If the file cannot be read or has a number twice.
pub(crate) fn load(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let mut numbers = BTreeSet::new();
    for line in text.lines() {
        let Some(number) = line.strip_prefix("| ").and_then(|line| line.split(' ').next()) else { continue };
        if number.starts_with("HC-") {
            ensure!(numbers.insert(number.to_owned()), "{number} is there twice");
        }
    }
    Ok(numbers)
}

/// Whether each requirement is shown by a scenario, and each that is cited exists.
///
/// # Errors
/// With all that are not.
pub(crate) fn check(numbers: &BTreeSet<String>, scenarios: &[Scenario]) -> anyhow::Result<()> {
    let cited: BTreeSet<&String> = scenarios.iter().flat_map(|scenario| &scenario.cites).collect();
    let unknown: Vec<_> = cited.iter().filter(|number| !numbers.contains(**number)).collect();
    ensure!(unknown.is_empty(), "cited and not in requirements.md: {unknown:?}");
    let idle: Vec<_> = numbers.iter().filter(|number| !cited.contains(number)).collect();
    ensure!(idle.is_empty(), "no scenario shows {idle:?}");
    Ok(())
}

/// The scenarios that are known to fail, by language.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(BTreeMap<Language, BTreeSet<String>>);

impl Known {
    /// Reads `LANGUAGE.txt` of a folder: an id on each line, and after a `#` why.
    ///
    /// # Errors
    /// If a file cannot be read, names no scenario, or does not say why.
    pub(crate) fn load(folder: &Path, scenarios: &[Scenario]) -> anyhow::Result<Self> {
        let mut known = BTreeMap::new();
        for language in Language::ALL {
            let path = folder.join(format!("{language}.txt"));
            let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
            let mut ids = BTreeSet::new();
            for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
                let (id, why) = line.split_once('#').unwrap_or((line, ""));
                let id = id.trim();
                let place = || format!("{}: {id}", path.display());
                ensure!(scenarios.iter().any(|scenario| scenario.id == id), "{}: there is no such scenario", place());
                ensure!(!why.trim().is_empty(), "{}: say why, after a #", place());
                ids.insert(id.to_owned());
            }
            known.insert(language, ids);
        }
        Ok(Self(known))
    }

    /// Whether a scenario is known to fail in a language.
    pub(crate) fn has(&self, language: Language, scenario: &str) -> bool {
        self.0.get(&language).is_some_and(|ids| ids.contains(scenario))
    }
}
