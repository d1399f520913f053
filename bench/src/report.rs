//! The page of tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::asked::{self, Measured};
use crate::workload::Figures;
use crate::workload::event::PUTS_MIN;

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

    fn medians(&self) -> impl Iterator<Item = (&'static str, BTreeMap<&'static str, f64>)> {
        self.runs.iter().map(|(system, runs)| {
            let names = runs.iter().flat_map(|figures| figures.keys().copied());
            let medians = names.map(|name| {
                let mut values: Vec<f64> = runs.iter().filter_map(|figures| figures.get(name).copied()).collect();
                values.sort_by(f64::total_cmp);
                (name, values[values.len() / 2])
            });
            (*system, medians.collect())
        })
    }
}

impl Page {
    pub(crate) fn new(machine: String, rounds: usize, seconds: f64) -> Self {
        Self { machine, rounds, seconds, sections: Vec::new() }
    }

    pub(crate) fn push(&mut self, section: Section) {
        self.sections.push(section);
    }

    pub(crate) fn render(&self) -> String {
        let mut page = format!(
            "# Benchmarks\n\n\
             Written by `make bench`: do not edit. Measured on {}.\n\n\
             One load generator, single-threaded, in a process of its own; it shares the cores with the server. Every \
             run has a fresh server on an empty directory; the systems take turns; each figure is the median of {} \
             runs of {} s, and of at least {} puts where these come 200 a second. Both systems acknowledge a put after \
             fdatasync. Hither speaks QUIC with TLS and mutual authentication, etcd plain HTTP/2. \"bare QUIC\" is no \
             store at all: an echo of 300-byte messages over one stream, 300-byte messages pushed to raw streams, or, \
             beside put to event, one that is written to a file and synced before it goes on to another connection: \
             what the machine allows. Compare within one table only.\n",
            self.machine, self.rounds, self.seconds, PUTS_MIN
        );
        let medians = self
            .sections
            .iter()
            .flat_map(|section| section.medians().map(|(system, figures)| ((section.workload, system), figures)));
        page.push_str(&asked::table(&Measured(medians.collect()), show));
        let mut title = "";
        let mut columns: Vec<&str> = Vec::new();
        for section in &self.sections {
            let medians: Vec<_> = section.medians().collect();
            if section.title != title {
                title = section.title;
                columns = medians.first().map(|(_, figures)| figures.keys().copied().collect()).unwrap_or_default();
                let rule = "---|".repeat(columns.len());
                // Writing to a String does not fail.
                let _ =
                    write!(page, "\n## {title}\n\n| workload | system | {} |\n|---|---|{rule}\n", columns.join(" | "));
            }
            for (system, figures) in medians {
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
}
