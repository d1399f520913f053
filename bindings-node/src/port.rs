//! Where a JavaScript environment and the runtime meet: a queue of outcomes, and one wake-up for however many wait.
//!
//! JavaScript gives each call a number and keeps its promise under it. The outcome waits here, in Rust's own terms,
//! until JavaScript's thread drains it and turns it into values. The threadsafe function carries no data, so its
//! unbounded queue holds one wake-up at most; it is weak, so that an idle client does not keep the process: while
//! something is pending, a timer on the other side does.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use hither::{Error, ErrorCode};
use napi::bindgen_prelude::{Array, Function, ToNapiValue, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::{runtime, tell};

/// Outcomes turned into values in one go: some 200 µs, after which timers and sockets have their turn.
const DRAIN_MAX: usize = 128;

/// What a call brought, to be made into a JavaScript value on JavaScript's thread.
pub(crate) type Tell = Box<dyn for<'env> FnOnce(&'env Env) -> napi::Result<Unknown<'env>> + Send>;
/// The outcome of a call.
pub(crate) type Outcome = Result<Tell, Error>;
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The native end of an environment's port: one for its main thread, one for each of its workers.
#[napi]
#[derive(Debug)]
pub struct Port {
    queue: Arc<Queue>,
}

#[napi]
impl Port {
    /// `wake` is called, some time later, when there is something to drain.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: &Env, wake: Function<'_, (), ()>) -> napi::Result<Self> {
        let wake = wake.build_threadsafe_function().weak::<true>().build()?;
        let queue = Arc::new(Queue { wake, inner: Mutex::default() });
        // The environment goes away with its worker, or with the process: nothing waits for what is in the queue.
        env.add_env_cleanup_hook(Arc::clone(&queue), |queue| queue.close())?;
        Ok(Self { queue })
    }

    /// Takes what waits: whether there is more, and then, for each outcome, its call's number, whether it is a value,
    /// and the value or error.
    #[napi(catch_unwind, ts_return_type = "unknown[]")]
    pub fn drain<'env>(&self, env: &'env Env) -> napi::Result<Array<'env>> {
        let (outcomes, more) = self.queue.take();
        let mut drained = env.create_array(0)?;
        drained.insert(more)?;
        for (id, outcome) in outcomes {
            let value = outcome.and_then(|tell| {
                tell(env).map_err(|error| Error::caused_by(ErrorCode::Internal, "an outcome has no value", error))
            });
            drained.insert(id)?;
            drained.insert(value.is_ok())?;
            drained.insert(match value {
                Ok(value) => value,
                Err(error) => tell::error(env, &error)?,
            })?;
        }
        Ok(drained)
    }

    /// Takes a call back: its future is dropped, and with it whatever it asked of the server.
    #[napi(catch_unwind)]
    pub fn cancel(&self, id: u32) {
        self.queue.cancel(id);
    }

    /// Calls that run now, those that only listen among them.
    #[napi(getter, catch_unwind)]
    pub fn running(&self) -> u32 {
        u32::try_from(self.queue.inner.lock().running.len()).unwrap_or(u32::MAX)
    }
}

impl Port {
    pub(crate) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }
}

/// The queue behind a port. Whoever runs a call holds it.
pub(crate) struct Queue {
    wake: Wake,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    outcomes: VecDeque<(u32, Outcome)>,
    running: HashMap<u32, AbortHandle>,
    woken: bool,
    closed: bool,
}

impl Queue {
    /// Runs a call. Its outcome is queued under its number, also if it panics.
    pub(crate) fn run(self: &Arc<Self>, id: u32, call: impl Future<Output = Outcome> + Send + 'static) {
        let queue = Arc::clone(self);
        let call = async move {
            let outcome = AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)));
            queue.end(id, outcome);
        };
        // Under the lock, so that the call cannot end before it is listed.
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.running.insert(id, runtime::spawn(call));
        }
    }

    /// Says something under the number of a call that goes on.
    pub(crate) fn note(&self, id: u32, tell: Tell) {
        self.push(self.inner.lock(), id, Ok(tell));
    }

    fn end(&self, id: u32, outcome: Outcome) {
        let mut inner = self.inner.lock();
        inner.running.remove(&id);
        self.push(inner, id, outcome);
    }

    fn push(&self, mut inner: parking_lot::MutexGuard<'_, Inner>, id: u32, outcome: Outcome) {
        if inner.closed {
            drop(inner);
            return;
        }
        inner.outcomes.push_back((id, outcome));
        let woken = std::mem::replace(&mut inner.woken, true);
        drop(inner);
        if !woken {
            // It says `Closing` if the environment is going away: then nobody is there to be woken.
            self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// What waits, up to a turn's worth, and whether more does: then whoever drains comes again without a wake-up.
    fn take(&self) -> (Vec<(u32, Outcome)>, bool) {
        let mut inner = self.inner.lock();
        let count = inner.outcomes.len().min(DRAIN_MAX);
        let taken = inner.outcomes.drain(..count).collect();
        inner.woken = !inner.outcomes.is_empty();
        (taken, inner.woken)
    }

    fn cancel(&self, id: u32) {
        let mut inner = self.inner.lock();
        if let Some(call) = inner.running.remove(&id) {
            call.abort();
        }
        // It may have ended already: what it brought, such as a lease, is let go of here.
        let mut brought = VecDeque::new();
        if inner.outcomes.iter().any(|(other, _)| *other == id) {
            let (theirs, others): (VecDeque<_>, _) = inner.outcomes.drain(..).partition(|(other, _)| *other == id);
            (brought, inner.outcomes) = (theirs, others);
        }
        drop(inner);
        drop(brought);
    }

    fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let left = std::mem::take(&mut inner.outcomes);
        for (_, call) in inner.running.drain() {
            call.abort();
        }
        drop(inner);
        drop(left);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// An outcome that needs the environment to become a value.
pub(crate) fn later(tell: impl for<'env> FnOnce(&'env Env) -> napi::Result<Unknown<'env>> + Send + 'static) -> Tell {
    Box::new(tell)
}

/// An outcome that is a value.
pub(crate) fn value<T: ToNapiValue + Send + 'static>(value: T) -> Tell {
    later(move |env| value.into_unknown(env))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
    Error::unknown(ErrorCode::Internal, format!("the client panicked, which is a bug in it: {said}"))
}
