//! What belongs to this process and to no other: the runtime, and whatever has a lock.
//!
//! A forked child has the parent's memory but none of its threads: a lock that one of them held is held for ever. So
//! the child's first act is to forget everything (an atomic store, in a handler that may do no more than that), and
//! what it inherited is neither used nor dropped. It makes its own when it first connects.

use std::collections::HashMap;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hither::Client;
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::errors::Failure;
use crate::logs::Logs;

/// One thread drives every connection, faster than Python can ask; a second would only make them wait for each other.
const WORKERS: usize = 1;
/// Names that a resolver must look up are looked up one at a time.
const BLOCKING_MAX: usize = 1;
/// How long the goodbyes of a program that ends may take; the core's own bound is 200 ms and the last packets' 50 ms.
const GOODBYE: Duration = Duration::from_millis(260);
/// How long the runtime's threads may take to end after that.
const THREADS_END: Duration = Duration::from_millis(20);

static CURRENT: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The runtime of this process, and what must end with it. Never freed: threads of the interpreter may still look at it
/// while it exits.
pub(crate) struct Process {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    clients: Mutex<HashMap<u64, Client>>,
    next: AtomicU64,
    ending: AtomicBool,
    waiting: AtomicUsize,
    /// What the core logged and Python has not been told.
    pub(crate) logs: Logs,
}

/// This process's, made when it is first needed.
pub(crate) fn current() -> Result<&'static Process, Failure> {
    let process = match peek() {
        Some(process) => process,
        None => make()?,
    };
    if process.ending.load(Ordering::Acquire) { Err(Failure::Exiting) } else { Ok(process) }
}

/// This process's, if there is one.
#[expect(unsafe_code, reason = "a pointer that a fork can take away")]
pub(crate) fn peek() -> Option<&'static Process> {
    // SAFETY: what is stored there was leaked from a box and is never freed.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

fn make() -> Result<&'static Process, Failure> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name("hither")
        .enable_all()
        .build()
        .map_err(Failure::NoThreads)?;
    let made = Box::leak(Box::new(Process {
        handle: runtime.handle().clone(),
        runtime: Mutex::new(Some(runtime)),
        clients: Mutex::default(),
        next: AtomicU64::new(0),
        ending: AtomicBool::new(false),
        waiting: AtomicUsize::new(0),
        logs: Logs::default(),
    }));
    // No lock decides who is first: one that is held at a fork stays locked in the child.
    if CURRENT.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire).is_err() {
        made.end(Duration::ZERO);
    }
    // One of the two was stored, and only a fork, which has no second thread, removes it.
    peek().ok_or(Failure::Forked)
}

impl Process {
    /// Where tasks run.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Remembers a client until [`forget`](Self::forget), to say goodbye for it when the program ends.
    pub(crate) fn remember(&self, client: Client) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.clients.lock().insert(number, client);
        number
    }

    /// A client that was closed or dropped.
    pub(crate) fn forget(&self, number: u64) {
        self.clients.lock().remove(&number);
    }

    /// Counts a thread of the interpreter that waits here, until the value is dropped: it must be back in Python before
    /// the interpreter ends, since a thread that then asks for it is killed wherever it is.
    pub(crate) fn waiting(&self) -> impl Drop + '_ {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(&self.waiting)
    }

    /// Whether the program ends: nothing new begins.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn end(&self, threads: Duration) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_timeout(threads);
        }
    }

    fn shut_down(&self) {
        self.ending.store(true, Ordering::Release);
        let clients: Vec<Client> = self.clients.lock().drain().map(|(_, client)| client).collect();
        let begin = Instant::now();
        self.handle.block_on(async {
            let goodbyes = join_all(clients.iter().map(Client::close));
            // Whoever was not reached ends with its time to live.
            let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
        });
        drop(clients);
        while self.waiting.load(Ordering::Acquire) > 0 && begin.elapsed() < GOODBYE {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.end(THREADS_END);
    }
}

/// Ends what runs: for `atexit`, which comes before the interpreter ends.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    if let Some(process) = peek() {
        py.detach(|| process.shut_down());
        process.logs.deliver(py);
    }
}

/// Has every fork of this process, by whatever means, forget what belongs to the parent. Called once, on import.
#[expect(unsafe_code, reason = "the standard library has no hook for forks")]
pub(crate) fn notice_forks() {
    extern "C" fn in_child() {
        CURRENT.store(ptr::null_mut(), Ordering::Release);
        GENERATION.fetch_add(1, Ordering::AcqRel);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler does nothing but two atomic stores, which a forked child may do. Out of memory is the
        // only failure, and then nothing else works either.
        #[cfg(unix)]
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

/// Something with locks or threads behind it, which belongs to the process that made it: in a forked child it is
/// refused, and dropping it there drops nothing.
pub(crate) struct Owned<T> {
    value: Option<T>,
    generation: u64,
}

impl<T> Owned<T> {
    /// Made here and now.
    pub(crate) fn new(value: T) -> Self {
        Self { value: Some(value), generation: GENERATION.load(Ordering::Acquire) }
    }

    /// The value, in the process that made it.
    pub(crate) fn get(&self) -> Result<&T, Failure> {
        if self.is_here() { self.value.as_ref().ok_or(Failure::Forked) } else { Err(Failure::Forked) }
    }

    /// Whether this is the process that made it.
    pub(crate) fn is_here(&self) -> bool {
        GENERATION.load(Ordering::Acquire) == self.generation
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}
