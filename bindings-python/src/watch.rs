//! Watches.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use hither::{Error, ErrorCode, Filter, Mode, Revision, Start, Update};
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::watch;

use crate::call::{run_on, within};
use crate::client::Core;
use crate::convert::{Keys, Seconds};
use crate::errors::Failure;
use crate::port::Port;
use crate::process::Owned;
use crate::types;

/// A watch: made first, then opened. Dropping it closes it, at the server too.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct Watch {
    slot: Owned<Arc<Slot>>,
    port: Option<Py<Port>>,
}

#[derive(Default)]
struct Slot {
    /// The open watch; none once it was closed.
    watch: OnceLock<Mutex<Option<hither::Watch>>>,
    /// Held by whoever polls it: it wakes only the last who did.
    turn: tokio::sync::Mutex<()>,
    closed: watch::Sender<bool>,
    /// What a wait brought and nobody has taken: a wait that is cancelled loses nothing.
    kept: Mutex<VecDeque<Result<Update, Error>>>,
}

impl Slot {
    fn open(&self) -> Result<&Mutex<Option<hither::Watch>>, Failure> {
        self.watch.get().ok_or_else(|| Error::new(ErrorCode::Closed, "the watch is not open").into())
    }

    /// The next update if it is there, and nobody waits for it.
    fn ready(&self) -> Option<Result<Update, Error>> {
        // Before what is kept is looked at: what comes later is kept behind it.
        let turn = self.turn.try_lock();
        if let Some(kept) = self.kept.lock().pop_front() {
            return Some(kept);
        }
        match turn.map(|_turn| self.poll(&mut Context::from_waker(Waker::noop()))) {
            Ok(Poll::Ready(next)) => next,
            Ok(Poll::Pending) | Err(_) => None,
        }
    }

    /// Waits until something is kept: false once the watch has ended.
    async fn wait(&self) -> bool {
        let mut closed = self.closed.subscribe();
        let _turn = self.turn.lock().await;
        if !self.kept.lock().is_empty() {
            return true;
        }
        let next = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => None,
            next = poll_fn(|context| self.poll(context)) => next,
        };
        let some = next.is_some();
        self.kept.lock().extend(next);
        some
    }

    /// In one's turn.
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Update, Error>>> {
        let Some(mut watch) = self.watch.get().map(Mutex::lock) else { return Poll::Ready(None) };
        watch.as_mut().map_or(Poll::Ready(None), |watch| watch.poll_next_unpin(context))
    }
}

#[pymethods]
impl Watch {
    #[new]
    fn new(py: Python<'_>, core: &Core) -> PyResult<Self> {
        core.client()?;
        Ok(Self { slot: Owned::new(Arc::default()), port: core.port().map(|port| port.clone_ref(py)) })
    }

    /// Opens it. Once. `start`: whether with the state as it is, or the revision after which to go on.
    #[pyo3(signature = (core, keys, start, latest, kinds, previous, min_interval, timeout))]
    #[expect(clippy::too_many_arguments, reason = "Python's parameters, each with its name there")]
    fn open(
        &self,
        py: Python<'_>,
        core: &Core,
        keys: Keys,
        start: Begin,
        latest: bool,
        kinds: (bool, bool, bool),
        previous: bool,
        min_interval: Option<Seconds>,
        timeout: Option<Seconds>,
    ) -> PyResult<Py<PyAny>> {
        let (puts, deletes, liveness) = kinds;
        let filter = Filter { puts, deletes, liveness };
        let mut watches = core.client()?.watch(keys.0).start(start.0).filter(filter);
        if latest {
            watches = watches.mode(Mode::Latest);
        }
        if previous {
            watches = watches.previous();
        }
        if let Some(Seconds(interval)) = min_interval {
            watches = watches.min_interval(interval);
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
        slot.open()?;
        match slot.ready() {
            Some(Ok(update)) => types::update(py, &update).map(Some),
            Some(Err(error)) => Err(Failure::Core(error).into()),
            None => Ok(None),
        }
    }

    /// Waits until there is something to poll: false once the watch has ended, none if the time passed.
    #[pyo3(signature = (timeout))]
    fn wait(&self, py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Py<PyAny>> {
        let slot = Arc::clone(self.slot.get()?);
        slot.open()?;
        run_on(self.port.as_ref(), py, async move { Ok(within(timeout, slot.wait()).await) })
    }

    /// The revision up to which everything was told.
    fn revision(&self) -> Result<u64, Failure> {
        Ok(self.slot.get()?.open()?.lock().as_ref().map_or(Revision::ZERO, hither::Watch::revision).0)
    }

    /// Closes it. In a forked child there is nothing to close.
    fn close(&self) {
        let Ok(slot) = self.slot.get() else { return };
        slot.closed.send_replace(true);
        if let Some(watch) = slot.watch.get() {
            let closed = watch.lock().take();
            drop(closed);
        }
        slot.kept.lock().clear();
    }
}

/// Where a watch begins.
struct Begin(Start);

impl FromPyObject<'_, '_> for Begin {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        // A `bool` first: it is an `int` too.
        if let Ok(snapshot) = object.extract::<bool>() {
            return Ok(Self(if snapshot { Start::Snapshot } else { Start::Now }));
        }
        Ok(Self(Start::After(Revision(object.extract()?))))
    }
}
