//! The runtime that every client of the process runs on.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// A static is never dropped, and the addon is linked to stay loaded: worker threads come and go, and shutting the
/// runtime down with one of them would race with the unloading of the code that it runs.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Runs what no call waits for.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    runtime().spawn(future);
}

/// The runtime, whose one thread is enough: the client's own work is one task per client. The first to ask starts it.
pub(crate) fn runtime() -> &'static Runtime {
    RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("hither").enable_all().build();
        // Without a thread, a timer and a poll there is no client; the process has run out of something vital.
        runtime.unwrap_or_else(|error| panic!("no thread for the client could be started: {error}"))
    })
}
