//! Instances as Python's, each made once: a pick hands out what is there already.

use std::collections::HashMap;
use std::sync::Arc;

use hither::Instance;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::types::Class;

static INSTANCE: Class = Class::of("hither._services", "Instance");
static ENDPOINT: Class = Class::of("hither._services", "Endpoint");

/// Instances beyond this many are looked through for those that no view has any more, and again when twice as many as
/// are left have come.
const LOOK_AT: usize = 64;

/// The instances that a client has shown. Only threads that are attached to Python lock it, and none lets go of Python
/// meanwhile.
#[derive(Default)]
pub(crate) struct Shown {
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// By address, which is nobody else's as long as the instance is held here.
    instances: HashMap<usize, (Arc<Instance>, Py<PyAny>)>,
    look_at: usize,
}

impl Shown {
    /// The one object of this instance.
    pub(crate) fn instance(&self, py: Python<'_>, instance: &Arc<Instance>) -> PyResult<Py<PyAny>> {
        let address = Arc::as_ptr(instance).addr();
        if let Some((_, shown)) = self.made.lock().instances.get(&address) {
            return Ok(shown.clone_ref(py));
        }
        let shown = build(py, instance)?;
        let mut made = self.made.lock();
        made.instances.insert(address, (Arc::clone(instance), shown.clone_ref(py)));
        let forgotten = made.forget();
        // Nothing of Python's is dropped under the lock.
        drop(made);
        drop(forgotten);
        Ok(shown)
    }

    /// The objects of many.
    pub(crate) fn instances<'py>(&self, py: Python<'py>, instances: &[Arc<Instance>]) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, instances.iter().map(|one| self.instance(py, one)).collect::<PyResult<Vec<_>>>()?)
    }
}

impl Made {
    /// Takes out those that only this holds, now and then.
    fn forget(&mut self) -> Vec<(Arc<Instance>, Py<PyAny>)> {
        if self.instances.len() < self.look_at.max(LOOK_AT) {
            return Vec::new();
        }
        let gone = self.instances.extract_if(|_, (instance, _)| Arc::strong_count(instance) == 1);
        let gone = gone.map(|(_, entry)| entry).collect();
        self.look_at = self.instances.len() * 2;
        gone
    }
}

/// An instance as Python's.
pub(super) fn build(py: Python<'_>, instance: &Instance) -> PyResult<Py<PyAny>> {
    let endpoint = |endpoint: &hither::ServiceEndpoint| {
        ENDPOINT.make(py, (&endpoint.scheme, &endpoint.host, endpoint.port, endpoint.url()))
    };
    let endpoints = instance.endpoints.iter().map(endpoint).collect::<PyResult<Vec<_>>>()?;
    // A map of JSON values with string keys is always JSON.
    let unknown = match instance.unknown.is_empty() {
        true => None,
        false => serde_json::to_string(&instance.unknown).ok(),
    };
    let made = INSTANCE.call_method(
        py,
        "made",
        (
            &instance.service,
            &instance.id,
            (
                PyTuple::new(py, endpoints)?,
                &instance.version,
                PyTuple::new(py, &instance.tags)?,
                &instance.metadata,
                &instance.zone,
                &instance.region,
                instance.weight,
                instance.status.as_str(),
                &instance.started_at,
                instance.epoch.0,
                instance.schema,
                unknown,
            ),
        ),
    )?;
    Ok(made.unbind())
}
