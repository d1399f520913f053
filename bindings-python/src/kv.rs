//! Reading and writing keys.

use futures_util::TryFutureExt;
use hither::{KeyRange, LeaseId};
use pyo3::prelude::*;

use crate::call::run;
use crate::client::Core;
use crate::convert::{Blob, Keys, LeaseArgument, Seconds, consistency};
use crate::types::{Count, Found, Stamped};

/// Reads a key: its entry, or none; with `stamped`, both that and where the answer comes from.
#[pyfunction]
#[pyo3(signature = (core, key, at_least, max_age, stamped, timeout))]
pub(crate) fn kv_get(
    py: Python<'_>,
    core: &Core,
    key: Blob,
    at_least: Option<u64>,
    max_age: Option<Seconds>,
    stamped: bool,
    timeout: Option<Seconds>,
) -> PyResult<Py<PyAny>> {
    let mut get = core.client()?.get(key).consistency(consistency(at_least, max_age)?);
    if let Some(Seconds(timeout)) = timeout {
        get = get.timeout(timeout);
    }
    if stamped {
        run(core, py, get.stamped().map_ok(|(stamp, entry)| Stamped(stamp, entry)))
    } else {
        run(core, py, get.stamped().map_ok(|(_, entry)| Found(entry)))
    }
}

/// Writes a key.
#[pyfunction]
#[pyo3(signature = (core, key, value, lease, previous, timeout))]
pub(crate) fn kv_put(
    py: Python<'_>,
    core: &Core,
    key: Blob,
    value: Blob,
    lease: Option<LeaseArgument>,
    previous: bool,
    timeout: Option<Seconds>,
) -> PyResult<Py<PyAny>> {
    let lease: Option<LeaseId> = lease.map(|LeaseArgument(lease)| lease);
    let mut put = core.client()?.put(key, value.0).lease(lease);
    if previous {
        put = put.previous();
    }
    if let Some(Seconds(timeout)) = timeout {
        put = put.timeout(timeout);
    }
    run(core, py, put.stamped().map_ok(|(stamp, reply)| Stamped(stamp, reply)))
}

/// Deletes a key or a range.
#[pyfunction]
#[pyo3(signature = (core, keys, previous, timeout))]
pub(crate) fn kv_delete(
    py: Python<'_>,
    core: &Core,
    keys: Keys,
    previous: bool,
    timeout: Option<Seconds>,
) -> PyResult<Py<PyAny>> {
    let mut delete = core.client()?.delete_range(keys.0);
    if previous {
        delete = delete.previous();
    }
    if let Some(Seconds(timeout)) = timeout {
        delete = delete.timeout(timeout);
    }
    run(core, py, delete.stamped().map_ok(|(stamp, reply)| Stamped(stamp, reply)))
}

/// Reads a range. `what`: `entries`, `keys` or `count`.
#[pyfunction]
#[pyo3(signature = (core, keys, what, limit, reverse, at_least, max_age, timeout))]
#[expect(clippy::too_many_arguments, reason = "Python's parameters, each with its name there")]
pub(crate) fn kv_list(
    py: Python<'_>,
    core: &Core,
    keys: Keys,
    what: &str,
    limit: u64,
    reverse: bool,
    at_least: Option<u64>,
    max_age: Option<Seconds>,
    timeout: Option<Seconds>,
) -> PyResult<Py<PyAny>> {
    let range: KeyRange = keys.0;
    let mut list = core.client()?.range(range).limit(limit).consistency(consistency(at_least, max_age)?);
    if reverse {
        list = list.reverse();
    }
    if let Some(Seconds(timeout)) = timeout {
        list = list.timeout(timeout);
    }
    match what {
        "count" => run(core, py, list.count().map_ok(Count)),
        "keys" => run(core, py, list.keys_only().stamped().map_ok(|(stamp, reply)| Stamped(stamp, reply))),
        _ => run(core, py, list.stamped().map_ok(|(stamp, reply)| Stamped(stamp, reply))),
    }
}
