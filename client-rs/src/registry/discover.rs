//! Finding the instances of a service.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hither_client_core::{Error, InstanceFilter, ServiceView, format_duration};
use hither_protocol::ErrorCode;

use super::slot::{End, Slot, Told};
use crate::client::{Client, closed};
use crate::kv::Calling;

impl Client {
    /// The instances of a service. The first call subscribes to the service and waits for its state; from then on the
    /// answer is local and immediate, and stays so when every server is gone: the view says how old it is.
    ///
    /// ```no_run
    /// # async fn example(client: hither::Client) -> Result<(), hither::Error> {
    /// let view = client.discover("api").await?;
    /// for instance in view.instances.iter() {
    ///     println!("{} listens at {:?}, as of {:?} ago", instance.id, instance.url(), view.age());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What this client has registered or deregistered itself is in the view.
    ///
    /// # Errors
    /// `InvalidName`; `Timeout` or `Unavailable` if nothing is known of the service and nobody tells in time;
    /// `TooStale` if the view cannot be as fresh as asked for; `ViewTooLarge`, `PermissionDenied`, `Closed`.
    pub fn discover(&self, service: impl AsRef<str>) -> Discovers {
        Discovers {
            client: self.clone(),
            service: service.as_ref().into(),
            filter: InstanceFilter::default(),
            max_staleness: None,
            timeout: None,
        }
    }

    /// Waits until a service has at least `count` instances that work.
    ///
    /// # Errors
    /// `Timeout` if it has not in time, and those of [`discover`](Self::discover).
    pub fn wait_for(&self, service: impl AsRef<str>, count: usize) -> Waits {
        Waits { discovers: self.discover(service), count }
    }
}

/// A look at a service, to be awaited. Made by [`Client::discover`].
#[must_use = "nothing is looked for until it is awaited"]
#[derive(Clone, Debug)]
pub struct Discovers {
    client: Client,
    service: Box<str>,
    filter: InstanceFilter,
    max_staleness: Option<Duration>,
    timeout: Option<Duration>,
}

impl Discovers {
    /// Only these instances. Default: all.
    pub fn filter(mut self, filter: InstanceFilter) -> Self {
        self.filter = filter;
        self
    }

    /// How old the view may be: an older one is waited for to be confirmed, and refused with `TooStale` if it is not
    /// in time. Default: any age.
    pub const fn max_staleness(mut self, age: Duration) -> Self {
        self.max_staleness = Some(age);
        self
    }

    /// How long it may take in all. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn look(self) -> Result<Arc<ServiceView>, Error> {
        let max_staleness = self.max_staleness;
        let enough = move |_: &ServiceView| true;
        let view = wait(&self.client, &self.service, self.timeout, max_staleness, enough).await?;
        Ok(if self.filter.is_all() { view } else { Arc::new(view.filtered(&self.filter)) })
    }
}

impl IntoFuture for Discovers {
    type Output = Result<Arc<ServiceView>, Error>;
    type IntoFuture = Calling<Arc<ServiceView>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.look())
    }
}

/// Waiting for instances, to be awaited. Made by [`Client::wait_for`].
#[must_use = "nothing is waited for until it is awaited"]
#[derive(Clone, Debug)]
pub struct Waits {
    discovers: Discovers,
    count: usize,
}

impl Waits {
    /// Only these instances. Default: all.
    pub fn filter(mut self, filter: InstanceFilter) -> Self {
        self.discovers.filter = filter;
        self
    }

    /// How long it may take. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.discovers.timeout = Some(timeout);
        self
    }

    async fn wait(self) -> Result<Arc<ServiceView>, Error> {
        let Self { discovers: Discovers { client, service, filter, max_staleness, timeout }, count } = self;
        let there = |view: &ServiceView| {
            let works = if filter.is_all() { view.working() } else { view.filtered(&filter).working() };
            works >= count
        };
        let view = wait(&client, &service, timeout, max_staleness, &there).await?;
        let view = if filter.is_all() { view } else { Arc::new(view.filtered(&filter)) };
        if view.working() < count {
            let detail = format!("{service} has {} of {count} instances that work", view.working());
            return Err(Error::new(ErrorCode::Timeout, detail));
        }
        Ok(view)
    }
}

impl IntoFuture for Waits {
    type Output = Result<Arc<ServiceView>, Error>;
    type IntoFuture = Calling<Arc<ServiceView>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

/// Waits for a view that is fresh, and as wanted. At the deadline a fresh one will do that is not.
pub(super) async fn wait(
    client: &Client,
    service: &str,
    timeout: Option<Duration>,
    max_staleness: Option<Duration>,
    wanted: impl Fn(&ServiceView) -> bool,
) -> Result<Arc<ServiceView>, Error> {
    let mut deadline = None;
    loop {
        let slot = client.slot(service)?;
        slot.touch();
        let fresh = |view: &ServiceView| max_staleness.is_none_or(|age| view.age() <= age);
        if let Some(view) = slot.view.load_full().filter(|view| fresh(view) && wanted(view)) {
            // Nearly always: nothing to wait for.
            if slot.floor.load(Ordering::Acquire) <= view.revision.0 {
                return Ok(view);
            }
        }
        let timeout = timeout.unwrap_or(client.options().request_timeout);
        let sleep = deadline.get_or_insert_with(|| Box::pin(client.sleep(timeout)));
        let mut told = slot.listen();
        let found = async {
            loop {
                let now = told.borrow_and_update().clone();
                if let Some(found) = outcome(&slot, now, &fresh, &wanted) {
                    return found;
                }
                // The sender is in the slot, which is held here. An age that must sink does so with a beat, unseen.
                tokio::select! {
                    _ = told.changed() => {}
                    () = client.sleep(LOOK), if max_staleness.is_some() => {}
                }
            }
        };
        let found = tokio::select! {
            found = found => found,
            () = sleep.as_mut() => return late(&slot, timeout, max_staleness),
        };
        // Otherwise the subscription ended since nobody used it: another begins.
        if let Some(found) = found {
            return found;
        }
    }
}

/// Between two looks at an age.
const LOOK: Duration = Duration::from_millis(20);

type Found = Option<Result<Arc<ServiceView>, Error>>;

fn outcome(
    slot: &Slot,
    told: Told,
    fresh: &impl Fn(&ServiceView) -> bool,
    wanted: &impl Fn(&ServiceView) -> bool,
) -> Option<Found> {
    match told.end {
        Some(End::Failed(error)) => return Some(Some(Err(error))),
        Some(End::Idle) => return Some(None),
        None => {}
    }
    let reached = told.revision.0 >= slot.floor.load(Ordering::Acquire);
    told.view.filter(|view| reached && fresh(view) && wanted(view)).map(|view| Some(Ok(view)))
}

/// What there is at the deadline.
fn late(slot: &Slot, timeout: Duration, max_staleness: Option<Duration>) -> Result<Arc<ServiceView>, Error> {
    let waited = format_duration(timeout);
    let Some(view) = slot.view.load_full() else {
        return Err(slot.failure().unwrap_or_else(|| {
            let detail = format!("nobody told within {waited} which instances {} has", slot.service);
            Error::new(ErrorCode::Timeout, detail)
        }));
    };
    match max_staleness.filter(|bound| view.age() > *bound) {
        Some(bound) => {
            let (age, bound) = (view.age().as_millis(), format_duration(bound));
            let detail =
                format!("the view of {} is {age} ms old, {bound} were asked for; waited {waited}", slot.service);
            Err(Error::new(ErrorCode::TooStale, detail))
        }
        None => Ok(view),
    }
}

/// The subscription that `slot` stood for is over: why, unless another may begin.
pub(super) fn ended(end: &End) -> Option<Error> {
    match end {
        End::Failed(error) if error.code() == ErrorCode::Closed => Some(closed()),
        End::Failed(error) => Some(error.clone()),
        End::Idle => None,
    }
}
