//! What is measured.

pub(crate) mod applied;
pub(crate) mod burst;
pub(crate) mod closed_loop;
pub(crate) mod distinct;
pub(crate) mod event;
pub(crate) mod fan_out;
pub(crate) mod idle;
pub(crate) mod instances;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod start;
mod tally;

use std::collections::BTreeMap;

/// The figures of one run of one workload, by name. The names are the columns of its table.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Bytes of every value written.
pub(crate) const VALUE_BYTES: usize = 256;

/// The `n`th of the keys that puts and gets go over.
pub(crate) fn key(n: usize) -> String {
    format!("bench/{:06}", n % 1_000)
}

/// One key, so many times: what as many watchers of it ask for.
pub(crate) fn same(key: &str, times: usize) -> impl Iterator<Item = String> {
    std::iter::repeat_n(key.to_owned(), times)
}

/// Of at least one figure.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    f64::midpoint(of[middle], of[(of.len() - 1) / 2])
}
