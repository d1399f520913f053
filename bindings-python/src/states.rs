//! The standing of a client, as it changes.

use std::sync::Arc;

use hither::SessionState;
use pyo3::prelude::*;
use tokio::sync::{Mutex, watch};

use crate::call::{run_on, within};
use crate::convert::Seconds;
use crate::errors::Failure;
use crate::port::Port;
use crate::process::Owned;

/// A walk through the states of a client.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct States {
    walk: Owned<Arc<Walk>>,
    port: Option<Py<Port>>,
}

struct Walk {
    states: Mutex<hither::States>,
    /// What a wait brought and nobody has taken: a wait that is cancelled loses nothing.
    kept: parking_lot::Mutex<Option<SessionState>>,
    closed: watch::Sender<bool>,
}

impl States {
    /// From the state now on.
    pub(crate) fn new(mut states: hither::States, port: Option<Py<Port>>) -> Self {
        let kept = parking_lot::Mutex::new(Some(states.current()));
        let walk = Walk { states: Mutex::new(states), kept, closed: watch::Sender::new(false) };
        Self { walk: Owned::new(Arc::new(walk)), port }
    }
}

impl Walk {
    async fn wait(&self) -> bool {
        let mut closed = self.closed.subscribe();
        let mut states = self.states.lock().await;
        if self.kept.lock().is_some() {
            return true;
        }
        let state = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => None,
            state = states.changed() => state,
        };
        *self.kept.lock() = state;
        state.is_some()
    }
}

#[pymethods]
impl States {
    /// The next state if it is here already: the one now, or what a wait brought.
    fn poll(&self) -> Result<Option<&'static str>, Failure> {
        Ok(self.walk.get()?.kept.lock().take().map(SessionState::as_str))
    }

    /// Waits for a state that was not told yet: false after `closed`, none if the time passed.
    #[pyo3(signature = (timeout))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let walk = Arc::clone(self.walk.get()?);
        run_on(self.port.as_ref(), py, async move { Ok(within(timeout, walk.wait()).await) })
    }

    /// Ends the walk, and whoever waits.
    fn close(&self) {
        if let Ok(walk) = self.walk.get() {
            walk.closed.send_replace(true);
            *walk.kept.lock() = None;
        }
    }
}
