//! The runtime that every client of the process runs on.

use std::future::Future;
use std::pin::pin;
use std::sync::OnceLock;

use futures_util::future::select;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A static is never dropped, and the addon is linked to stay loaded: worker threads come and go, and shutting the
/// runtime down with one of them would race with the unloading of the code that it runs.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Runs what no call waits for.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    runtime().spawn(future);
}

/// Lets something that is told only the newest of what came be read on the runtime, which is never late, and passed on
/// in full. It ends when nobody reads on.
pub(crate) fn follow<T, F>(read: impl FnOnce(UnboundedSender<T>) -> F) -> UnboundedReceiver<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = unbounded_channel();
    let read = read(sender.clone());
    spawn(async move {
        select(pin!(read), pin!(sender.closed())).await;
    });
    receiver
}

/// The runtime, whose one thread is enough: the client's own work is one task per client. The first to ask starts it.
pub(crate) fn runtime() -> &'static Runtime {
    RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("hither").enable_all().build();
        // Without a thread, a timer and a poll there is no client; the process has run out of something vital.
        runtime.unwrap_or_else(|error| panic!("no thread for the client could be started: {error}"))
    })
}
