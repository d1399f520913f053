//! The way back from the runtime to an event loop: a queue, and one bell for everything in it.
//!
//! The futures of calls are polled by the loop's own thread: when a call is made, and again when what it waits for has
//! come. Whoever wakes one only puts its place on the queue; the first since the queue was last emptied rings. So Python
//! is entered from no thread of ours, no call costs a task or a change of threads, and 256 answers cost one wake-up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, intern};
use slab::Slab;

use crate::errors::Failure;
use crate::process::{self, Owned};

mod answer;
mod bell;
mod running;

pub(crate) use answer::{Answer, Call};
use bell::Bell;
use running::{Draining, running_loop};

/// The side that other threads hold. Nothing in it is Python's.
pub(crate) struct Queue {
    woken: Mutex<Vec<usize>>,
    rung: AtomicBool,
    bell: Bell,
}

impl Queue {
    fn push(&self, place: usize) {
        self.woken.lock().push(place);
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
    /// Calls under way. Places are used again: a call may be polled because one was woken that had its place before.
    pending: Mutex<Slab<Py<Answer>>>,
    /// Calls that are over, and whose tasks have not gone on.
    over: Mutex<VecDeque<Py<Answer>>>,
}

impl Inner {
    fn at(&self, py: Python<'_>, place: usize) -> Option<Py<Answer>> {
        self.pending.lock().get(place).map(|answer| answer.clone_ref(py))
    }

    fn forget(&self, place: usize, answer: &Bound<'_, Answer>) {
        let mut pending = self.pending.lock();
        let forgotten = pending.get(place).is_some_and(|there| there.is(answer)).then(|| pending.remove(place));
        drop(pending);
        drop(forgotten);
    }

    /// Has the tasks of the calls that are over go on.
    fn go_on(&self, py: Python<'_>) -> PyResult<()> {
        let mut draining = None;
        let mut eager = true;
        // Kept with the port: what a task does may have the loop drain it again before this returns.
        while let Some(answer) = { self.over.lock().pop_front() } {
            let answer = answer.bind(py);
            if draining.is_none() {
                let event_loop = answer.get().event_loop(py);
                // In debug mode a loop tells which of its steps took long: then each task is one.
                eager = !event_loop.call_method0(intern!(py, "get_debug"))?.is_truthy()?;
                draining = Some(Draining::begin(event_loop));
            }
            if let Err(error) = Answer::wake(answer, eager) {
                // A task ended the loop. The others go on when it runs again.
                self.queue.ring();
                return Err(error);
            }
        }
        Ok(())
    }
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
    /// Where the loop is. Whoever has a client of the port holds the loop, so no other one is there.
    event_loop: usize,
}

impl Port {
    /// Begins a call, for a task of the loop to await.
    pub(crate) fn begin<'py>(slf: &Bound<'py, Self>, call: Call) -> PyResult<Bound<'py, Answer>> {
        let py = slf.py();
        let inner = slf.get().inner.get()?;
        let running = running_loop(py)?;
        if running.as_ptr().addr() != slf.get().event_loop {
            return Err(Failure::WrongLoop.into());
        }
        let process = process::current()?;
        let answer = Bound::new(py, Answer::new(slf.clone().unbind(), running.unbind()))?;
        let place = inner.pending.lock().insert(answer.clone().unbind());
        let _runtime = process.handle().enter();
        if answer.get().begin(place, &inner.queue, call) {
            inner.forget(place, &answer);
        }
        Ok(answer)
    }

    fn forget(&self, place: usize, answer: &Bound<'_, Answer>) {
        if let Ok(inner) = self.inner.get() {
            inner.forget(place, answer);
        }
    }

    fn queue(&self) -> Result<&Arc<Queue>, Failure> {
        Ok(&self.inner.get()?.queue)
    }
}

#[pymethods]
impl Port {
    /// `threaded`: without a file descriptor, for loops that cannot wait for one.
    #[new]
    fn new(event_loop: &Bound<'_, PyAny>, threaded: bool) -> PyResult<Self> {
        let bell = Bell::new(threaded).map_err(Failure::NoThreads)?;
        let fd = bell.fd();
        let queue = Arc::new(Queue { woken: Mutex::default(), rung: AtomicBool::new(false), bell });
        process::current()?.logs.listen(&queue);
        let inner = Inner { queue, pending: Mutex::default(), over: Mutex::default() };
        Ok(Self { inner: Owned::new(inner), fd, event_loop: event_loop.as_ptr().addr() })
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

    /// Goes on with the calls that were woken, and with the tasks of those that are over. Called by the loop.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        // A forked child that goes on with its parent's loop hears its parent's bell.
        let (Ok(inner), Some(process)) = (self.inner.get(), process::peek()) else { return Ok(()) };
        inner.queue.bell.hush();
        // Before the queue is taken: whoever pushes from here on rings again.
        inner.queue.rung.store(false, Ordering::Release);
        let woken = std::mem::take(&mut *inner.queue.woken.lock());
        {
            let _runtime = process.handle().enter();
            for place in woken {
                let Some(answer) = inner.at(py, place) else { continue };
                if answer.get().poll() {
                    inner.forget(place, answer.bind(py));
                    inner.over.lock().push_back(answer);
                }
            }
        }
        // What the tasks ask next goes out together.
        hither::together(|| inner.go_on(py))?;
        process.logs.deliver(py);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Locked for moments only, in which no garbage is collected by the same thread.
        if let Ok(inner) = self.inner.get() {
            if let Some(pending) = inner.pending.try_lock() {
                pending.iter().try_for_each(|(_, answer)| visit.call(answer))?;
            }
            if let Some(over) = inner.over.try_lock() {
                over.iter().try_for_each(|answer| visit.call(answer))?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(inner) = self.inner.get() {
            let pending = std::mem::take(&mut *inner.pending.lock());
            let over = std::mem::take(&mut *inner.over.lock());
            drop((pending, over));
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyRuntimeError::new_err("a port cannot be pickled"))
    }
}
