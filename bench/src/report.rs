//! The page of tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::asked::{self, Measured};
use crate::workload::event::PUTS_MIN;
use crate::workload::{Figures, median};

/// What may not happen in any run: a median would hide what happened in one of three.
const SUMMED: [&str; 2] = ["lost", "doubled"];

/// Whether anything was lost or doubled in a run.
pub(crate) fn has_lost(figures: &Figures) -> bool {
    SUMMED.iter().any(|name| figures.get(name).is_some_and(|&count| count > 0.0))
}

/// The figures of one workload: every run of every system.
pub(crate) struct Section {
    title: &'static str,
    workload: &'static str,
    runs: Vec<(&'static str, Vec<Figures>)>,
}

/// All of it.
pub(crate) struct Page {
    machine: String,
    rounds: usize,
    seconds: f64,
    sections: Vec<Section>,
    /// How steady the machine was.
    remarks: String,
}

impl Section {
    pub(crate) fn new(title: &'static str, workload: &'static str) -> Self {
        Self { title, workload, runs: Vec::new() }
    }

    pub(crate) fn add(&mut self, system: &'static str, figures: Figures) {
        match self.runs.iter_mut().find(|(name, _)| *name == system) {
            Some((_, runs)) => runs.push(figures),
            None => self.runs.push((system, vec![figures])),
        }
    }

    /// Of each system what its runs come to.
    fn settled(&self) -> impl Iterator<Item = (&'static str, BTreeMap<&'static str, f64>)> {
        self.runs.iter().map(|(system, runs)| {
            let names = runs.iter().flat_map(|figures| figures.keys().copied());
            let settled = names.map(|name| {
                let values = runs.iter().filter_map(|figures| figures.get(name).copied());
                let is_summed = SUMMED.contains(&name);
                (name, if is_summed { values.sum() } else { median(values.collect()) })
            });
            (*system, settled.collect())
        })
    }
}

impl Page {
    pub(crate) fn new(machine: String, rounds: usize, seconds: f64) -> Self {
        Self { machine, rounds, seconds, sections: Vec::new(), remarks: String::new() }
    }

    pub(crate) fn push(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// How it went: the sentences that are not empty.
    pub(crate) fn remark(&mut self, sentences: impl IntoIterator<Item = String>) {
        for sentence in sentences.into_iter().filter(|sentence| !sentence.is_empty()) {
            self.remarks.push(' ');
            self.remarks.push_str(&sentence);
        }
    }

    pub(crate) fn render(&self) -> String {
        let mut page = format!(
            "# Benchmarks\n\n\
             Written by `make bench`: do not edit. Measured on {}.\n\n\
             One load generator, single-threaded, in a process of its own; it shares the cores with the server. Every \
             run has a fresh server on an empty directory; the systems take turns; each figure is the median of {} \
             runs of {} s, and of at least {} puts where these come 200 a second; what was lost or doubled is summed \
             over all of them. Both systems acknowledge a put after fdatasync. Hither speaks QUIC with TLS and mutual \
             authentication, etcd plain HTTP/2. \"bare QUIC\" is no store at all: an echo of 300-byte messages over one stream, 300-byte messages pushed to raw streams, or, \
             beside put to event, one that is written to a file and synced before it goes on to another connection: \
             what the machine allows. Compare within one table only.{}\n",
            self.machine, self.rounds, self.seconds, PUTS_MIN, self.remarks
        );
        let measured = self
            .sections
            .iter()
            .flat_map(|section| section.settled().map(|(system, figures)| ((section.workload, system), figures)));
        page.push_str(&asked::table(&Measured(measured.collect()), show));
        let mut title = "";
        let mut columns: Vec<&str> = Vec::new();
        for section in &self.sections {
            let settled: Vec<_> = section.settled().collect();
            if section.title != title {
                title = section.title;
                columns = settled.first().map(|(_, figures)| figures.keys().copied().collect()).unwrap_or_default();
                let rule = "---|".repeat(columns.len());
                // Writing to a String does not fail.
                let _ =
                    write!(page, "\n## {title}\n\n| workload | system | {} |\n|---|---|{rule}\n", columns.join(" | "));
            }
            for (system, figures) in settled {
                let cells: Vec<String> =
                    columns.iter().map(|name| figures.get(name).map_or("".into(), |&value| show(value))).collect();
                let _ = writeln!(page, "| {} | {system} | {} |", section.workload, cells.join(" | "));
            }
        }
        page
    }
}

/// Three digits that count.
fn show(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        1000.0.. => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_the_median_of_each_system() {
        let mut page = Page::new("a machine".into(), 3, 1.0);
        let mut section = Section::new("Put", "put, 1 in flight");
        for value in [3.0, 1_234_567.0, 2.0] {
            section.add("Hither", Figures::from([("operations/s", value)]));
            section.add("etcd", Figures::from([("operations/s", value * 10_000.0)]));
        }
        page.push(section);
        let text = page.render();
        assert!(text.contains("| put, 1 in flight | Hither | 3.00 |"), "{text}");
        assert!(text.contains("| put, 1 in flight | etcd | 30,000 |"), "{text}");
    }

    #[test]
    fn what_was_lost_or_doubled_is_seen_and_zeros_and_other_figures_are_not() {
        assert!(has_lost(&Figures::from([("lost", 0.0), ("doubled", 1.0)])));
        assert!(!has_lost(&Figures::from([("lost", 0.0), ("doubled", 0.0), ("operations/s", 7.0)])));
    }

    #[test]
    fn what_one_run_of_three_lost_is_lost() {
        let mut page = Page::new("a machine".into(), 3, 1.0);
        let mut section = Section::new("Burst", "burst, 1,000 watchers");
        for lost in [0.0, 2.0, 0.0] {
            section.add("Hither", Figures::from([("lost", lost), ("doubled", 0.0)]));
        }
        page.push(section);
        let text = page.render();
        assert!(text.contains("| burst, 1,000 watchers: lost | at most | 0 | 2.00 | **no** |"), "{text}");
        assert!(text.contains("| burst, 1,000 watchers: doubled | at most | 0 | 0 | yes |"), "{text}");
    }
}
