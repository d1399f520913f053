//! Errors of the core as exceptions. The classes are Python's (`hither.errors`).

use hither::{Error, ErrorCode, Retry};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The core says so.
    Core(Error),
    /// What was used belongs to the process that this one was forked from.
    Forked,
    /// What was used belongs to another event loop.
    WrongLoop,
    /// The interpreter is ending.
    Exiting,
    /// A call panicked: a mistake of ours.
    Panicked(String),
    /// The operating system gives no more threads.
    NoThreads(std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        // Every caller has attached already; this only finds that out.
        Python::attach(|py| failure.exception(py).unwrap_or_else(|broken| broken))
    }
}

impl Failure {
    /// The exception. The outer error is a package that is not whole.
    fn exception(self, py: Python<'_>) -> PyResult<PyErr> {
        static CORE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static OTHER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let exception = match self {
            Self::Core(error) => {
                let code = error.code();
                let details = PyDict::new(py);
                if let Some(revision) = error.revision() {
                    details.set_item("revision", revision.0)?;
                }
                if let Some(leader) = error.leader() {
                    details.set_item("leader", leader.node.0)?;
                    details.set_item("leader_address", &leader.address)?;
                }
                if let Some(none) = error.no_instances() {
                    details.set_item("service", &*none.service)?;
                    details.set_item("known", none.known)?;
                    details.set_item("suspect", none.suspect)?;
                    details.set_item("age", none.age.map(|age| age.as_secs_f64()))?;
                }
                CORE.import(py, "hither.errors", "from_core")?.call1((
                    code.number(),
                    code.name(),
                    error.detail(),
                    error.applied().as_str(),
                    error.is_retryable(),
                    details,
                ))?
            }
            Self::Forked => OTHER.import(py, "hither.errors", "from_binding")?.call1(("Forked", ""))?,
            Self::WrongLoop => OTHER.import(py, "hither.errors", "from_binding")?.call1(("WrongLoop", ""))?,
            Self::Exiting => OTHER.import(py, "hither.errors", "from_binding")?.call1(("Exiting", ""))?,
            Self::Panicked(said) => OTHER.import(py, "hither.errors", "from_binding")?.call1(("Panicked", said))?,
            Self::NoThreads(error) => PyRuntimeError::new_err(format!("no thread can be started: {error}"))
                .into_value(py)
                .into_bound(py)
                .into_any(),
        };
        Ok(PyErr::from_value(exception))
    }
}

/// Every numbered error: its number, its name, and whether the same call may succeed later.
#[pyfunction]
pub(crate) fn error_codes() -> Vec<(u16, &'static str, bool)> {
    ErrorCode::ALL.iter().map(|code| (code.number(), code.name(), code.retry() != Retry::Never)).collect()
}
