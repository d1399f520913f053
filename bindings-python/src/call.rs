//! One call of the core, for whoever waits: a future of an event loop, or the thread itself.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use hither::Error;
use pyo3::prelude::*;

use crate::client::Core;
use crate::convert::Seconds;
use crate::errors::Failure;
use crate::port::Port;
use crate::process;

/// How often a blocking call lets Python look for signals.
const SLICE: Duration = Duration::from_millis(50);

/// What a call brings, and what it is in Python. Converted in a thread that is attached to the interpreter.
pub(crate) trait Brought: Send + 'static {
    /// The Python object.
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

/// Calls whose future exists.
static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Live;

impl Live {
    fn new() -> Self {
        LIVE.fetch_add(1, Ordering::AcqRel);
        Self
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a call of a client.
pub(crate) fn run<T: Brought>(
    core: &Core,
    py: Python<'_>,
    future: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    run_on(core.port(), py, future)
}

/// Runs a call for a loop's port, and returns what a task awaits; or here, and returns what it comes to.
pub(crate) fn run_on<T: Brought>(
    port: Option<&Py<Port>>,
    py: Python<'_>,
    future: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    let live = Live::new();
    // Combinators, not `async` blocks: each block would have room for the future twice, for what it is given and for what
    // it awaits, and every call would be copied from one to the other.
    let future = AssertUnwindSafe(future).catch_unwind().map(move |outcome| {
        drop(live);
        match outcome {
            Ok(outcome) => outcome.map_err(Failure::Core),
            Err(panic) => Err(Failure::Panicked(said(&*panic))),
        }
    });
    match port {
        Some(port) => {
            // The loop's thread polls, and it is attached already.
            let call = future.map(|outcome| Python::attach(|py| outcome?.into_python(py)));
            Ok(Port::begin(port.bind(py), Box::pin(call))?.into_any().unbind())
        }
        None => block(py, future)?.into_python(py),
    }
}

/// Waits in this thread, and lets Python handle signals meanwhile. An exception of theirs takes the call back.
fn block<T: Send>(py: Python<'_>, future: impl Future<Output = Result<T, Failure>> + Send) -> PyResult<T> {
    let process = process::current()?;
    let mut future = pin!(future);
    loop {
        let waited = {
            let _waiting = process.waiting();
            let slice = async { tokio::time::timeout(SLICE, future.as_mut()).await };
            // A task of a loop may call this, in a thread that asks for the loop's clients together.
            py.detach(|| hither::apart(|| process.handle().block_on(slice)))
        };
        process.logs.deliver(py);
        match waited {
            Ok(outcome) => return Ok(outcome?),
            Err(_) => py.check_signals()?,
        }
        if process.is_ending() {
            return Err(Failure::Exiting.into());
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Calls of this process whose future in the core exists: for tests of cancellation.
#[pyfunction]
pub(crate) fn live_calls() -> usize {
    LIVE.load(Ordering::Acquire)
}

/// A call that panics: for the test of what then happens.
#[pyfunction]
pub(crate) fn panic_in_a_task(py: Python<'_>, core: &Core) -> PyResult<Py<PyAny>> {
    run::<()>(core, py, async { std::panic::panic_any("asked to") })
}

impl Brought for () {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.None())
    }
}

/// Waits no longer than this: `None` if it was not done by then.
pub(crate) async fn within<T>(timeout: Option<Seconds>, future: impl Future<Output = T>) -> Option<T> {
    match timeout {
        Some(Seconds(timeout)) => tokio::time::timeout(timeout, future).await.ok(),
        None => Some(future.await),
    }
}

/// A wait: `None` if its time passed.
impl Brought for Option<bool> {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.map_or_else(|| Ok(py.None()), |there| there.into_python(py))
    }
}

impl Brought for bool {
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_pyobject(py)?.to_owned().into_any().unbind())
    }
}
