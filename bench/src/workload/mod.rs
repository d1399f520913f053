//! What is measured.

pub(crate) mod burst;
pub(crate) mod closed_loop;
pub(crate) mod event;
pub(crate) mod fan_out;
pub(crate) mod instances;
pub(crate) mod list;
pub(crate) mod start;

use std::collections::BTreeMap;

/// The figures of one run of one workload, by name. The names are the columns of its table.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Bytes of every value written.
pub(crate) const VALUE_BYTES: usize = 256;

/// The `n`th of the keys that puts and gets go over.
pub(crate) fn key(n: usize) -> String {
    format!("bench/{:06}", n % 1_000)
}
