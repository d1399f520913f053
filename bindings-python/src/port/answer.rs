//! A call under way, as what a coroutine awaits.
//!
//! It is to a task what `asyncio.Future` is, with one difference: what a future has come to is told through the loop, by a
//! handle for each, and that costs more than all that this module does for a call. The port is drained by the loop itself,
//! when no task runs, so an answer goes on with its task there and then, in the task's context.
//!
//! A task asks of what it awaits what is written at `asyncio.Task` and `asyncio.isfuture`, and no more is here: that it is
//! marked with `_asyncio_future_blocking`, and its `get_loop`, `add_done_callback`, `result` and `cancel`. A coroutine that is
//! thrown away asks for `close`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::{Port, Queue};
use crate::process::Owned;

/// What is polled for it: it ends in what Python is given. Polled in the loop's thread, which is attached to the
/// interpreter.
pub(crate) type Call = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

/// Wakes one call.
struct Waking {
    queue: Arc<Queue>,
    place: usize,
    /// It is on the queue already.
    woken: AtomicBool,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.queue.push(self.place);
        }
    }
}

/// A call that was begun. Awaited once, by a task of the port's loop.
#[pyclass(frozen, module = "hither._native")]
pub(crate) struct Answer {
    port: Py<Port>,
    event_loop: Py<PyAny>,
    /// A forked child has no use for what the parent waits for.
    inner: Owned<Mutex<Inner>>,
}

struct Inner {
    state: State,
    /// Where the port has it.
    place: usize,
    /// What the task is woken by, and the context that it runs in.
    waiter: Option<(Py<PyAny>, Py<PyAny>)>,
    /// Between being yielded and being taken note of by the task.
    blocking: bool,
}

enum State {
    /// None while it is polled.
    Asked(Option<(Call, Arc<Waking>)>),
    Answered(PyResult<Py<PyAny>>),
    Cancelled(Option<Py<PyAny>>),
}

impl Answer {
    /// One that is asked for with [`begin`](Self::begin), once it has a place.
    pub(super) fn new(port: Py<Port>, event_loop: Py<PyAny>) -> Self {
        let inner = Inner { state: State::Asked(None), place: 0, waiter: None, blocking: false };
        Self { port, event_loop, inner: Owned::new(Mutex::new(inner)) }
    }

    /// Begins the call. True if it is over already.
    pub(super) fn begin(&self, place: usize, queue: &Arc<Queue>, call: Call) -> bool {
        let Ok(inner) = self.inner.get() else { return true };
        let waking = Arc::new(Waking { queue: Arc::clone(queue), place, woken: AtomicBool::new(false) });
        {
            let mut inner = inner.lock();
            inner.place = place;
            inner.state = State::Asked(Some((call, waking)));
        }
        self.poll()
    }

    /// Goes on with the call. True once it is over.
    pub(super) fn poll(&self) -> bool {
        let Ok(inner) = self.inner.get() else { return true };
        let (mut call, waking) = match &mut inner.lock().state {
            State::Asked(asked) => match asked.take() {
                Some(asked) => asked,
                None => return false,
            },
            State::Answered(_) | State::Cancelled(_) => return true,
        };
        // Before it is polled: what comes from here on wakes it again.
        waking.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&waking));
        // Not under the lock: what it comes to is made into Python's objects, and that may run anything.
        let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
        let mut inner = inner.lock();
        match (&mut inner.state, polled) {
            (state @ State::Asked(_), Poll::Ready(outcome)) => *state = State::Answered(outcome),
            (State::Asked(asked), Poll::Pending) => *asked = Some((call, waking)),
            (State::Answered(_) | State::Cancelled(_), _) => {}
        }
        !matches!(inner.state, State::Asked(_))
    }

    pub(super) fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// Has the task that waits go on, now, if none runs in this loop; or when it is the loop's next turn.
    pub(super) fn wake(slf: &Bound<'_, Self>, now: bool) -> PyResult<()> {
        let py = slf.py();
        let Ok(inner) = slf.get().inner.get() else { return Ok(()) };
        let Some((callback, context)) = inner.lock().waiter.take() else { return Ok(()) };
        if now {
            context.call_method1(py, intern!(py, "run"), (callback, slf))?;
        } else {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "context"), context)?;
            slf.get().event_loop.call_method(py, intern!(py, "call_soon"), (callback, slf), Some(&keywords))?;
        }
        Ok(())
    }
}

#[pymethods]
impl Answer {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Gives itself to the task, and what it came to once the task goes on.
    fn __next__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let py = slf.py();
        let mut inner = slf.get().inner.get()?.lock();
        match &inner.state {
            State::Asked(_) if inner.waiter.is_some() => Err(PyRuntimeError::new_err("a call is awaited once")),
            State::Asked(_) => {
                inner.blocking = true;
                drop(inner);
                Ok(slf)
            }
            State::Answered(Ok(value)) => Err(returned(py, value)),
            State::Answered(Err(error)) => Err(error.clone_ref(py)),
            State::Cancelled(message) => Err(cancelled(py, message.as_ref())),
        }
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> PyResult<bool> {
        Ok(self.inner.get()?.lock().blocking)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) -> PyResult<()> {
        self.inner.get()?.lock().blocking = blocking;
        Ok(())
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// Has the task woken, in its context.
    #[pyo3(signature = (callback, *, context))]
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>, context: Py<PyAny>) -> PyResult<()> {
        let over = {
            let mut inner = slf.get().inner.get()?.lock();
            inner.waiter = Some((callback, context));
            !matches!(inner.state, State::Asked(_))
        };
        if over { Self::wake(slf, false) } else { Ok(()) }
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.inner.get()?.lock().state {
            State::Asked(_) => Err(InvalidStateError::new_err("the call is under way")),
            State::Answered(outcome) => {
                outcome.as_ref().map(|value| value.clone_ref(py)).map_err(|error| error.clone_ref(py))
            }
            State::Cancelled(message) => Err(cancelled(py, message.as_ref())),
        }
    }

    /// Takes the call back, and with it what it waits for in the core. False if it is over.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        if !Self::give_up(slf, msg)? {
            return Ok(false);
        }
        // Another task may be running.
        Self::wake(slf, false)?;
        Ok(true)
    }

    /// The coroutine that awaits it is thrown away.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::give_up(slf, None).map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.port)?;
        visit.call(&self.event_loop)?;
        // Locked for moments only, in which no garbage is collected by the same thread.
        if let Ok(inner) = self.inner.get()
            && let Some(inner) = inner.try_lock()
        {
            if let Some((callback, context)) = &inner.waiter {
                visit.call(callback)?;
                visit.call(context)?;
            }
            match &inner.state {
                State::Answered(Ok(value)) | State::Cancelled(Some(value)) => visit.call(value)?,
                State::Asked(_) | State::Answered(Err(_)) | State::Cancelled(None) => {}
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(inner) = self.inner.get() {
            let waiter = inner.lock().waiter.take();
            drop(waiter);
        }
    }
}

impl Answer {
    fn give_up(slf: &Bound<'_, Self>, message: Option<Py<PyAny>>) -> PyResult<bool> {
        let (asked, place) = {
            let mut inner = slf.get().inner.get()?.lock();
            if !matches!(inner.state, State::Asked(_)) {
                return Ok(false);
            }
            (std::mem::replace(&mut inner.state, State::Cancelled(message)), inner.place)
        };
        drop(asked);
        slf.get().port.get().forget(place, slf);
        Ok(true)
    }
}

/// How an iterator returns a value. One that would be taken for the exception's arguments, or for the exception, is put into
/// a tuple of its own.
fn returned(py: Python<'_>, value: &Py<PyAny>) -> PyErr {
    let bound = value.bind(py);
    if bound.is_instance_of::<PyTuple>() || bound.is_instance_of::<PyBaseException>() {
        PyStopIteration::new_err((value.clone_ref(py),))
    } else {
        PyStopIteration::new_err(value.clone_ref(py))
    }
}

fn cancelled(py: Python<'_>, message: Option<&Py<PyAny>>) -> PyErr {
    match message {
        Some(message) => CancelledError::new_err((message.clone_ref(py),)),
        None => CancelledError::new_err(()),
    }
}
