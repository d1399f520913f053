//! Which instances, and which of them.

use hither::{InstanceFilter, Pick};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::client::Core;
use crate::errors::Failure;
use crate::process::Owned;

/// A `hither.Filter`: what its `parts()` says.
pub(crate) struct FilterArgument(pub(crate) InstanceFilter);

type Parts = (Vec<String>, Vec<(String, String)>, Vec<String>, Vec<String>, Vec<String>, Vec<String>);

impl FromPyObject<'_, '_> for FilterArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let parts: Parts = object.call_method0(pyo3::intern!(object.py(), "parts"))?.extract()?;
        let (tags, metadata, versions, zones, regions, statuses) = parts;
        let mut filter = InstanceFilter::new();
        filter = tags.into_iter().fold(filter, InstanceFilter::tag);
        filter = metadata.into_iter().fold(filter, |filter, (name, value)| filter.metadata(name, value));
        filter = versions.into_iter().fold(filter, InstanceFilter::version);
        filter = zones.into_iter().fold(filter, InstanceFilter::zone);
        filter = regions.into_iter().fold(filter, InstanceFilter::region);
        filter = statuses.into_iter().fold(filter, |filter, status| filter.status(status.as_str()));
        Ok(Self(filter))
    }
}

/// A way to pick, which remembers whose turn it is and what its filter let through.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct Picker {
    pick: Owned<Pick>,
}

#[pymethods]
impl Picker {
    /// `policy`: `round_robin` or `random`.
    #[new]
    fn new(policy: &str, filter: Option<FilterArgument>) -> PyResult<Self> {
        let pick = match policy {
            "round_robin" => Pick::round_robin(),
            "random" => Pick::random(),
            other => return Err(PyValueError::new_err(format!("{other:?} is no policy: write round_robin or random"))),
        };
        let pick = filter.into_iter().fold(pick, |pick, FilterArgument(filter)| pick.filter(filter));
        Ok(Self { pick: Owned::new(pick) })
    }

    /// Picks an instance, not one with these ids as long as there is another.
    fn pick(&self, py: Python<'_>, core: &Core, service: &str, besides: Vec<String>) -> PyResult<Py<PyAny>> {
        let picked = core.client()?.pick_besides(service, self.pick.get()?, &besides).map_err(Failure::Core)?;
        core.shown()?.instance(py, &picked)
    }
}
