//! The ground that raft's tasks run on: tokio in a server, a seeded clock and scheduler in a simulation.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioRuntime};

/// Shorter sleeps give way once instead: raft sleeps a microsecond to gather completions, which tokio's timer would
/// stretch to a millisecond.
const SLEEP_MIN: Duration = Duration::from_micros(200);

/// A runtime that can also put work on a thread of its own.
pub trait Runtime: AsyncRuntime + Copy + Default + Ord + Send + Sync {
    /// Runs `work` apart from everything else: blocking calls in it hold up nobody.
    ///
    /// # Errors
    /// No thread was to be had.
    fn thread<F>(name: &str, work: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static;

    /// A sleep on the heap, in one piece.
    fn boxed_sleep(duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Self::sleep(duration))
    }

    /// Runs `work` beside everything else of the runtime that this is called on.
    fn detach<F>(work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(Self::spawn(work));
    }
}

/// Tokio, with two changes: a thread per piece of work, and short sleeps that do not sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tokio;

impl Runtime for Tokio {
    fn thread<F>(name: &str, work: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // No driver of sockets: the thread parks on a condition variable, the fastest wake-up there is.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work))?;
        Ok(())
    }

    fn boxed_sleep(duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Sleeps, or gives way once.
pub enum Pause {
    /// Not yet given way.
    Yield,
    /// Given way.
    Yielded,
    /// Sleeps.
    Sleep(Pin<Box<tokio::time::Sleep>>),
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Yield => {
                *self = Self::Yielded;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Yielded => Poll::Ready(()),
            Self::Sleep(sleep) => sleep.as_mut().poll(context),
        }
    }
}

impl AsyncRuntime for Tokio {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Pause;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Pause {
        if duration < SLEEP_MIN { Pause::Yield } else { Pause::Sleep(Box::pin(TokioRuntime::sleep(duration))) }
    }

    fn sleep_until(deadline: TokioInstant) -> Pause {
        if deadline.saturating_duration_since(TokioInstant::now()) < SLEEP_MIN {
            Pause::Yield
        } else {
            Pause::Sleep(Box::pin(TokioRuntime::sleep_until(deadline)))
        }
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: TokioInstant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(_threads: usize) -> Self {
        Self
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        TokioRuntime::new(1).block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microsecond_is_not_stretched_to_a_millisecond() {
        Tokio::run(async {
            let begun = std::time::Instant::now();
            for _ in 0..100 {
                Tokio::sleep_until(TokioInstant::now() + Duration::from_micros(1)).await;
            }
            assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        });
    }

    #[test]
    fn a_long_sleep_sleeps() {
        Tokio::run(async {
            let begun = std::time::Instant::now();
            Tokio::sleep(Duration::from_millis(5)).await;
            assert!(begun.elapsed() >= Duration::from_millis(5));
        });
    }
}
