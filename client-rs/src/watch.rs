//! Watching keys.

use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hither_client_core::{Error, Update, WatchSpec};
use hither_protocol::message::{Filter, Mode, Start};
use hither_protocol::{KeyRange, Revision};
use tokio::sync::oneshot;

use crate::client::{Client, closed};
use crate::driver::Command;
use crate::kv::Calling;
use crate::mailbox::Mailbox;

impl Client {
    /// Watches a key or a range of keys. Unless told otherwise it begins with the state as it is, and tells every
    /// change after it: reading and then watching, without a gap between the two.
    ///
    /// Awaiting it waits, at most for the request timeout, until a server has opened the watch.
    pub fn watch(&self, range: impl Into<KeyRange>) -> Watches {
        let spec = WatchSpec {
            range: range.into(),
            start: Start::Snapshot,
            mode: Mode::default(),
            filter: Filter::default(),
            previous: false,
            min_interval_ms: 0,
        };
        Watches { client: self.clone(), spec, timeout: None }
    }
}

/// A watch to be opened by awaiting it. Made by [`Client::watch`].
#[must_use = "nothing is watched until it is awaited"]
#[derive(Clone, Debug)]
pub struct Watches {
    client: Client,
    spec: WatchSpec,
    timeout: Option<Duration>,
}

impl Watches {
    /// From where: the state first (the default), only what is new, or after a revision that was seen already.
    pub const fn start(mut self, start: Start) -> Self {
        self.spec.start = start;
        self
    }

    /// Every change (the default), or only the newest state of each key if there are more than can be taken.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.spec.mode = mode;
        self
    }

    /// Which kinds of events. Default: writes and deletions.
    pub const fn filter(mut self, filter: Filter) -> Self {
        self.spec.filter = filter;
        self
    }

    /// With the entry before each event, as far as history has it.
    pub const fn previous(mut self) -> Self {
        self.spec.previous = true;
        self
    }

    /// Least time between two updates, to the millisecond. Default: none.
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.spec.min_interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// How long opening may take. Default: the client's request timeout. An open watch has no deadline.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn open(self) -> Result<Watch, Error> {
        self.spec.range.check()?;
        self.client.open_watch(self.spec, self.timeout, false).await
    }
}

impl Client {
    /// Opens a watch. `standing`: whether [`Watch::step`] is to tell if it is the present.
    pub(crate) async fn open_watch(
        &self,
        spec: WatchSpec,
        timeout: Option<Duration>,
        standing: bool,
    ) -> Result<Watch, Error> {
        let options = self.options();
        let mailbox = Arc::new(Mailbox::new(options.watch_events_max, options.watch_bytes_max));
        let (opened, answer) = oneshot::channel();
        let id = self.number();
        // Made before the command: if this future is dropped while it waits, the watch is closed by its own drop.
        let watch = Watch { client: self.clone(), id, mailbox: Arc::clone(&mailbox) };
        self.send(Command::Watch { id, spec, timeout, standing, opened, mailbox })?;
        let revision = answer.await.unwrap_or_else(|_| Err(closed()))?;
        watch.mailbox.start_at(revision);
        Ok(watch)
    }
}

impl IntoFuture for Watches {
    type Output = Result<Watch, Error>;
    type IntoFuture = Calling<Watch>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// An open watch: a stream of [`Update`]s, each of whole revisions, in order, none twice and none left out, whatever
/// happens to connections and servers. It ends only if it is closed, if the client is, or with an error that says why
/// the server will not go on (such as `PermissionDenied`).
///
/// An application that is slower than the changes costs a bounded buffer here and nothing to others: the server keeps
/// its place. If it falls behind what the server remembers, an update of kind [`Reset`](crate::UpdateKind::Reset)
/// brings the exact difference.
///
/// Dropping it closes it, at the server too.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    id: u64,
    mailbox: Arc<Mailbox>,
}

/// The next step of a watch that also tells whether it is the present.
#[derive(Debug)]
pub(crate) enum Step {
    Update(Update),
    /// A server confirms it with every beat, or no longer does.
    Standing(bool),
    Ended(Option<Error>),
}

impl Watch {
    /// Waits for the next step.
    pub(crate) async fn step(&mut self) -> Step {
        poll_fn(|context| self.poll_step(context)).await
    }

    /// The next step if there is one now.
    pub(crate) fn try_step(&mut self) -> Option<Step> {
        match self.poll_step(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(step) => Some(step),
            Poll::Pending => None,
        }
    }

    fn poll_step(&self, context: &mut Context<'_>) -> Poll<Step> {
        match self.poll_update(context) {
            Poll::Ready(Some(Ok(update))) => Poll::Ready(Step::Update(update)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Step::Ended(Some(error))),
            Poll::Ready(None) => Poll::Ready(Step::Ended(None)),
            // What was told is known before it is known to be all.
            Poll::Pending => {
                self.mailbox.take_standing().map_or(Poll::Pending, |live| Poll::Ready(Step::Standing(live)))
            }
        }
    }

    /// Waits for the next update. Cancelling the wait loses nothing.
    ///
    /// None once the watch has ended; an error is told once before that.
    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        poll_fn(|context| self.poll_update(context)).await
    }

    /// The revision up to which the application knows everything: that of the last update it took, or where the
    /// watch began. With it, [`Start::After`] goes on in another process.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.mailbox.revision()
    }

    fn poll_update(&self, context: &mut Context<'_>) -> Poll<Option<Result<Update, Error>>> {
        self.mailbox.poll(context).map(|taken| {
            let taken = taken?;
            if taken.drained {
                // A driver that is gone has nothing more to send.
                let _ = self.client.send(Command::Drained { id: self.id });
            }
            Some(taken.update)
        })
    }
}

impl futures_core::Stream for Watch {
    type Item = Result<Update, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_update(context)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A driver that is gone has closed it already.
        let _ = self.client.send(Command::Unwatch { id: self.id });
    }
}
