//! Following the instances of a service.

use std::future::IntoFuture;
use std::pin::Pin as Pinned;
use std::sync::Arc;
use std::time::Duration;

use hither_client_core::{Delta, Error, Instance, InstanceFilter, ServiceView};
use hither_protocol::ErrorCode;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::slot::{Pin, Told};
use crate::client::Client;
use crate::kv::Calling;

impl Client {
    /// Follows the instances of a service: first all of them, then every change. See [`ServiceWatch`].
    ///
    /// Awaiting it waits, at most for the request timeout, for the first state.
    ///
    /// ```no_run
    /// # async fn example(client: hither::Client) -> Result<(), hither::Error> {
    /// let mut watch = client.watch_service("api").await?;
    /// while let Some(update) = watch.next().await {
    ///     let update = update?;
    ///     println!("{} of {} are new", update.added.len(), update.view.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch_service(&self, service: impl AsRef<str>) -> ServiceWatches {
        ServiceWatches {
            client: self.clone(),
            service: service.as_ref().into(),
            filter: InstanceFilter::default(),
            min_interval: Duration::ZERO,
            timeout: None,
        }
    }
}

/// A watch of a service, to be opened by awaiting it. Made by [`Client::watch_service`].
#[must_use = "nothing is watched until it is awaited"]
#[derive(Clone, Debug)]
pub struct ServiceWatches {
    client: Client,
    service: Box<str>,
    filter: InstanceFilter,
    min_interval: Duration,
    timeout: Option<Duration>,
}

impl ServiceWatches {
    /// Only these instances. One that no longer meets the filter is told as removed. Default: all.
    pub fn filter(mut self, filter: InstanceFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Least time between two updates; what happens meanwhile is told as one. Default: none.
    pub const fn min_interval(mut self, interval: Duration) -> Self {
        self.min_interval = interval;
        self
    }

    /// How long opening may take. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn open(self) -> Result<ServiceWatch, Error> {
        let Self { client, service, filter, min_interval, timeout } = self;
        loop {
            let pin = client.pinned(&service)?;
            super::discover::wait(&client, &service, timeout, None, |_| true).await?;
            // It may have failed just now, and another have begun.
            let told = pin.slot().listen();
            if pin.slot().has_ended() {
                continue;
            }
            return Ok(ServiceWatch { client, pin, told, filter, min_interval, pause: None, last: None, ended: false });
        }
    }
}

impl IntoFuture for ServiceWatches {
    type Output = Result<ServiceWatch, Error>;
    type IntoFuture = Calling<ServiceWatch>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// What changed in a service.
#[derive(Clone, Debug)]
pub struct ServiceUpdate {
    /// The service as it is now.
    pub view: Arc<ServiceView>,
    /// Instances that the update before did not have.
    pub added: Vec<Arc<Instance>>,
    /// Instances that are different now.
    pub changed: Vec<Arc<Instance>>,
    /// Instances that are gone, as they were.
    pub removed: Vec<Arc<Instance>>,
}

/// Follows a service. Made by [`Client::watch_service`].
///
/// - The first update is the complete state, even if there is nothing in it.
/// - Each later one is the exact difference to the one before. What happens while nobody asks is folded into the next
///   one, and what cancels out is not told at all.
/// - A change in the registry makes the view's revision larger. It is the same only where something else changed: the
///   view's state, which is told too, or the end of a time that was counted here.
/// - It goes on when connections break and servers are gone: the view's state and age say so. It ends only with the
///   client, or with an error that says why the server will not go on.
///
/// Dropping it ends it; nothing of it comes after that.
#[derive(Debug)]
pub struct ServiceWatch {
    client: Client,
    pin: Pin,
    told: watch::Receiver<Told>,
    filter: InstanceFilter,
    min_interval: Duration,
    /// Until when nothing is told.
    pause: Option<Pinned<Box<Sleep>>>,
    last: Option<Arc<ServiceView>>,
    ended: bool,
}

impl ServiceWatch {
    /// Waits for the next update. Cancelling the wait loses nothing.
    ///
    /// None once the watch has ended; an error is told once before that.
    pub async fn next(&mut self) -> Option<Result<ServiceUpdate, Error>> {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.as_mut().await;
                self.pause = None;
            }
            if let Some(next) = self.take() {
                return next;
            }
            // The sender is in the slot, which is held here.
            let _ = self.told.changed().await;
        }
    }

    /// The next update if there is one now: for those who cannot wait.
    ///
    /// None if there is none now, `Some(None)` once the watch has ended.
    pub fn try_next(&mut self) -> Option<Option<Result<ServiceUpdate, Error>>> {
        if self.pause.as_ref().is_some_and(|pause| !pause.is_elapsed()) {
            return None;
        }
        self.take()
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.pin.slot().service
    }

    fn take(&mut self) -> Option<Option<Result<ServiceUpdate, Error>>> {
        if self.ended {
            return Some(None);
        }
        let (view, end) = {
            let told = self.told.borrow_and_update();
            (told.view.clone(), told.end.clone())
        };
        let end = end.map(|end| super::discover::ended(&end));
        // A client that was closed is no error, and tells nothing more.
        if end.iter().flatten().any(|error| error.code() == ErrorCode::Closed) {
            self.ended = true;
            return Some(None);
        }
        if let Some(update) = view.and_then(|view| self.update(view)) {
            if !self.min_interval.is_zero() {
                self.pause = Some(Box::pin(self.client.sleep(self.min_interval)));
            }
            return Some(Some(Ok(update)));
        }
        let end = end?;
        self.ended = true;
        Some(end.map(Err))
    }

    /// What a view changes for whoever was told the last one.
    fn update(&mut self, view: Arc<ServiceView>) -> Option<ServiceUpdate> {
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &view)) {
            return None;
        }
        let view = if self.filter.is_all() { view } else { Arc::new(view.filtered(&self.filter)) };
        let delta = match &self.last {
            Some(last) => {
                let delta = Delta::between(&last.instances, &view.instances);
                if delta.is_empty() && last.state == view.state && last.invalid == view.invalid {
                    return None;
                }
                delta
            }
            None => Delta { added: view.instances.to_vec(), ..Delta::default() },
        };
        self.last = Some(Arc::clone(&view));
        let Delta { added, changed, removed } = delta;
        Some(ServiceUpdate { view, added, changed, removed })
    }
}
