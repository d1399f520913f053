//! The time as this engine counts it, without the runtime's type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use hither_protocol::Moment;
use openraft_rt::Instant;

use crate::raft::Runtime;

pub(crate) type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Counts from the engine's start.
#[derive(Clone)]
pub(crate) struct Clock {
    now: Arc<dyn Fn() -> Moment + Send + Sync>,
    sleep: fn(Duration) -> Sleep,
}

impl Clock {
    pub(crate) fn of<R: Runtime>() -> Self {
        let start = R::Instant::now();
        let now = move || Moment(u64::try_from((R::Instant::now() - start).as_nanos()).unwrap_or(u64::MAX));
        Self { now: Arc::new(now), sleep: R::boxed_sleep }
    }

    pub(crate) fn now(&self) -> Moment {
        (self.now)()
    }

    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        (self.sleep)(duration)
    }

    /// What `future` comes to, or nothing if that takes too long.
    pub(crate) async fn timeout<F: Future + Unpin>(&self, duration: Duration, future: F) -> Option<F::Output> {
        match select(future, self.sleep(duration)).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(((), _)) => None,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
