//! What servers say about watches.

use std::collections::BTreeSet;
use std::time::Duration;

use hither_protocol::message::{Batch, Beat, Created, EndReason, ResetPage, SnapshotPage, SubscribeRefused};
use hither_protocol::{ErrorCode, Moment, Retry, WatchId};

use super::{Core, Note, Signal};
use crate::error::Error;
use crate::link::{Link, LinkId};
use crate::stream::Step;
use crate::update::UpdateKind;

impl Core {
    /// Opens every watch on a new connection. Returns how many of them go on where they were.
    pub(super) fn resume_watches(&mut self) -> u64 {
        self.lose_streams();
        let keys: Vec<usize> = self.watches.carriers.iter().map(|(key, _)| key).collect();
        let mut resumed = 0;
        for key in keys {
            self.subscribe(key);
            resumed += u64::from(self.watches.carriers.get(key).is_some_and(|carrier| carrier.begun));
        }
        self.metrics.watch_resumes += resumed;
        resumed
    }

    /// The connection that carried the streams is no more, or no longer the one.
    pub(super) fn lose_streams(&mut self) {
        let keys: Vec<usize> = self.watches.carriers.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.watches.detach(key);
        }
    }

    pub(super) fn handle_created(&mut self, link: LinkId, wire: u64, created: &Created) {
        let Some((_, carrier)) = self.watches.of_wire(link, wire) else { return };
        let revision = carrier.stream.handle_created(created);
        carrier.begun = true;
        let subscribers = carrier.subscribers.clone();
        for id in subscribers {
            self.opened(id, revision);
        }
    }

    pub(super) fn handle_subscribe_refused(&mut self, now: Moment, id: LinkId, refused: SubscribeRefused) {
        if let Some(link) = self.links.get_mut(&id) {
            link.streams = link.streams.saturating_sub(1);
        }
        let wire = refused.watch.0;
        let Some((key, _)) = self.watches.of_wire(id, wire) else { return };
        self.watches.detach(key);
        let error = Error::from(refused.refusal);
        if error.retry() == Retry::Never {
            self.end_carrier(key, &error);
        } else {
            self.retry(now, key, Some(error));
        }
    }

    pub(super) fn handle_snapshot(&mut self, now: Moment, link: LinkId, wire: u64, page: SnapshotPage, more: bool) {
        if let Some((key, carrier)) = self.watches.of_wire(link, wire) {
            let step = carrier.stream.handle_snapshot(page, more);
            carrier.count_frame();
            self.take_step(now, key, step);
        }
    }

    pub(super) fn handle_batch(&mut self, now: Moment, link: LinkId, wire: u64, batch: Batch, more: bool) {
        if let Some((key, carrier)) = self.watches.of_wire(link, wire) {
            let (step, duplicates) = carrier.stream.handle_batch(batch, more);
            carrier.count_frame();
            self.metrics.watch_duplicates += duplicates;
            self.take_step(now, key, step);
        }
    }

    pub(super) fn handle_reset(&mut self, now: Moment, link: LinkId, wire: u64, page: ResetPage, more: bool) {
        if let Some((key, carrier)) = self.watches.of_wire(link, wire) {
            let step = carrier.stream.handle_reset(page, more);
            carrier.count_frame();
            self.take_step(now, key, step);
        }
    }

    pub(super) fn handle_end(&mut self, now: Moment, link: LinkId, wire: u64, reason: EndReason) {
        let Some((key, _)) = self.watches.of_wire(link, wire) else { return };
        self.watches.detach(key);
        match reason {
            EndReason::Forbidden => {
                let detail = "the identity may no longer see these keys";
                self.end_carrier(key, &Error::new(ErrorCode::PermissionDenied, detail));
            }
            EndReason::ShuttingDown => {
                self.handle_go_away(now, link);
                self.retry(now, key, None);
            }
            EndReason::Cancelled => self.retry(now, key, None),
        }
    }

    pub(super) fn handle_beat(&mut self, now: Moment, id: LinkId, beat: &Beat) {
        let Some(acknowledged) = self.links.get(&id).map(Link::acknowledged) else { return };
        if self.active == Some(id) {
            let age = u64::try_from(Duration::from_millis(beat.age_ms).as_nanos()).unwrap_or(u64::MAX);
            self.beat_at = self.beat_at.max(Moment(now.0.saturating_sub(age)));
        }
        self.watches.moved = true;
        for (watch, sent) in &beat.sent {
            if let Some((_, carrier)) = self.watches.of_wire(id, watch.0)
                && let Some(wire) = &mut carrier.wire
            {
                wire.sent = *sent;
            }
        }
        let behind: BTreeSet<WatchId> = beat.behind.iter().copied().collect();
        for (_, carrier) in &mut self.watches.carriers {
            if let Some(wire) = &mut carrier.wire
                && wire.link == id
                && wire.since <= acknowledged
                && !behind.contains(&WatchId(wire.id))
            {
                wire.beat = Some((beat.revision, wire.sent));
                carrier.take_beat();
            }
        }
    }

    fn take_step(&mut self, now: Moment, key: usize, step: Step) {
        match step {
            Step::Wait => {}
            Step::Tell(update) => {
                let Self { watches, signals, metrics, .. } = self;
                watches.moved = true;
                self.seen = self.seen.max(update.revision);
                metrics.watch_resets += u64::from(update.kind == UpdateKind::Reset);
                let Some(carrier) = watches.carriers.get_mut(key) else { return };
                carrier.attempts = 0;
                metrics.events += (update.events.len() * carrier.subscribers.len()) as u64;
                if let Some((last, others)) = carrier.subscribers.split_last() {
                    signals.extend(others.iter().map(|&id| Signal::Update { id, update: update.clone() }));
                    signals.push_back(Signal::Update { id: *last, update });
                }
            }
            Step::Gap(reason) => {
                self.metrics.watch_gaps += 1;
                self.note(Note::Gap { reason });
                self.reopen(now, key);
            }
            Step::Restart => {
                self.metrics.watch_resets += 1;
                self.reopen(now, key);
            }
        }
    }
}
