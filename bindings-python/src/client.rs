//! A client: the handle that every other call is given.

use std::sync::{Arc, OnceLock};

use hither::{Client, Error, ErrorCode, Metrics};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::run;
use crate::errors::Failure;
use crate::port::Port;
use crate::process::{self, Owned};
use crate::registry::Shown;
use crate::settings;
use crate::states::States;

/// A client, and the port of the loop that it belongs to; none, if it blocks. Made first and connected
/// then: a call holds nothing of Python's, so what it brings is put where Python already looks.
#[pyclass(frozen, weakref, module = "hither._native")]
pub(crate) struct Core {
    inner: Owned<Arc<OnceLock<Inner>>>,
    port: Option<Py<Port>>,
}

/// A connected client, and its number among those that are said goodbye for when the program ends.
struct Inner {
    client: Client,
    shown: Arc<Shown>,
    remembered: Mutex<Option<u64>>,
}

impl Inner {
    fn new(client: Client) -> Self {
        let remembered = process::peek().map(|process| process.remember(client.clone()));
        Self { client, shown: Arc::default(), remembered: Mutex::new(remembered) }
    }

    fn forget(&self) {
        if let (Some(number), Some(process)) = (self.remembered.lock().take(), process::peek()) {
            process.forget(number);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Core {
    fn inner(&self) -> Result<&Inner, Failure> {
        let inner = self.inner.get()?.get();
        inner.ok_or_else(|| Error::new(ErrorCode::Closed, "the client is not connected").into())
    }

    /// The client: connected, in its own process, while that runs.
    pub(crate) fn client(&self) -> Result<&Client, Failure> {
        let inner = self.inner()?;
        process::current()?;
        Ok(&inner.client)
    }

    /// The instances that it has shown.
    pub(crate) fn shown(&self) -> Result<Arc<Shown>, Failure> {
        Ok(Arc::clone(&self.inner()?.shown))
    }

    /// Where the answers to a loop's client go.
    pub(crate) const fn port(&self) -> Option<&Py<Port>> {
        self.port.as_ref()
    }
}

#[pymethods]
impl Core {
    #[new]
    fn new(py: Python<'_>, port: Option<Py<Port>>) -> PyResult<Self> {
        process::current()?.logs.follow(py);
        Ok(Self { inner: Owned::new(Arc::default()), port })
    }

    /// Connects. Once.
    fn connect(&self, py: Python<'_>, settings: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
        let slot = Arc::clone(self.inner.get()?);
        let connecting = settings::builder(settings)?.runtime(process::current()?.handle().clone()).connect();
        run(self, py, async move {
            let client = connecting.await?;
            // A second connection has no place, and ends here.
            let _ = slot.set(Inner::new(client));
            Ok(())
        })
    }

    /// Says goodbye. Before it is connected and in a forked child there is nothing to close.
    fn close(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // A forked child has none.
        let slot = self.inner.get().ok().map(Arc::clone);
        run(self, py, async move {
            if let Some(inner) = slot.as_ref().and_then(|slot| slot.get()) {
                // Within the call: one that is refused, such as that of another loop, changes nothing.
                inner.forget();
                inner.client.clone().close().await;
            }
            Ok(())
        })
    }

    /// Whether this is the process that made it.
    #[getter]
    fn is_here(&self) -> bool {
        self.inner.is_here()
    }

    /// The standing, as a word.
    fn state(&self) -> Result<&'static str, Failure> {
        Ok(self.inner()?.client.state().as_str())
    }

    /// A walk through the states from here on.
    fn states(&self, py: Python<'_>) -> Result<States, Failure> {
        Ok(States::new(self.inner()?.client.states(), self.port.as_ref().map(|port| port.clone_ref(py))))
    }

    /// The session, opened if there is none: its number.
    fn session(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let client = self.client()?.clone();
        run(self, py, async move { client.session().await.map(|session| crate::types::Count(session.0)) })
    }

    /// The namespace.
    fn namespace(&self) -> Result<String, Failure> {
        Ok(self.client()?.options().namespace.to_string())
    }

    /// What it has counted, by name.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Metrics {
            connects,
            reconnects,
            dial_failures,
            sessions_lost,
            requests,
            retries,
            timeouts,
            watch_resumes,
            watch_gaps,
            watch_duplicates,
            watch_resets,
            events,
            in_flight,
            watches,
            watch_streams,
        } = self.inner()?.client.metrics();
        let counted = [
            ("connects", connects),
            ("reconnects", reconnects),
            ("dial_failures", dial_failures),
            ("sessions_lost", sessions_lost),
            ("requests", requests),
            ("retries", retries),
            ("timeouts", timeouts),
            ("watch_resumes", watch_resumes),
            ("watch_gaps", watch_gaps),
            ("watch_duplicates", watch_duplicates),
            ("watch_resets", watch_resets),
            ("events", events),
            ("in_flight", in_flight),
            ("watches", watches),
            ("watch_streams", watch_streams),
        ];
        let metrics = PyDict::new(py);
        counted.into_iter().try_for_each(|(name, number)| metrics.set_item(name, number))?;
        Ok(metrics)
    }
}
