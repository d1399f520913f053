//! Ctrl-C and SIGTERM.

use std::io;

use tokio::signal;

/// Resolves at the first of them, from when it is made: one that comes before anyone waits for it is not lost. Later
/// ones end the process: a drain that hangs must not need `kill -9`.
pub(crate) fn asked_to_stop() -> impl Future<Output = ()> {
    let mut asked = Signals::listen();
    async move {
        asked.next().await;
        tokio::spawn(async move {
            asked.next().await;
            eprintln!("hither: stopped at once");
            std::process::exit(130);
        });
    }
}

/// Both signals; those that this process cannot listen for never come.
#[cfg(unix)]
struct Signals {
    interrupt: Option<signal::unix::Signal>,
    terminate: Option<signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        use signal::unix::{SignalKind, signal};

        let warn = |error: &io::Error| tracing::warn!(%error, "a signal cannot be listened for");
        let listen = |kind| signal(kind).inspect_err(warn).ok();
        Self { interrupt: listen(SignalKind::interrupt()), terminate: listen(SignalKind::terminate()) }
    }

    async fn next(&mut self) {
        async fn one(signal: &mut Option<signal::unix::Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = one(&mut self.interrupt) => {}
            () = one(&mut self.terminate) => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) {
        let listened: io::Result<()> = signal::ctrl_c().await;
        if listened.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
