//! The watches of the application: opened, shared, held up, closed.

use std::time::Duration;

use hither_protocol::message::{CancelWatch, Subscribe};
use hither_protocol::{ErrorCode, Moment, Revision, WatchId};

use super::carriers::{Carrier, Subscriber, Watches, Wire, is_shareable, share_key};
use super::{Action, Core, Signal};
use crate::backoff::{ceiling, jitter};
use crate::error::Error;
use crate::link::LinkId;
use crate::spec::WatchSpec;
use crate::stream::Stream;
use crate::update::{Update, UpdateKind};
use crate::view::View;

impl Core {
    /// The application watches. `id`: chosen by the shell, never used before. `timeout`: until it is open; none is the
    /// default. The answer is [`Signal::Opened`]; if it is `Ok`, [`Signal::Update`]s and one [`Signal::Ended`] follow.
    pub fn handle_watch(&mut self, now: Moment, id: u64, spec: WatchSpec, timeout: Option<Duration>) {
        let refused = if self.is_closed() {
            Some(Error::new(ErrorCode::Closed, "the client was closed"))
        } else if self.active.is_none() {
            self.pool.turned_away()
        } else {
            None
        };
        if let Some(error) = refused {
            self.signals.push_back(Signal::Opened { id, outcome: Err(error) });
            return;
        }
        let deadline = now + timeout.unwrap_or(self.options.request_timeout);
        match self.joinable(&spec) {
            Some(key) => self.join(now, id, key, deadline),
            None => self.open(now, id, spec, deadline),
        }
        self.settle(now);
    }

    /// The application wants to know of a watch whether it is the present: [`Signal::Standing`] tells each change, and
    /// that it is not is where it begins.
    pub fn handle_follow_standing(&mut self, now: Moment, id: u64) {
        if self.watches.subscribers.contains_key(&id) {
            self.watches.standings.insert(id, false);
            self.watches.moved = true;
        }
        self.settle(now);
    }

    /// Tells the standings that are others by now.
    pub(super) fn tell_standings(&mut self) {
        if !std::mem::take(&mut self.watches.moved) {
            return;
        }
        let Watches { standings, subscribers, carriers, .. } = &mut self.watches;
        for (id, told) in standings {
            let carrier = subscribers.get(id).and_then(|subscriber| carriers.get(subscriber.carrier));
            let live = carrier.is_some_and(|carrier| carrier.stream.is_live());
            if live != *told {
                *told = live;
                self.signals.push_back(Signal::Standing { id: *id, live });
            }
        }
    }

    /// The application closed a watch. No signal of it follows.
    pub fn handle_unwatch(&mut self, now: Moment, id: u64) {
        self.remove_subscriber(id);
        self.settle(now);
    }

    /// The application does not keep up with a watch: it is to get no more for now. What the core has told already
    /// still counts as told.
    pub fn handle_full(&mut self, now: Moment, id: u64) {
        let Some(key) = self.watches.subscribers.get(&id).map(|subscriber| subscriber.carrier) else { return };
        let Some(carrier) = self.watches.carriers.get_mut(key) else { return };
        if carrier.subscribers.len() > 1 {
            // The others go on; this one gets a stream of its own when it is ready.
            carrier.subscribers.retain(|other| *other != id);
            self.watches.moved = true;
            let mut alone = Carrier::new(carrier.stream.split(), vec![id]);
            alone.paused = true;
            alone.begun = true;
            let new = self.add_carrier(alone);
            if let Some(subscriber) = self.watches.subscribers.get_mut(&id) {
                subscriber.carrier = new;
            }
        } else {
            carrier.paused = true;
            if let Some(wire) = &carrier.wire {
                self.actions.push_back(Action::Pause { link: wire.link, watch: wire.id });
            }
            self.watches.unshare(key);
        }
        self.settle(now);
    }

    /// The application has caught up with a watch.
    pub fn handle_drained(&mut self, now: Moment, id: u64) {
        let Some(key) = self.watches.subscribers.get(&id).map(|subscriber| subscriber.carrier) else { return };
        let Some(carrier) = self.watches.carriers.get_mut(key) else { return };
        if std::mem::take(&mut carrier.paused) {
            match &carrier.wire {
                Some(wire) => self.actions.push_back(Action::Resume { link: wire.link, watch: wire.id }),
                None => self.subscribe(key),
            }
        }
        self.settle(now);
    }

    /// The stream of a watch has ended, however: once for each that began with `Created`.
    pub fn handle_stream_end(&mut self, now: Moment, id: LinkId, wire: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.streams = link.streams.saturating_sub(1);
        }
        if let Some((key, _)) = self.watches.of_wire(id, wire) {
            self.watches.detach(key);
            self.retry(now, key, None);
        }
        self.settle(now);
    }

    fn joinable(&self, spec: &WatchSpec) -> Option<usize> {
        if !self.options.share_watches || !is_shareable(spec) {
            return None;
        }
        let key = *self.watches.shared.get(&share_key(spec))?;
        let carrier = self.watches.carriers.get(key)?;
        // What a caller did before it watched is in the snapshot that it gets.
        let fresh = match carrier.stream.position() {
            // Its snapshot may be on its way, and is not yet made if it was not asked for.
            None => carrier.wire.is_none() || carrier.asked_at >= self.answered,
            Some(position) => carrier.stream.is_created() && position >= self.answered,
        };
        (carrier.stream.view().is_complete() && !carrier.paused && fresh).then_some(key)
    }

    fn join(&mut self, now: Moment, id: u64, key: usize, deadline: Moment) {
        let Some(carrier) = self.watches.carriers.get_mut(key) else { return };
        carrier.subscribers.push(id);
        let created = carrier.stream.is_created();
        let position = carrier.stream.position();
        let told = position.filter(|_| created).map(|revision| Update {
            revision,
            kind: UpdateKind::Snapshot,
            events: carrier.stream.view().snapshot(),
            folded: false,
        });
        self.add_subscriber(now, id, key, deadline);
        if created {
            let revision = position.unwrap_or_default();
            self.opened(id, revision);
        }
        if let Some(update) = told {
            self.tell(id, update);
        }
    }

    fn open(&mut self, now: Moment, id: u64, spec: WatchSpec, deadline: Moment) {
        let shared = self.options.share_watches && is_shareable(&spec);
        let view = View::new(self.options.watch_keys_max, self.options.watch_shared_bytes_max, shared);
        let name = share_key(&spec);
        let key = self.add_carrier(Carrier::new(Stream::new(spec, view), vec![id]));
        if shared
            && let Some(before) = self.watches.shared.insert(name, key)
            && let Some(carrier) = self.watches.carriers.get_mut(before)
        {
            carrier.stream.keep_to_itself();
        }
        self.add_subscriber(now, id, key, deadline);
        self.subscribe(key);
    }

    fn add_carrier(&mut self, carrier: Carrier) -> usize {
        self.watches.carriers.insert(carrier)
    }

    fn add_subscriber(&mut self, now: Moment, id: u64, carrier: usize, deadline: Moment) {
        self.watches.subscribers.insert(id, Subscriber { carrier, opening: Some((now, deadline)) });
        self.watches.deadlines.insert((deadline, id));
    }

    /// Asks the server for the stream of a carrier, if there is a server to ask.
    pub(super) fn subscribe(&mut self, key: usize) {
        self.watches.forget_retry(key);
        let Some(link_id) = self.active else { return };
        let id = self.watches.number(key);
        let (Some(link), Some(carrier)) = (self.links.get_mut(&link_id), self.watches.carriers.get_mut(key)) else {
            return;
        };
        if carrier.paused || carrier.wire.is_some() {
            return;
        }
        carrier.asked_at = self.answered;
        if let Some(count) = link.add_stream() {
            self.actions.push_back(Action::AllowStreams { link: link_id, count });
        }
        let (start, lineage) = carrier.stream.start();
        let spec = carrier.stream.spec();
        let subscribe = Subscribe {
            watch: WatchId(id),
            range: spec.range.clone(),
            start,
            lineage,
            mode: spec.mode,
            filter: spec.filter,
            previous: spec.previous,
            min_interval_ms: spec.min_interval_ms,
        };
        link.tell(id, &subscribe);
        let since = link.next_keep_alive();
        self.watches.attach(key, Wire { link: link_id, id, since, received: 0, sent: 0, beat: None });
    }

    pub(super) fn tell(&mut self, id: u64, update: Update) {
        self.metrics.events += u64::try_from(update.events.len()).unwrap_or(u64::MAX);
        self.signals.push_back(Signal::Update { id, update });
    }

    pub(super) fn opened(&mut self, id: u64, revision: Revision) {
        let Some(subscriber) = self.watches.subscribers.get_mut(&id) else { return };
        if let Some((_, deadline)) = subscriber.opening.take() {
            self.watches.deadlines.remove(&(deadline, id));
            self.signals.push_back(Signal::Opened { id, outcome: Ok(revision) });
        }
    }

    /// Opens a watch again where it is.
    pub(super) fn reopen(&mut self, now: Moment, key: usize) {
        self.cancel_wire(key);
        self.retry(now, key, None);
    }

    /// Opens a watch again: at once the first time, later if that does not help.
    pub(super) fn retry(&mut self, now: Moment, key: usize, error: Option<Error>) {
        self.watches.forget_retry(key);
        let Some(carrier) = self.watches.carriers.get_mut(key) else { return };
        let wait = match carrier.attempts {
            0 if error.is_none() => Duration::ZERO,
            attempts => jitter(ceiling(self.options.backoff_min, self.options.backoff_max, attempts), &mut self.random),
        };
        carrier.attempts = carrier.attempts.saturating_add(1);
        carrier.error = error;
        carrier.retry_at = Some(now + wait);
        self.watches.retries.insert((now + wait, key));
    }

    /// Tells the server that nobody wants the stream any more. It is read to its end, which comes soon.
    fn cancel_wire(&mut self, key: usize) {
        let Some(wire) = self.watches.detach(key) else { return };
        if self.watches.carriers.get(key).is_some_and(|carrier| carrier.paused) {
            self.actions.push_back(Action::Resume { link: wire.link, watch: wire.id });
        }
        if let Some(link) = self.links.get_mut(&wire.link) {
            link.tell(wire.id, &CancelWatch { watch: WatchId(wire.id) });
        }
    }

    fn remove_subscriber(&mut self, id: u64) {
        let Some(subscriber) = self.watches.subscribers.remove(&id) else { return };
        self.watches.standings.remove(&id);
        if let Some((_, deadline)) = subscriber.opening {
            self.watches.deadlines.remove(&(deadline, id));
        }
        let key = subscriber.carrier;
        let Some(carrier) = self.watches.carriers.get_mut(key) else { return };
        carrier.subscribers.retain(|other| *other != id);
        if carrier.subscribers.is_empty() {
            self.cancel_wire(key);
            self.remove_carrier(key);
        }
    }

    fn remove_carrier(&mut self, key: usize) {
        self.watches.forget_retry(key);
        self.watches.unshare(key);
        drop(self.watches.carriers.try_remove(key));
    }

    /// Ends a watch for everyone who has it.
    pub(super) fn end_carrier(&mut self, key: usize, error: &Error) {
        let Some(carrier) = self.watches.carriers.get(key) else { return };
        for id in carrier.subscribers.clone() {
            self.end_subscriber(id, Some(error.clone()));
        }
    }

    fn end_subscriber(&mut self, id: u64, error: Option<Error>) {
        let Some(subscriber) = self.watches.subscribers.get(&id) else { return };
        let opening = subscriber.opening.is_some();
        self.remove_subscriber(id);
        self.signals.push_back(if opening {
            let error = error.unwrap_or_else(|| Error::new(ErrorCode::Closed, "the client was closed"));
            Signal::Opened { id, outcome: Err(error) }
        } else {
            Signal::Ended { id, error }
        });
    }

    pub(super) fn end_watches(&mut self, error: &Error) {
        let ids: Vec<u64> = self.watches.subscribers.keys().copied().collect();
        for id in ids {
            self.end_subscriber(id, Some(error.clone()));
        }
    }

    pub(super) fn close_watches(&mut self) {
        let ids: Vec<u64> = self.watches.subscribers.keys().copied().collect();
        for id in ids {
            self.end_subscriber(id, None);
        }
    }

    /// What is to be opened again by now, and what was not opened in time.
    pub(super) fn check_watches(&mut self, now: Moment) {
        let overdue: Vec<u64> =
            self.watches.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect();
        for id in overdue {
            let waited = self
                .watches
                .subscribers
                .get(&id)
                .and_then(|subscriber| subscriber.opening)
                .map_or(Duration::ZERO, |(since, until)| until.since(since));
            let last = self
                .watches
                .subscribers
                .get(&id)
                .and_then(|subscriber| self.watches.carriers.get(subscriber.carrier))
                .and_then(|carrier| carrier.error.clone());
            let error = last.unwrap_or_else(|| {
                if self.active.is_some() && !self.silent {
                    Error::new(ErrorCode::Timeout, "the server did not open the watch before the deadline")
                } else {
                    self.pool.unreachable(waited, self.last_loss.as_ref())
                }
            });
            self.metrics.timeouts += 1;
            self.end_subscriber(id, Some(error));
        }
        if self.active.is_none() {
            return;
        }
        let due: Vec<usize> =
            self.watches.retries.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        for key in due {
            self.subscribe(key);
        }
    }
}
