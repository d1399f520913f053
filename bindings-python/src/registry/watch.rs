//! Following a service.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hither::{Error, ErrorCode, ServiceUpdate};
use pyo3::prelude::*;
use tokio::sync::{Mutex, watch};

use super::filter::FilterArgument;
use super::{Shown, View};
use crate::call::{run_on, within};
use crate::client::Core;
use crate::convert::Seconds;
use crate::errors::Failure;
use crate::port::Port;
use crate::process::Owned;
use crate::types::Class;

static UPDATE: Class = Class::of("hither._services", "ServiceUpdate");

/// A watch of a service: made first, then opened.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct ServiceWatch {
    slot: Owned<Arc<Slot>>,
    shown: Arc<Shown>,
    port: Option<Py<Port>>,
}

struct Slot {
    /// The open watch; none once it was closed. Locked for as long as somebody waits for it.
    watch: OnceLock<Mutex<Option<hither::ServiceWatch>>>,
    closed: watch::Sender<bool>,
    /// What a wait brought and nobody has taken: a wait that is cancelled loses nothing.
    kept: parking_lot::Mutex<VecDeque<Result<ServiceUpdate, Error>>>,
}

impl Slot {
    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }
}

impl Slot {
    /// Waits until something is kept: false once the watch has ended.
    async fn wait(&self) -> bool {
        let Some(watch) = self.watch.get() else { return false };
        let mut closed = self.closed.subscribe();
        let mut watch = watch.lock().await;
        // What the one before waited for and did not take, if it was cancelled just then.
        if !self.kept.lock().is_empty() {
            return true;
        }
        let next = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => None,
            next = async {
                match watch.as_mut() {
                    Some(watch) => watch.next().await,
                    None => None,
                }
            } => next,
        };
        if self.is_closed() {
            *watch = None;
            return false;
        }
        let some = next.is_some();
        self.kept.lock().extend(next);
        some
    }
}

impl ServiceWatch {
    fn open_one(&self) -> Result<&Mutex<Option<hither::ServiceWatch>>, Failure> {
        let open = self.slot.get()?.watch.get();
        open.ok_or_else(|| Error::new(ErrorCode::Closed, "the watch is not open").into())
    }
}

#[pymethods]
impl ServiceWatch {
    #[new]
    fn new(py: Python<'_>, core: &Core) -> PyResult<Self> {
        let slot = Arc::new(Slot {
            watch: OnceLock::new(),
            closed: watch::Sender::new(false),
            kept: parking_lot::Mutex::default(),
        });
        let port = core.port().map(|port| port.clone_ref(py));
        Ok(Self { slot: Owned::new(slot), shown: core.shown()?, port })
    }

    /// Opens it. Once.
    #[pyo3(signature = (core, service, filter, min_interval, timeout))]
    fn open(
        &self,
        py: Python<'_>,
        core: &Core,
        service: &str,
        filter: Option<FilterArgument>,
        min_interval: Option<Seconds>,
        timeout: Option<Seconds>,
    ) -> PyResult<Py<PyAny>> {
        let mut watches = core.client()?.watch_service(service);
        watches = watches.min_interval(min_interval.map_or(Duration::ZERO, |Seconds(interval)| interval));
        if let Some(FilterArgument(filter)) = filter {
            watches = watches.filter(filter);
        }
        if let Some(Seconds(timeout)) = timeout {
            watches = watches.timeout(timeout);
        }
        let slot = Arc::clone(self.slot.get()?);
        run_on(self.port.as_ref(), py, async move {
            let watch = watches.await?;
            // A second one has no place, and is closed here.
            let _ = slot.watch.set(Mutex::new(Some(watch)));
            Ok(())
        })
    }

    /// The next update if it is here already: no waiting, no loop.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let slot = self.slot.get()?;
        let mut next = slot.kept.lock().pop_front();
        if next.is_none() {
            // Locked: somebody waits, and the next is theirs.
            let Ok(mut watch) = self.open_one()?.try_lock() else { return Ok(None) };
            next = watch.as_mut().and_then(hither::ServiceWatch::try_next).flatten();
        }
        match next {
            Some(Ok(update)) => show(py, update, &self.shown).map(Some),
            Some(Err(error)) => Err(Failure::Core(error).into()),
            None => Ok(None),
        }
    }

    /// Waits until there is something to poll: false once the watch has ended, none if the time passed.
    #[pyo3(signature = (timeout))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        self.open_one()?;
        let slot = Arc::clone(self.slot.get()?);
        run_on(self.port.as_ref(), py, async move { Ok(within(timeout, slot.wait()).await) })
    }

    /// Closes it. In a forked child there is nothing to close.
    fn close(&self) {
        let Ok(slot) = self.slot.get() else { return };
        slot.closed.send_replace(true);
        // Locked: whoever waits sees to it.
        if let Some(mut watch) = slot.watch.get().and_then(|watch| watch.try_lock().ok()) {
            *watch = None;
        }
        slot.kept.lock().clear();
    }
}

fn show(py: Python<'_>, update: ServiceUpdate, shown: &Arc<Shown>) -> PyResult<Py<PyAny>> {
    let added = shown.instances(py, &update.added)?;
    let changed = shown.instances(py, &update.changed)?;
    let removed = shown.instances(py, &update.removed)?;
    let view = Py::new(py, View::new(update.view, Arc::clone(shown)))?;
    UPDATE.call_method(py, "made", (view, added, changed, removed)).map(Bound::unbind)
}
