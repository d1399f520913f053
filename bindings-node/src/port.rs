//! Where a JavaScript environment and the runtime meet: calls under way, and one wake-up for however many can go on.
//!
//! JavaScript gives each call a number and keeps its promise under it. The call's future is polled here by JavaScript's
//! own thread: when it is made, and again when what it waits for has come. Whoever wakes one, on whatever thread, only
//! puts its number on a list; so no call costs a task or a change of threads. The threadsafe function carries no data, so
//! its unbounded queue holds one wake-up at most; it is weak, so that an idle client does not keep the process: while
//! something is pending, a timer on the other side does.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use hither::{Error, ErrorCode};
use napi::bindgen_prelude::{Array, Function, ToNapiValue, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::{runtime, tell};

/// What is drained in one go, in events of watches: about a millisecond of JavaScript's thread, after which timers and
/// sockets have their turn.
const DRAIN_MAX: usize = 1_024;
/// What the outcome of a call takes beside an event.
const CALL_WEIGHT: usize = 8;

/// What a call brought, to be made into a JavaScript value.
pub(crate) struct Tell {
    weight: usize,
    make: Make,
}

type Make = Box<dyn for<'env> FnOnce(&'env Env) -> napi::Result<Unknown<'env>> + Send>;
/// The outcome of a call.
pub(crate) type Outcome = Result<Tell, Error>;
type Bell = ThreadsafeFunction<(), (), (), Status, false, true>;

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
        let bell = wake.build_threadsafe_function().weak::<true>().build()?;
        let queue = Arc::new(Queue { bell, woken: Mutex::default(), here: Mutex::default() });
        // The environment goes away with its worker, or with the process: nothing waits for what is in the queue.
        env.add_env_cleanup_hook(Arc::clone(&queue), |queue| queue.close())?;
        Ok(Self { queue })
    }

    /// Goes on with what was woken: whether there is more, and then, for each outcome, its call's number, whether it is
    /// a value, and the value or error.
    #[napi(catch_unwind, ts_return_type = "unknown[]")]
    pub fn drain<'env>(&self, env: &'env Env) -> napi::Result<Array<'env>> {
        let mut drained = env.create_array(1)?;
        let mut weight = 0;
        while weight < DRAIN_MAX
            && let Some((id, outcome)) = self.queue.next()
        {
            let value = outcome.and_then(|Tell { weight: more, make }| {
                weight += more;
                make(env).map_err(|error| Error::caused_by(ErrorCode::Internal, "an outcome has no value", error))
            });
            weight += CALL_WEIGHT;
            drained.insert(id)?;
            drained.insert(value.is_ok())?;
            drained.insert(match value {
                Ok(value) => value,
                Err(error) => tell::error(env, &error)?,
            })?;
        }
        drained.set(0, self.queue.rest())?;
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
        u32::try_from(self.queue.here.lock().calls.len()).unwrap_or(u32::MAX)
    }
}

impl Port {
    pub(crate) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }
}

/// The queue behind a port. Whoever makes a call holds it.
pub(crate) struct Queue {
    bell: Bell,
    woken: Mutex<Woken>,
    here: Mutex<Here>,
}

/// The side that every thread may touch.
#[derive(Default)]
struct Woken {
    calls: VecDeque<u32>,
    /// JavaScript was told to drain, or does so again without being told.
    rung: bool,
}

/// The side that only JavaScript's thread touches. Never locked while a call is polled.
#[derive(Default)]
struct Here {
    calls: HashMap<u32, Call>,
    /// Calls that were woken, and taken from the list of those that were.
    turn: VecDeque<u32>,
    outcomes: VecDeque<(u32, Outcome)>,
    closed: bool,
}

/// A call under way.
struct Call {
    future: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    waking: Arc<Waking>,
}

/// Wakes one call.
struct Waking {
    queue: Arc<Queue>,
    id: u32,
    /// It is on the list already.
    listed: AtomicBool,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.queue.ring(|woken| woken.calls.push_back(self.id));
        }
    }
}

impl Call {
    /// Goes on with it. A panic is an outcome too.
    fn poll(&mut self) -> Poll<Outcome> {
        // Before it is polled: what comes from here on wakes it again.
        self.waking.listed.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.waking));
        let mut context = Context::from_waker(&waker);
        let future = AssertUnwindSafe(&mut self.future);
        catch_unwind(move || { future }.as_mut().poll(&mut context))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    }
}

impl Queue {
    /// Begins a call. Its outcome is told under its number, in a later turn also if it is there already.
    pub(crate) fn run(self: &Arc<Self>, id: u32, call: impl Future<Output = Outcome> + Send + 'static) {
        if self.here.lock().closed {
            return;
        }
        let waking = Arc::new(Waking { queue: Arc::clone(self), id, listed: AtomicBool::new(false) });
        self.go_on(id, Call { future: Box::pin(call), waking });
    }

    fn go_on(&self, id: u32, mut call: Call) {
        let polled = {
            let _runtime = runtime::runtime().enter();
            call.poll()
        };
        match polled {
            Poll::Ready(outcome) => self.told(id, outcome),
            // Only this thread drains, so nobody looks for it before it is here.
            Poll::Pending => drop(self.here.lock().calls.insert(id, call)),
        }
    }

    /// Says something under the number of a call that goes on. On JavaScript's thread, where calls are polled.
    pub(crate) fn note(&self, id: u32, tell: Tell) {
        self.told(id, Ok(tell));
    }

    fn told(&self, id: u32, outcome: Outcome) {
        self.here.lock().outcomes.push_back((id, outcome));
        self.ring(|_| ());
    }

    /// Has JavaScript look.
    fn ring(&self, why: impl FnOnce(&mut Woken)) {
        let mut woken = self.woken.lock();
        why(&mut woken);
        let rung = std::mem::replace(&mut woken.rung, true);
        drop(woken);
        if !rung {
            // It says `Closing` if the environment is going away: then nobody is there to be woken.
            self.bell.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// The next outcome, whichever calls must go on for it.
    fn next(&self) -> Option<(u32, Outcome)> {
        loop {
            let mut here = self.here.lock();
            if let Some(outcome) = here.outcomes.pop_front() {
                return Some(outcome);
            }
            if here.turn.is_empty() {
                std::mem::swap(&mut here.turn, &mut self.woken.lock().calls);
            }
            let id = here.turn.pop_front()?;
            // It may have been taken back since.
            let call = here.calls.remove(&id);
            drop(here);
            if let Some(call) = call {
                self.go_on(id, call);
            }
        }
    }

    /// Whether there is more to drain: then whoever drains comes again without a wake-up.
    fn rest(&self) -> bool {
        let here = self.here.lock();
        let mut woken = self.woken.lock();
        woken.rung = !(here.outcomes.is_empty() && here.turn.is_empty() && woken.calls.is_empty());
        woken.rung
    }

    fn cancel(&self, id: u32) {
        let mut here = self.here.lock();
        let call = here.calls.remove(&id);
        // It may have ended already: what it brought, such as a lease, is let go of here.
        let mut brought = VecDeque::new();
        if here.outcomes.iter().any(|(other, _)| *other == id) {
            let (theirs, others): (VecDeque<_>, _) = here.outcomes.drain(..).partition(|(other, _)| *other == id);
            (brought, here.outcomes) = (theirs, others);
        }
        drop(here);
        drop((call, brought));
    }

    fn close(&self) {
        let left = std::mem::replace(&mut *self.here.lock(), Here { closed: true, ..Here::default() });
        drop(left);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// An outcome that needs the environment to become a value.
pub(crate) fn later(make: impl for<'env> FnOnce(&'env Env) -> napi::Result<Unknown<'env>> + Send + 'static) -> Tell {
    heavy(0, make)
}

/// The same, that takes as long as so many events.
pub(crate) fn heavy(
    weight: usize,
    make: impl for<'env> FnOnce(&'env Env) -> napi::Result<Unknown<'env>> + Send + 'static,
) -> Tell {
    Tell { weight, make: Box::new(make) }
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
