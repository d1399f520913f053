//! The queue between the driver and one watch of the application.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hither_client_core::{Error, Update};
use hither_protocol::{Event, Previous, Revision};

/// Updates that wait for the application. It is bounded by what the core allows: when it is full the driver is told
/// so, and when it is half empty again the watch tells the driver.
#[derive(Debug)]
pub(crate) struct Mailbox {
    events_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    updates: VecDeque<(Update, usize)>,
    end: Option<Result<(), Error>>,
    events: usize,
    bytes: usize,
    full: bool,
    standing: Option<bool>,
    revision: Revision,
    waker: Option<Waker>,
}

/// What taking an update left behind.
pub(crate) struct Taken {
    pub(crate) update: Result<Update, Error>,
    /// It was full and no longer is.
    pub(crate) drained: bool,
}

impl Mailbox {
    pub(crate) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { events_max, bytes_max, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an update at the end. Returns whether it is full now and was not before.
    pub(crate) fn push(&self, update: Update) -> bool {
        let mut inner = self.lock();
        let bytes = update.events.iter().map(event_bytes).sum::<usize>() + size_of::<Update>();
        inner.events += update.events.len();
        inner.bytes += bytes;
        inner.updates.push_back((update, bytes));
        let filled = !inner.full && (inner.events >= self.events_max || inner.bytes >= self.bytes_max);
        inner.full |= filled;
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        filled
    }

    /// Whether it is to take no more for now: it was full, and is not half empty yet.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().full
    }

    /// Whether the watch is the present; what was told before and not taken is no news any more.
    pub(crate) fn stand(&self, live: bool) {
        let mut inner = self.lock();
        inner.standing = Some(live);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the watch is the present, if that was told since it was last taken.
    pub(crate) fn take_standing(&self) -> Option<bool> {
        self.lock().standing.take()
    }

    /// The watch ends after what waits: with an error, or because it was closed.
    pub(crate) fn end(&self, end: Result<(), Error>) {
        let mut inner = self.lock();
        inner.end.get_or_insert(end);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next update; none once the watch has ended and its error was told.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        let mut inner = self.lock();
        if let Some((update, bytes)) = inner.updates.pop_front() {
            inner.events -= update.events.len();
            inner.bytes -= bytes;
            inner.revision = update.revision;
            let drained = inner.full && inner.events <= self.events_max / 2 && inner.bytes <= self.bytes_max / 2;
            if drained {
                inner.full = false;
            }
            return Poll::Ready(Some(Taken { update: Ok(update), drained }));
        }
        match &inner.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => {
                let error = error.clone();
                inner.end = Some(Ok(()));
                Poll::Ready(Some(Taken { update: Err(error), drained: false }))
            }
            None => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The revision of the last update that the application took.
    pub(crate) fn revision(&self) -> Revision {
        self.lock().revision
    }

    /// Where the watch starts, before any update.
    pub(crate) fn start_at(&self, revision: Revision) {
        let mut inner = self.lock();
        inner.revision = inner.revision.max(revision);
    }
}

fn event_bytes(event: &Event) -> usize {
    let entry = |entry: &hither_protocol::Entry| entry.key.0.len() + entry.value.len();
    let previous = |previous: &Previous| match previous {
        Previous::Entry(before) => entry(before),
        _ => 0,
    };
    size_of::<Event>()
        + match event {
            Event::Put { entry: now, previous: before } => entry(now) + previous(before),
            Event::Delete { key, previous: before, .. } => key.0.len() + previous(before),
            Event::Liveness { .. } => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hither_client_core::UpdateKind;
    use hither_protocol::LeaseId;

    fn update(revision: u64) -> Update {
        let event = Event::Liveness {
            lease: LeaseId(1),
            state: hither_protocol::LeaseState::Alive,
            revision: Revision(revision),
        };
        Update { revision: Revision(revision), kind: UpdateKind::Changes, events: vec![event], folded: false }
    }

    fn take(mailbox: &Mailbox) -> Option<Taken> {
        match mailbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => taken,
            Poll::Pending => panic!("nothing to take"),
        }
    }

    #[test]
    fn it_says_once_that_it_is_full_and_once_that_it_no_longer_is() {
        let mailbox = Mailbox::new(4, usize::MAX);
        let filled: Vec<bool> = (1..=5).map(|revision| mailbox.push(update(revision))).collect();
        assert_eq!(filled, [false, false, false, true, false]);
        let drained: Vec<bool> = (1..=5).map(|_| take(&mailbox).expect("an update").drained).collect();
        assert_eq!(drained, [false, false, true, false, false]);
        assert_eq!(mailbox.revision(), Revision(5));
    }

    #[test]
    fn the_end_comes_after_what_waits_and_its_error_once() {
        let mailbox = Mailbox::new(4, usize::MAX);
        mailbox.push(update(1));
        mailbox.end(Err(Error::new(hither_protocol::ErrorCode::PermissionDenied, "no")));
        assert!(take(&mailbox).expect("the update").update.is_ok());
        assert!(take(&mailbox).expect("the error").update.is_err());
        assert!(take(&mailbox).is_none());
        assert!(take(&mailbox).is_none());
    }
}
