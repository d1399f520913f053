//! The registry: instances, views, registrations and watches of services.

mod filter;
mod registration;
mod shown;
mod update;
mod view;
mod watch;

use std::sync::Arc;

use hither::ServiceView;
use pyo3::prelude::*;

use crate::call::{Brought, run};
use crate::client::Core;
use crate::convert::Seconds;
use crate::errors::Failure;
use crate::process::Owned;

pub(crate) use filter::Picker;
pub(crate) use registration::Registration;
pub(crate) use shown::Shown;
pub(crate) use view::View;
pub(crate) use watch::ServiceWatch;

use filter::FilterArgument;

/// A view, on its way to Python.
struct Found(Arc<ServiceView>, Arc<Shown>);

impl Brought for Found {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(Py::new(py, View::new(self.0, self.1))?.into_any())
    }
}

/// The instances of a service.
#[pyfunction]
#[pyo3(signature = (core, service, filter, max_staleness, timeout))]
pub(crate) fn discover(
    py: Python<'_>,
    core: &Core,
    service: &str,
    filter: Option<FilterArgument>,
    max_staleness: Option<Seconds>,
    timeout: Option<Seconds>,
) -> PyResult<Py<PyAny>> {
    let mut discover = core.client()?.discover(service);
    if let Some(FilterArgument(filter)) = filter {
        discover = discover.filter(filter);
    }
    if let Some(Seconds(age)) = max_staleness {
        discover = discover.max_staleness(age);
    }
    if let Some(Seconds(timeout)) = timeout {
        discover = discover.timeout(timeout);
    }
    let shown = core.shown()?;
    run(core, py, async move { discover.await.map(|view| Found(view, shown)) })
}

/// Waits until a service has so many instances that work.
#[pyfunction]
#[pyo3(signature = (core, service, count, filter, timeout))]
pub(crate) fn wait_for(
    py: Python<'_>,
    core: &Core,
    service: &str,
    count: usize,
    filter: Option<FilterArgument>,
    timeout: Option<Seconds>,
) -> PyResult<Py<PyAny>> {
    let mut wait = core.client()?.wait_for(service, count);
    if let Some(FilterArgument(filter)) = filter {
        wait = wait.filter(filter);
    }
    if let Some(Seconds(timeout)) = timeout {
        wait = wait.timeout(timeout);
    }
    let shown = core.shown()?;
    run(core, py, async move { wait.await.map(|view| Found(view, shown)) })
}

/// The services that have instances, and how many.
#[pyfunction]
pub(crate) fn services(py: Python<'_>, core: &Core) -> PyResult<Py<PyAny>> {
    let client = core.client()?.clone();
    run(core, py, async move { client.services().await.map(Services) })
}

struct Services(std::collections::BTreeMap<String, usize>);

impl Brought for Services {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.0.into_pyobject(py)?.into_any().unbind())
    }
}

/// The view of a service as it is known here now, if it is.
#[pyfunction]
pub(crate) fn view_now(core: &Core, service: &str) -> PyResult<Option<View>> {
    let view = core.client()?.view(service);
    let shown = core.shown()?;
    Ok(view.map(|view| View::new(view, shown)))
}

/// Picks an instance, in turn.
#[pyfunction]
pub(crate) fn pick(py: Python<'_>, core: &Core, service: &str) -> PyResult<Py<PyAny>> {
    let picked = core.client()?.pick(service, &hither::Pick::round_robin()).map_err(Failure::Core)?;
    core.shown()?.instance(py, &picked)
}

/// Keeps a service's view up to date until it is dropped.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct Followed {
    _service: Owned<hither::Service>,
}

#[pymethods]
impl Followed {
    #[new]
    fn new(core: &Core, service: &str) -> PyResult<Self> {
        let service = core.client()?.service(service).map_err(Failure::Core)?;
        Ok(Self { _service: Owned::new(service) })
    }
}
