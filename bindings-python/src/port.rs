//! The way back from the runtime to an event loop: a queue, and one bell for everything in it.
//!
//! A task that is done puts what it brought, unconverted, on the queue; the first since the queue was last emptied rings.
//! The loop's own thread then converts all of it and resolves the futures. So Python is entered from no thread of ours,
//! and 256 answers cost one wake-up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};
use tokio::task::AbortHandle;

use crate::errors::Failure;
use crate::process::{self, Owned};

mod bell;

use bell::Bell;

/// What a finished task brought, to be converted in the loop's thread.
pub(crate) type Done = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// The side that tasks hold. Nothing in it is Python's.
pub(crate) struct Queue {
    done: Mutex<Vec<(u64, Done)>>,
    rung: AtomicBool,
    bell: Bell,
}

impl Queue {
    /// What a task brought.
    pub(crate) fn push(&self, id: u64, done: Done) {
        self.done.lock().push((id, done));
        self.ring();
    }

    /// Has the loop look.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }
}

struct Inner {
    queue: Arc<Queue>,
    pending: Mutex<HashMap<u64, (Py<PyAny>, AbortHandle)>>,
    next: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.bell.silence();
        for (_, task) in self.pending.get_mut().values() {
            task.abort();
        }
    }
}

/// The port of one event loop.
#[pyclass(frozen, weakref, module = "hither._native")]
pub(crate) struct Port {
    inner: Owned<Inner>,
    fd: Option<i32>,
}

impl Port {
    /// Where tasks leave what they bring.
    pub(crate) fn queue(&self) -> Result<&Arc<Queue>, Failure> {
        Ok(&self.inner.get()?.queue)
    }

    /// Starts a task for a future of the loop. `start` is given the number under which the task is to push.
    pub(crate) fn submit(&self, future: Py<PyAny>, start: impl FnOnce(u64) -> AbortHandle) -> Result<u64, Failure> {
        let inner = self.inner.get()?;
        let id = inner.next.fetch_add(1, Ordering::Relaxed);
        // Held while it starts, so that what it brings finds it here.
        let mut pending = inner.pending.lock();
        pending.insert(id, (future, start(id)));
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
        let queue = Arc::new(Queue { done: Mutex::default(), rung: AtomicBool::new(false), bell });
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

    /// Takes a call back: its task ends, and with it what it waits for in the core.
    fn cancel(&self, id: u64) {
        let Ok(inner) = self.inner.get() else { return };
        let cancelled = inner.pending.lock().remove(&id);
        if let Some((_, task)) = cancelled {
            task.abort();
        }
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

    /// Resolves the futures of what is done. In the loop's thread.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        // A forked child that goes on with its parent's loop hears its parent's bell.
        let Ok(inner) = self.inner.get() else { return Ok(()) };
        inner.queue.bell.hush();
        // Before the queue is taken: whoever pushes from here on rings again.
        inner.queue.rung.store(false, Ordering::Release);
        let done = std::mem::take(&mut *inner.queue.done.lock());
        for (id, done) in done {
            let Some((future, _)) = inner.pending.lock().remove(&id) else { continue };
            if let Err(error) = resolve(future.bind(py), done) {
                error.write_unraisable(py, Some(future.bind(py)));
            }
        }
        if let Some(process) = process::peek() {
            process.logs.deliver(py);
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Locked only by the thread that holds it while it submits, and that one is not collecting garbage then.
        if let Ok(inner) = self.inner.get()
            && let Some(pending) = inner.pending.try_lock()
        {
            pending.values().try_for_each(|(future, _)| visit.call(future))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(inner) = self.inner.get() {
            let pending = std::mem::take(&mut *inner.pending.lock());
            for (_, (_, task)) in pending {
                task.abort();
            }
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a port cannot be pickled"))
    }
}

fn resolve(future: &Bound<'_, PyAny>, done: Done) -> PyResult<()> {
    let py = future.py();
    // Cancelled a moment ago, and its task not yet taken back.
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match done(py) {
        Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
    };
    Ok(())
}
