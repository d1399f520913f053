//! The one way to die: the first reason counts, and everybody hears of it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Why the process must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What died, and of what.
    pub reason: Arc<str>,
}

/// Shared by everything whose end is the end of the engine.
#[derive(Clone, Default)]
pub(crate) struct Failing(Arc<Inner>);

#[derive(Default)]
struct Inner {
    failure: OnceLock<Failure>,
    failed: Notify,
}

impl Failing {
    /// Something died. Only the first reason is kept: what follows is a consequence.
    pub(crate) fn fail(&self, reason: impl Into<Arc<str>>) {
        let failure = Failure { reason: reason.into() };
        tracing::error!(reason = %failure, "the engine failed");
        if self.0.failure.set(failure).is_ok() {
            self.0.failed.notify_waiters();
        }
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.0.failure.get().cloned()
    }

    /// Resolves when something died.
    pub(crate) fn failed(&self) -> impl Future<Output = Failure> + Send + 'static {
        let inner = self.0.clone();
        async move {
            loop {
                let mut failed = std::pin::pin!(inner.failed.notified());
                // Registered before the look, so that a failure between the two is not missed.
                failed.as_mut().enable();
                if let Some(failure) = inner.failure.get() {
                    return failure.clone();
                }
                failed.await;
            }
        }
    }
}

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failing").field(&self.0.failure.get()).finish()
    }
}
