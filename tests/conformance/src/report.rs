//! What came of a run: for people, for programs, and the tables in the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};

use crate::language::Language;
use crate::requirements::Known;
use crate::run::{Outcome, Plan, Played};

/// How a scenario stands in a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Every run that the language took part in passed.
    Passes,
    /// It fails, as is known.
    KnownToFail,
    /// It fails.
    Fails,
    /// It is said to fail, and passes.
    PassesUnexpectedly,
    /// The language has no such thing.
    Absent,
}

impl Standing {
    const fn sign(self) -> &'static str {
        match self {
            Self::Passes => "yes",
            Self::KnownToFail => "known to fail",
            Self::Fails => "**fails**",
            Self::PassesUnexpectedly => "**passes**",
            Self::Absent => "-",
        }
    }
}

/// The results of a run.
pub(crate) struct Report<'a> {
    plan: &'a Plan,
    played: &'a [Played],
    known: &'a Known,
}

impl<'a> Report<'a> {
    /// Of what was played.
    pub(crate) const fn new(plan: &'a Plan, played: &'a [Played], known: &'a Known) -> Self {
        Self { plan, played, known }
    }

    fn languages(&self) -> impl Iterator<Item = Language> {
        self.plan.languages.keys().copied()
    }

    /// How a scenario stands in a language. A failure in a pair is blamed on the language that is known to fail; on both
    /// if neither is.
    fn standing(&self, scenario: usize, language: Language) -> Standing {
        let id = &self.plan.scenarios[scenario].id;
        let known = self.known.has(language, id);
        let (mut runs, mut failed, mut excused) = (0, 0, 0);
        for played in self.played.iter().filter(|played| played.scenario == scenario) {
            if !played.cast.languages().contains(&language) {
                continue;
            }
            match played.outcome {
                Outcome::Passed => runs += 1,
                Outcome::Failed(_) => {
                    runs += 1;
                    failed += 1;
                    let others = played.cast.languages();
                    excused += usize::from(others.iter().any(|other| *other != language && self.known.has(*other, id)));
                }
                Outcome::Unsupported(_) => {}
            }
        }
        match (runs, failed, known) {
            (0, ..) => Standing::Absent,
            (_, 0, false) => Standing::Passes,
            (_, 0, true) => Standing::PassesUnexpectedly,
            (_, _, true) => Standing::KnownToFail,
            (_, _, false) if failed == excused => Standing::Passes,
            (..) => Standing::Fails,
        }
    }

    fn counts(&self, language: Language, area: Option<&str>) -> BTreeMap<Standing, usize> {
        let mut counts = BTreeMap::new();
        for (index, scenario) in self.plan.scenarios.iter().enumerate() {
            if area.is_none_or(|area| scenario.area == area) {
                *counts.entry(self.standing(index, language)).or_default() += 1;
            }
        }
        counts
    }

    /// What is not as it should be: an empty list is a success.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (index, scenario) in self.plan.scenarios.iter().enumerate() {
            for language in self.languages() {
                match self.standing(index, language) {
                    Standing::Fails => faults.push(format!("{} fails in {language}", scenario.id)),
                    Standing::PassesUnexpectedly => faults.push(format!(
                        "{} passes in {language}: take it out of known-failing/{language}.txt",
                        scenario.id
                    )),
                    Standing::Passes | Standing::KnownToFail | Standing::Absent => {}
                }
            }
        }
        faults
    }

    /// The end of the output.
    pub(crate) fn summary(&self) -> String {
        let mut out = String::new();
        for language in self.languages() {
            let counts = self.counts(language, None);
            let of = |standing: Standing| counts.get(&standing).copied().unwrap_or_default();
            let _ = writeln!(
                out,
                "{:14} {:3} scenarios pass, {} fail, {} known to fail, {} it has no operation for",
                language.title(),
                of(Standing::Passes),
                of(Standing::Fails) + of(Standing::PassesUnexpectedly),
                of(Standing::KnownToFail),
                of(Standing::Absent),
            );
        }
        let known = |played: &Played| {
            let id = &self.plan.scenarios[played.scenario].id;
            played.cast.languages().into_iter().any(|language| self.known.has(language, id))
        };
        let (mut passed, mut failed, mut ignored) = (0, 0, 0);
        for played in self.played {
            match played.outcome {
                Outcome::Passed => passed += 1,
                Outcome::Failed(_) if !known(played) => failed += 1,
                Outcome::Failed(_) | Outcome::Unsupported(_) => ignored += 1,
            }
        }
        let word = if self.faults().is_empty() { "ok" } else { "FAILED" };
        // As cargo says it, so that whoever adds up results needs to know one form.
        let _ = writeln!(out, "test result: {word}. {passed} passed; {failed} failed; {ignored} ignored");
        out
    }

    /// Runs of scenarios with several actors that passed, by the languages in them, in order.
    fn pairs(&self) -> BTreeMap<(Language, Language), BTreeSet<usize>> {
        let mut pairs: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
        for played in self.played.iter().filter(|played| matches!(played.outcome, Outcome::Passed)) {
            for pair in played.cast.pairs() {
                pairs.entry(pair).or_default().insert(played.scenario);
            }
        }
        pairs
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let outcome = |played: &Played| match &played.outcome {
            Outcome::Passed => json!({ "outcome": "passed" }),
            Outcome::Failed(fault) => json!({ "outcome": "failed", "fault": fault }),
            Outcome::Unsupported(why) => json!({ "outcome": "unsupported", "why": why }),
        };
        let run = |played: &Played| {
            let mut run = outcome(played);
            let cast: BTreeMap<&String, &str> =
                played.cast.0.iter().map(|(actor, language)| (actor, language.name())).collect();
            run["scenario"] = self.plan.scenarios[played.scenario].id.clone().into();
            run["cast"] = json!(cast);
            run["took_ms"] = u64::try_from(played.took.as_millis()).unwrap_or(u64::MAX).into();
            run
        };
        let runs: Vec<Value> = self.played.iter().map(run).collect();
        let languages: BTreeMap<&str, Value> = self
            .languages()
            .map(|language| {
                let counts = self.counts(language, None);
                let of = |standing: Standing| counts.get(&standing).copied().unwrap_or_default();
                let shown = json!({
                    "version": self.plan.languages[&language].version,
                    "passed": of(Standing::Passes),
                    "failed": of(Standing::Fails) + of(Standing::PassesUnexpectedly),
                    "known_failing": of(Standing::KnownToFail),
                    "unsupported": of(Standing::Absent),
                });
                (language.name(), shown)
            })
            .collect();
        json!({ "scenarios": self.plan.scenarios.len(), "languages": languages, "runs": runs })
    }

    /// The pages of the documentation: counts and names, no times, so that two good runs make the same ones.
    pub(crate) fn page(&self) -> String {
        let mut out = String::from(PREFACE);
        let mut areas: Vec<&str> = self.plan.scenarios.iter().map(|scenario| scenario.area.as_str()).collect();
        areas.dedup();

        self.header(&mut out, "area");
        for area in &areas {
            self.row(&mut out, area, |language| self.share(language, Some(area)));
        }
        self.row(&mut out, "**all**", |language| format!("**{}**", self.share(language, None)));

        out.push_str(PAIRS);
        self.header(&mut out, "");
        let pairs = self.pairs();
        for first in self.languages() {
            let count = |second| pairs.get(&(first, second)).map_or(0, BTreeSet::len).to_string();
            self.row(&mut out, first.title(), count);
        }

        out.push_str("\n## Scenarios\n");
        for area in &areas {
            let _ = writeln!(out, "\n### {area}\n");
            self.header(&mut out, "scenario");
            for (index, scenario) in self.plan.scenarios.iter().enumerate().filter(|(_, one)| one.area == *area) {
                self.row(&mut out, &scenario.title, |language| self.standing(index, language).sign().to_owned());
            }
        }
        out
    }

    /// What the README says of it.
    pub(crate) fn block(&self) -> String {
        let mut out = String::from("\n");
        self.header(&mut out, "");
        self.row(&mut out, "scenarios passed", |language| self.share(language, None));
        let pairs = self.pairs();
        let with_others = |language: Language| {
            let of = |pair: &(Language, Language)| pair.0 == language || pair.1 == language;
            let scenarios: BTreeSet<_> = pairs.iter().filter(|(pair, _)| of(pair)).flat_map(|(_, all)| all).collect();
            scenarios.len().to_string()
        };
        self.row(&mut out, "of these together with another process", with_others);
        out.push('\n');
        out
    }

    fn header(&self, out: &mut String, first: &str) {
        let titles: Vec<&str> = self.languages().map(Language::title).collect();
        let _ = writeln!(out, "| {first} | {} |", titles.join(" | "));
        let _ = writeln!(out, "|---|{}", "---|".repeat(titles.len()));
    }

    fn row(&self, out: &mut String, first: &str, cell: impl Fn(Language) -> String) {
        let cells: Vec<String> = self.languages().map(cell).collect();
        let _ = writeln!(out, "| {first} | {} |", cells.join(" | "));
    }

    fn share(&self, language: Language, area: Option<&str>) -> String {
        let counts = self.counts(language, area);
        let passed = counts.get(&Standing::Passes).copied().unwrap_or_default();
        let all: usize = counts.values().sum();
        if passed == all { passed.to_string() } else { format!("{passed} of {all}") }
    }
}

const PREFACE: &str = "\
# What every language does

Made from the results of the conformance suite by `scripts/conformance --write`; without `--write` the same script fails
if this page says something else. Each number counts the scenarios that passed, played by a driver of that language
against real servers. What makes no sense in a language (a fork outside Python) is not counted as passed.

";

const PAIRS: &str = "
## Pairs

Scenarios of several actors in which one language (row) and another (column) took part together, in the order of the
actors' names, and passed.

";
