//! The queue between the handles of a client and its driver.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::driver::Command;

/// Commands that go out without waiting for the end of [`together`]: they fill several packets, and the server has something
/// to do meanwhile.
const TOGETHER_MAX: usize = 64;

thread_local! {
    /// The queues that this thread has put something into, while it is in [`together`].
    static HELD: RefCell<Option<Vec<Arc<Queue>>>> = const { RefCell::new(None) };
}

/// Has the requests that this thread makes in `ask` sent together: when it returns, or whenever 64 wait.
///
/// For whoever goes on with many tasks one after the other, as an event loop does with those that were answered at once.
/// Each of them asking the next thing would have a packet of its own, and wake the client's task for it; so they share both.
/// What blocks in between does so in [`apart`]; otherwise what was asked for before waits too.
///
/// ```
/// # async fn example(client: &hither::Client) -> Result<(), hither::Error> {
/// # use std::future::IntoFuture;
/// # use futures_util::{FutureExt, future::join_all};
/// // A request is made when its future is first polled.
/// let mut puts = join_all((0..100).map(|number| client.put(format!("k/{number}"), "v").into_future()));
/// let first = hither::together(|| (&mut puts).now_or_never());
/// # let _ = first; puts.await;
/// # Ok(()) }
/// ```
pub fn together<R>(ask: impl FnOnce() -> R) -> R {
    struct Holding;
    impl Drop for Holding {
        fn drop(&mut self) {
            let held = HELD.with_borrow_mut(Option::take);
            held.into_iter().flatten().for_each(|queue| Queue::release(queue.lock()));
        }
    }
    let within = HELD.with_borrow_mut(|held| held.is_some() || !held.insert(Vec::new()).is_empty());
    let _holding = (!within).then(|| Holding);
    ask()
}

/// Has nothing held back by [`together`] while this thread is in `wait`: what it has asked for goes out now, and what it asks
/// there at once. For whoever blocks in between, which may be until the answer to either. Outside `together` it does nothing.
pub fn apart<R>(wait: impl FnOnce() -> R) -> R {
    struct Releasing;
    impl Drop for Releasing {
        fn drop(&mut self) {
            // Those that were held were released: a new list.
            HELD.set(Some(Vec::new()));
        }
    }
    // A thread that ends holds nothing any more.
    let held = HELD.try_with(RefCell::take).ok().flatten();
    let _releasing = held.is_some().then(|| Releasing);
    held.into_iter().flatten().for_each(|queue| Queue::release(queue.lock()));
    wait()
}

/// Where handles put their commands. Dropped with the last handle.
#[derive(Debug)]
pub(crate) struct Commands(Arc<Queue>);

/// Where the driver takes them. Dropped with the driver.
#[derive(Debug)]
pub(crate) struct Asked(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// The driver is to take them: they are not held.
    ready: bool,
    /// The other side is gone.
    over: bool,
    driver: Option<Waker>,
}

/// The driver is gone, and with it whoever could do what was asked.
#[derive(Debug)]
pub(crate) struct Gone;

/// The two ends of a new queue.
pub(crate) fn queue() -> (Commands, Asked) {
    let queue = Arc::new(Queue::default());
    (Commands(Arc::clone(&queue)), Asked(queue))
}

impl Commands {
    pub(crate) fn send(&self, command: Command) -> Result<(), Gone> {
        // A thread that ends holds nothing any more.
        let holds = HELD.try_with(|held| self.0.is_held(held)).unwrap_or(false);
        let mut waiting = self.0.lock();
        if waiting.over {
            return Err(Gone);
        }
        waiting.commands.push_back(command);
        if !holds || waiting.commands.len() >= TOGETHER_MAX {
            Queue::release(waiting);
        }
        Ok(())
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.over = true;
        Queue::release(waiting);
    }
}

impl Asked {
    /// Moves up to `most` commands to `out`. `Ready(false)` once the last handle is gone and all was taken.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, most: usize, out: &mut Vec<Command>) -> Poll<bool> {
        let mut waiting = self.0.lock();
        if waiting.ready {
            let count = waiting.commands.len().min(most);
            out.extend(waiting.commands.drain(..count));
            waiting.ready = waiting.over || !waiting.commands.is_empty();
            if count > 0 {
                return Poll::Ready(true);
            }
            if waiting.over {
                return Poll::Ready(false);
            }
        }
        if !waiting.driver.as_ref().is_some_and(|driver| driver.will_wake(context.waker())) {
            waiting.driver = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.over = true;
        let left = std::mem::take(&mut waiting.commands);
        drop(waiting);
        // Whoever waits for them is told by that.
        drop(left);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this thread holds back what it puts here. If so, it will not forget it.
    fn is_held(self: &Arc<Self>, held: &RefCell<Option<Vec<Arc<Self>>>>) -> bool {
        let mut held = held.borrow_mut();
        let Some(held) = held.as_mut() else { return false };
        if !held.iter().any(|queue| Arc::ptr_eq(queue, self)) {
            held.push(Arc::clone(self));
        }
        true
    }

    /// Lets the driver take what is there.
    fn release(mut waiting: MutexGuard<'_, Waiting>) {
        if std::mem::replace(&mut waiting.ready, true) {
            return;
        }
        let driver = waiting.driver.take();
        drop(waiting);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A driver that sleeps, and what has woken it.
    struct Driver {
        asked: Asked,
        wakes: Arc<Wakes>,
    }

    impl Driver {
        fn new(asked: Asked) -> Self {
            Self { asked, wakes: Arc::default() }
        }

        fn poll(&mut self, most: usize) -> (Poll<bool>, Vec<u64>) {
            let waker = Waker::from(Arc::clone(&self.wakes));
            let mut commands = Vec::new();
            let polled = self.asked.poll(&mut Context::from_waker(&waker), most, &mut commands);
            let id = |command| match command {
                Command::Cancel { id } => id,
                other => panic!("only these were put there, not {other:?}"),
            };
            (polled, commands.into_iter().map(id).collect())
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }
    }

    fn sleeping() -> (Commands, Driver) {
        let (commands, asked) = queue();
        let mut driver = Driver::new(asked);
        assert_eq!(driver.poll(9), (Poll::Pending, vec![]));
        (commands, driver)
    }

    fn put(commands: &Commands, ids: impl IntoIterator<Item = u64>) {
        ids.into_iter().for_each(|id| commands.send(Command::Cancel { id }).expect("the driver is there"));
    }

    #[test]
    fn a_command_wakes_the_driver_once_and_all_are_taken_in_order() {
        let (commands, mut driver) = sleeping();
        put(&commands, 1..=5);
        assert_eq!(driver.wakes(), 1);
        assert_eq!(driver.poll(3), (Poll::Ready(true), vec![1, 2, 3]));
        assert_eq!(driver.poll(3), (Poll::Ready(true), vec![4, 5]));
        assert_eq!(driver.poll(3), (Poll::Pending, vec![]));
        put(&commands, [6]);
        assert_eq!(driver.wakes(), 2);
    }

    #[test]
    fn what_is_asked_together_is_taken_together() {
        let (commands, mut driver) = sleeping();
        together(|| {
            put(&commands, 1..=3);
            // Within another, it is the outer one that counts.
            together(|| put(&commands, [4]));
            assert_eq!(driver.wakes(), 0);
            assert_eq!(driver.poll(9), (Poll::Pending, vec![]));
        });
        assert_eq!(driver.wakes(), 1);
        assert_eq!(driver.poll(9), (Poll::Ready(true), vec![1, 2, 3, 4]));
        put(&commands, [5]);
        assert_eq!(driver.poll(9), (Poll::Ready(true), vec![5]));
    }

    #[test]
    fn who_blocks_in_between_is_not_held_back_and_neither_is_what_was_asked_before() {
        let (commands, mut driver) = sleeping();
        let (others, mut other) = sleeping();
        together(|| {
            put(&commands, [1]);
            apart(|| {
                assert_eq!(driver.wakes(), 1);
                assert_eq!(driver.poll(9), (Poll::Ready(true), vec![1]));
                assert_eq!(driver.poll(9), (Poll::Pending, vec![]));
                put(&commands, [2]);
                put(&others, [3]);
                assert_eq!((driver.wakes(), other.wakes()), (2, 1));
            });
            assert_eq!(driver.poll(9), (Poll::Ready(true), vec![2]));
            assert_eq!(driver.poll(9), (Poll::Pending, vec![]));
            put(&commands, [4]);
            assert_eq!(driver.wakes(), 2, "from here on they are held again");
        });
        assert_eq!(driver.poll(9), (Poll::Ready(true), vec![4]));
        assert_eq!(other.poll(9), (Poll::Ready(true), vec![3]));
        apart(|| put(&commands, [5]));
        put(&commands, [6]);
        assert_eq!(driver.poll(9), (Poll::Ready(true), vec![5, 6]), "outside it changes nothing");
    }

    #[test]
    fn many_do_not_wait_for_the_last_of_them() {
        let (commands, mut driver) = sleeping();
        together(|| {
            put(&commands, 1..TOGETHER_MAX as u64);
            assert_eq!(driver.wakes(), 0);
            put(&commands, [99]);
            assert_eq!(driver.wakes(), 1);
            assert_eq!(driver.poll(99).1.len(), TOGETHER_MAX);
        });
    }

    #[test]
    fn other_threads_do_not_wait_and_neither_does_what_is_asked_after_a_panic() {
        let (commands, mut driver) = sleeping();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            together(|| {
                put(&commands, [1]);
                std::thread::scope(|scope| scope.spawn(|| put(&commands, [2])).join()).expect("the other thread");
                assert_eq!(driver.wakes(), 1);
                assert_eq!(driver.poll(9), (Poll::Ready(true), vec![1, 2]));
                put(&commands, [3]);
                panic!("in between");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(driver.poll(9), (Poll::Ready(true), vec![3]));
        assert_eq!(driver.poll(9), (Poll::Pending, vec![]));
        put(&commands, [4]);
        assert_eq!(driver.poll(9), (Poll::Ready(true), vec![4]));
    }

    #[test]
    fn each_side_learns_that_the_other_is_gone() {
        let (commands, mut driver) = sleeping();
        put(&commands, [1]);
        drop(commands);
        assert_eq!(driver.poll(9), (Poll::Ready(true), vec![1]));
        assert_eq!(driver.poll(9), (Poll::Ready(false), vec![]));

        let (commands, driver) = sleeping();
        drop(driver);
        assert!(commands.send(Command::Cancel { id: 1 }).is_err());
    }
}
