//! What is known of a service, as it was at one moment.

use std::sync::Arc;

use hither::ServiceView;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::Shown;
use crate::errors::Failure;
use crate::process::Owned;

/// A view. Its instances become Python's when they are first asked for.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct View {
    inner: Owned<(Arc<ServiceView>, Arc<Shown>)>,
    instances: PyOnceLock<Py<PyTuple>>,
}

impl View {
    pub(crate) fn new(view: Arc<ServiceView>, shown: Arc<Shown>) -> Self {
        Self { inner: Owned::new((view, shown)), instances: PyOnceLock::new() }
    }

    fn view(&self) -> Result<&ServiceView, Failure> {
        Ok(&self.inner.get()?.0)
    }
}

#[pymethods]
impl View {
    #[getter]
    fn service(&self) -> Result<&str, Failure> {
        Ok(&self.view()?.service)
    }

    #[getter]
    fn revision(&self) -> Result<u64, Failure> {
        Ok(self.view()?.revision.0)
    }

    #[getter]
    fn state(&self) -> Result<&'static str, Failure> {
        Ok(self.view()?.state.as_str())
    }

    #[getter]
    fn source(&self) -> Result<&'static str, Failure> {
        Ok(self.view()?.source.as_str())
    }

    /// Seconds since it was last known to be the present.
    #[getter]
    fn age(&self) -> Result<f64, Failure> {
        Ok(self.view()?.age().as_secs_f64())
    }

    #[getter]
    fn instances(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let (view, shown) = self.inner.get()?;
        let made = self.instances.get_or_try_init(py, || shown.instances(py, &view.instances).map(Bound::unbind))?;
        Ok(made.clone_ref(py))
    }

    /// Keys of records that cannot be read, and why.
    #[getter]
    fn invalid(&self) -> Result<Vec<(String, String)>, Failure> {
        let invalid = self.view()?.invalid.iter();
        Ok(invalid.map(|invalid| (invalid.key.to_string(), invalid.reason.clone())).collect())
    }

    /// How many of its instances work.
    #[getter]
    fn working(&self) -> Result<usize, Failure> {
        Ok(self.view()?.working())
    }

    /// How many are suspect.
    #[getter]
    fn suspect(&self) -> Result<usize, Failure> {
        Ok(self.view()?.suspect())
    }

    fn __len__(&self) -> Result<usize, Failure> {
        Ok(self.view()?.len())
    }

    /// The instance of this id.
    fn get(&self, py: Python<'_>, id: &str) -> PyResult<Option<Py<PyAny>>> {
        let (view, shown) = self.inner.get()?;
        view.get(id).map(|instance| shown.instance(py, instance)).transpose()
    }
}
