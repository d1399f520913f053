//! The loop that runs in this thread.

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

thread_local! {
    /// The loop that is draining its port here, so that its tasks go on: no other runs meanwhile.
    static DRAINING: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
}

/// The loop that runs in this thread. An error if none does.
pub(super) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    // asyncio asks the system for the process each time, to see through a fork.
    let draining = DRAINING.with_borrow(|draining| draining.as_ref().map(|event_loop| event_loop.clone_ref(py)));
    match draining {
        Some(event_loop) => Ok(event_loop.into_bound(py)),
        None => GET.import(py, "asyncio", "get_running_loop")?.call0(),
    }
}

/// While it is held, this loop runs in this thread.
pub(super) struct Draining(Option<Py<PyAny>>);

impl Draining {
    pub(super) fn begin(event_loop: &Bound<'_, PyAny>) -> Self {
        Self(DRAINING.replace(Some(event_loop.clone().unbind())))
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        drop(DRAINING.replace(self.0.take()));
    }
}
