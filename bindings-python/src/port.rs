//! The way back from the runtime to an event loop: a queue, and one bell for everything in it.
//!
//! The futures of calls are polled by the loop's own thread: when a call is made, and again when what it waits for has
//! come. Whoever wakes one only puts its number on the queue; the first since the queue was last emptied rings. So Python
//! is entered from no thread of ours, no call costs a task or a change of threads, and 256 answers cost one wake-up.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};

use crate::errors::Failure;
use crate::process::{self, Owned};

mod bell;

use bell::Bell;

/// A call under way: it ends in what Python is given. Polled in the loop's thread, which is attached to the interpreter.
pub(crate) type Call = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

/// The side that other threads hold. Nothing in it is Python's.
pub(crate) struct Queue {
    woken: Mutex<Vec<u64>>,
    rung: AtomicBool,
    bell: Bell,
}

impl Queue {
    /// Has the loop look.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

/// Wakes one call.
struct Waking {
    queue: Arc<Queue>,
    id: u64,
    /// It is on the queue already.
    woken: AtomicBool,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.queue.woken.lock().push(self.id);
            self.queue.ring();
        }
    }
}

/// A call that waits, and the future of the loop that waits for it.
struct Pending {
    future: Py<PyAny>,
    call: Call,
    waking: Arc<Waking>,
}

impl Pending {
    /// Goes on with the call.
    fn poll(&mut self) -> Poll<PyResult<Py<PyAny>>> {
        // Before it is polled: what comes from here on wakes it again.
        self.waking.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.waking));
        self.call.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

struct Inner {
    queue: Arc<Queue>,
    pending: Mutex<HashMap<u64, Pending>>,
    next: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.bell.silence();
    }
}

/// The port of one event loop.
#[pyclass(frozen, weakref, module = "hither._native")]
pub(crate) struct Port {
    inner: Owned<Inner>,
    fd: Option<i32>,
}

impl Port {
    /// Where those who were woken are put.
    fn queue(&self) -> Result<&Arc<Queue>, Failure> {
        Ok(&self.inner.get()?.queue)
    }

    /// Begins a call for a future of the loop. Returns its number.
    pub(crate) fn submit(&self, future: Bound<'_, PyAny>, call: Call) -> PyResult<u64> {
        let inner = self.inner.get()?;
        let _runtime = process::current()?.handle().enter();
        let id = inner.next.fetch_add(1, Ordering::Relaxed);
        let waking = Arc::new(Waking { queue: Arc::clone(&inner.queue), id, woken: AtomicBool::new(false) });
        let mut pending = Pending { future: future.clone().unbind(), call, waking };
        match pending.poll() {
            Poll::Ready(outcome) => resolve(&future, outcome)?,
            // Only this thread drains, so nobody looks for it before it is here.
            Poll::Pending => {
                inner.pending.lock().insert(id, pending);
            }
        }
        Ok(id)
    }
}

#[pymethods]
impl Port {
    /// `threaded`: without a file descriptor, for loops that cannot wait for one.
    #[new]
    fn new(threaded: bool) -> PyResult<Self> {
        let bell = Bell::new(threaded).map_err(Failure::NoThreads)?;
        let fd = bell.fd();
        let queue = Arc::new(Queue { woken: Mutex::default(), rung: AtomicBool::new(false), bell });
        process::current()?.logs.listen(&queue);
        Ok(Self { inner: Owned::new(Inner { queue, pending: Mutex::default(), next: AtomicU64::new(0) }), fd })
    }

    /// What becomes readable when there is something to drain.
    #[getter]
    fn fd(&self) -> Option<i32> {
        self.fd
    }

    /// Whether this is the process that made it.
    #[getter]
    fn is_here(&self) -> bool {
        self.inner.is_here()
    }

    /// Calls under way.
    #[getter]
    fn pending(&self) -> Result<usize, Failure> {
        Ok(self.inner.get()?.pending.lock().len())
    }

    /// Takes a call back, and with it what it waits for in the core.
    fn cancel(&self, id: u64) {
        let Ok(inner) = self.inner.get() else { return };
        let cancelled = inner.pending.lock().remove(&id);
        drop(cancelled);
    }

    /// Waits for the bell, without a file descriptor. False once the port is closed, or the program ends.
    fn wait(&self, py: Python<'_>) -> PyResult<bool> {
        let (Some(process), Ok(queue)) = (process::peek(), self.queue()) else { return Ok(false) };
        let queue = Arc::clone(queue);
        let _waiting = process.waiting();
        Ok(py.detach(|| queue.bell.wait(|| process.is_ending())))
    }

    /// Ends [`wait`](Self::wait).
    fn close(&self) {
        if let Ok(queue) = self.queue() {
            queue.bell.silence();
        }
    }

    /// Goes on with the calls that were woken, and resolves the futures of those that are done. In the loop's thread.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        // A forked child that goes on with its parent's loop hears its parent's bell.
        let (Ok(inner), Some(process)) = (self.inner.get(), process::peek()) else { return Ok(()) };
        inner.queue.bell.hush();
        // Before the queue is taken: whoever pushes from here on rings again.
        inner.queue.rung.store(false, Ordering::Release);
        let woken = std::mem::take(&mut *inner.queue.woken.lock());
        {
            let _runtime = process.handle().enter();
            for id in woken {
                let Some(mut pending) = inner.pending.lock().remove(&id) else { continue };
                match pending.poll() {
                    Poll::Ready(outcome) => {
                        let future = pending.future.bind(py);
                        if let Err(error) = resolve(future, outcome) {
                            error.write_unraisable(py, Some(future));
                        }
                    }
                    Poll::Pending => {
                        inner.pending.lock().insert(id, pending);
                    }
                }
            }
        }
        process.logs.deliver(py);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Locked only by the thread that holds it while it submits, and that one is not collecting garbage then.
        if let Ok(inner) = self.inner.get()
            && let Some(pending) = inner.pending.try_lock()
        {
            pending.values().try_for_each(|pending| visit.call(&pending.future))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(inner) = self.inner.get() {
            let pending = std::mem::take(&mut *inner.pending.lock());
            drop(pending);
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a port cannot be pickled"))
    }
}

fn resolve(future: &Bound<'_, PyAny>, outcome: PyResult<Py<PyAny>>) -> PyResult<()> {
    let py = future.py();
    let resolved = match outcome {
        Ok(value) => future.call_method1(intern!(py, "set_result"), (value,)),
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error,)),
    };
    match resolved {
        // Cancelled a moment ago, and its call not yet taken back.
        Err(_) if future.call_method0(intern!(py, "done"))?.is_truthy()? => Ok(()),
        resolved => resolved.map(drop),
    }
}
