//! The standing of a client, as it changes.

use std::sync::Arc;

use hither::SessionState;
use pyo3::prelude::*;
use tokio::sync::Mutex;

use crate::call::{Brought, Waiter, run_on};
use crate::port::Port;
use crate::process::Owned;

/// A walk through the states of a client.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct States {
    states: Owned<Arc<Mutex<hither::States>>>,
    port: Option<Py<Port>>,
}

impl States {
    pub(crate) fn new(states: hither::States, port: Option<Py<Port>>) -> Self {
        Self { states: Owned::new(Arc::new(Mutex::new(states))), port }
    }
}

#[pymethods]
impl States {
    /// The next state that was not told yet; none after `closed`.
    fn next(&self, py: Python<'_>, waiter: Waiter<'_>) -> PyResult<Py<PyAny>> {
        let states = Arc::clone(self.states.get()?);
        run_on(self.port.as_ref(), waiter, py, async move { Ok(Next(states.lock().await.changed().await)) })
    }
}

struct Next(Option<SessionState>);

impl Brought for Next {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.0.map(SessionState::as_str).into_pyobject(py)?.unbind())
    }
}
