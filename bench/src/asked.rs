//! What was asked for before anything was built, beside what was measured.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The medians of a run: by workload, system and figure.
pub(crate) struct Measured(pub(crate) BTreeMap<(&'static str, &'static str), BTreeMap<&'static str, f64>>);

impl Measured {
    fn get(&self, workload: &'static str, system: &'static str, figure: &str) -> Option<f64> {
        self.0.get(&(workload, system))?.get(figure).copied()
    }
}

/// A bound on a figure of Hither's.
enum Bound {
    /// At most so many times etcd's.
    MostTimes(f64),
    /// At least so many times etcd's.
    LeastTimes(f64),
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
    /// At most so many times the bare machine's.
    MostTimesBare(f64),
    /// At most this more than the bare machine's.
    MostOverBare(f64),
    /// A percentage no further than this from 100, above or below.
    Even(f64),
}

struct Asked {
    workload: &'static str,
    figure: &'static str,
    bound: Bound,
}

const fn asked(workload: &'static str, figure: &'static str, bound: Bound) -> Asked {
    Asked { workload, figure, bound }
}

const HITHER: &str = "Hither";
const ETCD: &str = "etcd";
const BARE: &str = "bare QUIC";

use Bound::{Even, Least, LeastTimes, Most, MostOverBare, MostTimes, MostTimesBare};

const ASKED: &[Asked] = &[
    asked("put, 1 in flight", "p50 ms", MostTimes(0.75)),
    asked("put, 256 in flight, 1 connection", "operations/s", LeastTimes(5.0)),
    asked("put, 256 in flight, 8 connections", "operations/s", LeastTimes(5.0)),
    // What ZooKeeper 3.8 does on such a machine.
    asked("put, 256 in flight, 8 connections", "operations/s", Least(61_000.0)),
    asked("put, 256 in flight, 1 connection", "server CPU us/op", MostTimes(0.2)),
    asked("put, 256 in flight, 8 connections", "server CPU us/op", MostTimes(0.2)),
    asked("get, 1 in flight", "p50 ms", MostOverBare(0.05)),
    asked("get, 256 in flight, 1 connection", "operations/s", LeastTimes(8.0)),
    asked("get, 256 in flight, 8 connections", "operations/s", LeastTimes(8.0)),
    asked("get, 256 in flight, 1 connection", "server CPU us/op", MostTimes(0.125)),
    asked("get, 256 in flight, 8 connections", "server CPU us/op", MostTimes(0.125)),
    asked("put to event, 200 puts/s", "put to event p50 ms", MostTimes(0.6)),
    asked("put to event, 200 puts/s", "put to event p99 ms", MostTimes(0.6)),
    asked("fan-out, 10,000 watchers", "acknowledgement to last p50 ms", MostTimesBare(1.5)),
    asked("fan-out, 10,000 watchers", "acknowledgement to last p50 ms", MostTimes(0.5)),
    asked("fan-out, 10,000 watchers", "server KiB/idle watcher", Most(1.5)),
    asked("distinct keys, 10,000 watchers", "server KiB/idle watcher", Most(1.5)),
    asked("fan-out, 10,000 watchers", "lost", Most(0.0)),
    asked("fan-out, 10,000 watchers", "doubled", Most(0.0)),
    asked("burst, 1,000 watchers", "deliveries/s", Least(1_000_000.0)),
    asked("burst, 1,000 watchers", "lost", Most(0.0)),
    asked("burst, 1,000 watchers", "doubled", Most(0.0)),
    asked("10,000 instances", "registrations/s", LeastTimes(8.0)),
    asked("10,000 instances", "idle CPU, % of a core", Most(3.0)),
    asked("10,000 instances", "server KiB/instance", Most(1.5)),
    asked("10,000 instances", "last gone after kill s", Most(10.5)),
    asked("puts beside idle watchers", "beside 1,000, % of none", Even(10.0)),
    asked("puts beside idle watchers", "beside 10,000, % of none", Even(10.0)),
    asked("puts beside idle watchers", "beside 10,000, % of 1,000", Even(10.0)),
    asked("list 100,000 keys", "list p50 ms", MostTimes(0.35)),
    asked("start on an empty directory", "exec to first put ms", MostTimes(0.5)),
];

/// The table; empty where nothing of it was measured.
pub(crate) fn table(measured: &Measured, show: impl Fn(f64) -> String) -> String {
    let mut rows = String::new();
    for Asked { workload, figure, bound } in ASKED {
        let Some(ours) = measured.get(workload, HITHER, figure) else { continue };
        let Some((limit, words)) = limit(measured, workload, figure, bound) else { continue };
        let is_kept = match bound {
            Least(_) | LeastTimes(_) => ours >= limit,
            Most(_) | MostTimes(_) | MostTimesBare(_) | MostOverBare(_) => ours <= limit,
            Even(apart) => (ours - limit).abs() <= *apart,
        };
        let verdict = if is_kept { "yes" } else { "**no**" };
        // Writing to a String does not fail.
        let _ = writeln!(rows, "| {workload}: {figure} | {words} | {} | {} | {verdict} |", show(limit), show(ours));
    }
    if rows.is_empty() {
        return rows;
    }
    format!("\n## Asked and measured\n\n| figure | asked | that is | measured | |\n|---|---|---|---|---|\n{rows}")
}

/// The bound in the unit of the figure, and in words.
fn limit(measured: &Measured, workload: &'static str, figure: &str, bound: &Bound) -> Option<(f64, String)> {
    let of = |system| measured.get(workload, system, figure);
    Some(match *bound {
        MostTimes(times) => (of(ETCD)? * times, format!("at most {times} times etcd's")),
        LeastTimes(times) => (of(ETCD)? * times, format!("at least {times} times etcd's")),
        Most(most) => (most, "at most".into()),
        Least(least) => (least, "at least".into()),
        MostTimesBare(times) => (of(BARE)? * times, format!("at most {times} times {BARE}")),
        MostOverBare(more) => (of(BARE)? + more, format!("at most {BARE} and {more} more")),
        Even(apart) => (100.0, format!("at most {apart} apart from")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_reached_is_said_and_what_was_not_measured_is_left_out() {
        let figures = |value| BTreeMap::from([("p50 ms", value)]);
        let of = |ours| {
            let runs = [(HITHER, ours), (ETCD, 1.0)];
            Measured(runs.map(|(system, value)| (("put, 1 in flight", system), figures(value))).into())
        };
        let show = |value: f64| format!("{value}");
        let missed = table(&of(0.8), show);
        assert!(missed.contains("| put, 1 in flight: p50 ms | at most 0.75 times etcd's | 0.75 | 0.8 | **no** |"));
        assert!(table(&of(0.7), show).contains("| 0.7 | yes |"));
        assert_eq!(missed.lines().count(), 6, "{missed}");
        assert!(table(&Measured(BTreeMap::new()), show).is_empty());
    }

    #[test]
    fn what_is_to_be_even_may_be_neither_below_nor_above() {
        let beside = |some| {
            let figures = [("beside 1,000, % of none", some)];
            Measured([(("puts beside idle watchers", HITHER), figures.into())].into())
        };
        for (some, verdict) in [(89.0, "**no**"), (91.0, "yes"), (109.0, "yes"), (111.0, "**no**")] {
            let table = table(&beside(some), |value| format!("{value}"));
            assert!(table.contains(&format!("| 100 | {some} | {verdict} |")), "{table}");
        }
    }
}
