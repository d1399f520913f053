//! A client of a simulation: the real core, the application behind it, and the connection between it and the server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hither::{Filter, KeyRange, LeaseId, Mode, Revision, Start};
use hither_client_core::{Action, Core, Endpoint, Error, LinkId, Options, Signal, WatchSpec};
use hither_protocol::codec::{Decoder, Frame};
use hither_protocol::message::Request;
use hither_protocol::{ErrorCode, Moment};
use hither_state::watch::ConnectionId;
use rand::Rng;
use rand::rngs::SmallRng;

use super::server::Server;
use crate::judge::{Judge, Spec, show};

const RECENT: usize = 6;

/// A watch of the application.
pub(super) struct Watched {
    spec: Spec,
    /// The last that was committed when it was asked for.
    asked: Revision,
    /// Once it is open.
    pub(super) judge: Option<Judge>,
    full: bool,
    pub(super) recent: VecDeque<String>,
}

/// A client and what it has on the way.
pub(super) struct Client {
    pub(super) core: Core,
    /// The attempt, or the connection as the client has it, and its end at the server.
    link: Option<LinkId>,
    end: Option<ConnectionId>,
    control: Decoder,
    lane: Decoder,
    up_control: VecDeque<Frame>,
    up_lane: VecDeque<Frame>,
    paused: BTreeSet<u64>,
    pub(super) watches: BTreeMap<u64, Watched>,
    next: u64,
}

/// What the application is told that the simulation has to look at.
pub(super) enum Told {
    Answered(u64, Box<Result<hither_protocol::message::Reply, Error>>),
    Opened(u64, Revision),
    Update(u64, hither::Update),
    Ended(u64, String),
}

impl Client {
    pub(super) fn new(seed: u64, now: Moment) -> Self {
        let options = Options {
            endpoints: vec![Endpoint { host: "server".to_owned(), port: 1 }],
            backoff_max: Duration::from_millis(200),
            in_flight_max: 8,
            learn_servers: false,
            ..Options::default()
        };
        Self {
            core: Core::new(options, seed, now),
            link: None,
            end: None,
            control: Decoder::default(),
            lane: Decoder::default(),
            up_control: VecDeque::new(),
            up_lane: VecDeque::new(),
            paused: BTreeSet::new(),
            watches: BTreeMap::new(),
            next: 1,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn call(&mut self, request: Request, now: Moment) -> u64 {
        let id = self.number();
        self.core.handle_call(now, id, request, None);
        id
    }

    pub(super) fn open(&mut self, spec: Spec, min_interval_ms: u64, head: Revision, now: Moment) {
        let id = self.number();
        let Spec { range, start, mode, filter, previous } = spec.clone();
        let asked = WatchSpec { range, start, mode, filter, previous, min_interval_ms };
        self.watches.insert(id, Watched { spec, asked: head, judge: None, full: false, recent: VecDeque::new() });
        self.core.handle_watch(now, id, asked, None);
    }

    /// Closes a watch; returns where it was.
    pub(super) fn close(&mut self, id: u64, now: Moment) -> Option<(Judge, Revision)> {
        self.core.handle_unwatch(now, id);
        let judge = self.watches.remove(&id)?.judge?;
        let position = judge.position();
        Some((judge, position))
    }

    /// The application stops reading one of its watches, or goes on.
    pub(super) fn doze(&mut self, rng: &mut SmallRng, now: Moment) {
        let ids: Vec<u64> = self.watches.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[rng.random_range(0..ids.len())];
        let Some(watched) = self.watches.get_mut(&id).filter(|watched| watched.judge.is_some()) else { return };
        watched.full = !watched.full;
        match watched.full {
            true => self.core.handle_full(now, id),
            false => self.core.handle_drained(now, id),
        }
    }

    /// The application reads all its watches.
    pub(super) fn wake(&mut self, now: Moment) {
        for (id, watched) in &mut self.watches {
            if std::mem::take(&mut watched.full) {
                self.core.handle_drained(now, *id);
            }
        }
    }

    /// Takes what the core says and wants; returns what the application is told.
    pub(super) fn pump(&mut self, server: &mut Server) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(signal) = self.core.poll_signal() {
            match signal {
                Signal::Answered { id, outcome } => {
                    told.push(Told::Answered(id, Box::new(outcome.map(|(_, reply)| reply))));
                }
                Signal::Opened { id, outcome: Ok(revision) } => told.push(Told::Opened(id, revision)),
                // It was not opened in time.
                Signal::Opened { id, .. } => drop(self.watches.remove(&id)),
                Signal::Update { id, update } => told.push(Told::Update(id, update)),
                Signal::Ended { id, error } => told.push(Told::Ended(id, format!("{error:?}"))),
                _ => {}
            }
        }
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Dial { link, .. } => {
                    self.forget(server);
                    self.link = Some(link);
                }
                Action::Hangup { link, .. } if self.link == Some(link) => {
                    self.forget(server);
                    self.link = None;
                }
                Action::Pause { watch, .. } => drop(self.paused.insert(watch)),
                Action::Resume { watch, .. } => drop(self.paused.remove(&watch)),
                _ => {}
            }
        }
        if let Some(link) = self.link {
            while let Some(bytes) = self.core.poll_control(link) {
                self.control.push(&bytes);
            }
            while let Some(bytes) = self.core.poll_lane(link) {
                self.lane.push(&bytes);
            }
            let whole = "what a core says decodes";
            self.up_control.extend(std::iter::from_fn(|| self.control.next_frame().expect(whole)));
            self.up_lane.extend(std::iter::from_fn(|| self.lane.next_frame().expect(whole)));
        }
        told
    }

    /// The attempt to connect succeeds, as far as QUIC is concerned.
    pub(super) fn dialed(&mut self, server: &mut Server, now: Moment) {
        if let (Some(link), None) = (self.link, self.end) {
            self.end = Some(server.connect());
            self.core.handle_dialed(now, link);
        }
    }

    /// The connection breaks; what is on the way is lost.
    pub(super) fn cut(&mut self, server: &mut Server, now: Moment) -> bool {
        let (Some(link), true) = (self.link, self.end.is_some()) else { return false };
        self.forget(server);
        self.link = None;
        self.core.handle_lost(now, link, Error::new(ErrorCode::Unavailable, "cut"));
        true
    }

    fn forget(&mut self, server: &mut Server) {
        if let Some(end) = self.end.take() {
            server.disconnect(end);
        }
        self.control = Decoder::default();
        self.lane = Decoder::default();
        self.up_control.clear();
        self.up_lane.clear();
        self.paused.clear();
    }

    /// Some of what is on the way up arrives.
    pub(super) fn deliver_up(&mut self, server: &mut Server, share: f64, rng: &mut SmallRng, now: Moment) {
        let Some(end) = self.end else { return };
        while rng.random_bool(share)
            && let Some(frame) = self.up_control.pop_front()
        {
            server.control(end, &frame, now);
        }
        while rng.random_bool(share)
            && let Some(frame) = self.up_lane.pop_front()
        {
            server.request(end, &frame, now);
        }
    }

    /// Some of what is on the way down arrives: each stream in its order, streams in any.
    pub(super) fn deliver_down(&mut self, server: &mut Server, share: f64, rng: &mut SmallRng, now: Moment) {
        let (Some(link), Some(end)) = (self.link, self.end) else { return };
        let mut arrived = Vec::new();
        if let Some(down) = server.down(end) {
            if rng.random_bool(share) {
                arrived.extend(down.control.pop_front());
            }
            if rng.random_bool(share) {
                arrived.extend(down.lane.pop_front());
            }
            for (watch, stream) in &mut down.streams {
                if !self.paused.contains(watch) && rng.random_bool(share) {
                    arrived.extend(stream.pop_front());
                }
            }
        }
        for frame in arrived {
            self.core.handle_frame(now, link, &frame);
        }
    }

    pub(super) fn serve(&mut self, server: &mut Server, bytes_max: usize, now: Moment) {
        if let Some(end) = self.end {
            server.serve(end, bytes_max, now);
        }
    }
}

impl Watched {
    pub(super) fn opened(
        &mut self,
        history: &crate::history::History,
        revision: Revision,
    ) -> Result<(), crate::judge::Flaw> {
        self.remember(format!("opened from {:?}, at {revision}", self.spec.start));
        // Now is when it was asked for or later, and no later than this.
        let (first, last) = (self.asked, history.head());
        if self.spec.start == Start::Now && !(first..=last).contains(&revision) {
            let what = format!("from now on is from {revision} on: it was between {first} and {last}");
            return Err((crate::finding::Kind::Phantom, what));
        }
        self.judge = Some(Judge::opened(self.spec.clone(), revision)?);
        Ok(())
    }

    pub(super) fn told(
        &mut self,
        history: &crate::history::History,
        update: &hither::Update,
    ) -> Result<(), crate::judge::Flaw> {
        let hither::Update { kind, revision, events, .. } = update;
        self.remember(format!("{} to {revision}: {}", kind.as_str(), show(events)));
        if *revision > history.head() {
            let what = format!("was told of {revision}: {} is the last that is committed", history.head());
            return Err((crate::finding::Kind::Phantom, what));
        }
        let Some(judge) = &mut self.judge else { return Ok(()) };
        judge.judge(history, update)
    }

    pub(super) fn name(&self) -> String {
        format!("a watch of {:?}", self.spec)
    }

    fn remember(&mut self, line: String) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }
}

/// A watch to be opened: anything goes.
pub(super) fn draw(rng: &mut SmallRng, last: Option<Revision>, head: Revision) -> (Spec, u64) {
    let range = match rng.random_range(0..5) {
        0 => KeyRange::One(super::key(rng)),
        1 => KeyRange::prefix(["a/", "b/", "b"][rng.random_range(0..3)]),
        2 => KeyRange::Span("a/1".into(), "b/3".into()),
        3 => KeyRange::prefix("l/"),
        _ => KeyRange::All,
    };
    let start = match (rng.random_range(0..10), last) {
        (0..4, _) => Start::Snapshot,
        (4, _) => Start::Now,
        (5..7, Some(last)) => Start::After(last),
        (5..8, _) => Start::After(Revision(head.0.saturating_sub(rng.random_range(0..20)))),
        (8, _) => Start::After(Revision(rng.random_range(0..=head.0))),
        _ => Start::After(Revision(head.0 + rng.random_range(1..10))),
    };
    let filter = match rng.random_range(0..6) {
        _ if start == Start::Snapshot => Filter { liveness: rng.random_bool(0.3), ..Filter::default() },
        0 => Filter { deletes: false, ..Filter::default() },
        1 => Filter { puts: false, ..Filter::default() },
        2 => Filter { liveness: true, ..Filter::default() },
        _ => Filter::default(),
    };
    let mode = if rng.random_bool(0.3) { Mode::Latest } else { Mode::Every };
    let min_interval_ms = if rng.random_bool(0.1) { 500 } else { 0 };
    (Spec { range, start, mode, filter, previous: rng.random_bool(0.3) }, min_interval_ms)
}

/// A lease that was granted, and how long it lives from a sign of life on.
#[derive(Clone, Copy)]
pub(super) struct Granted {
    pub(super) lease: LeaseId,
    pub(super) ttl: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{history, put};

    #[test]
    fn a_watch_from_now_on_begins_neither_before_it_was_asked_for_nor_later_than_history() {
        let opened = |start, revision| {
            let spec =
                Spec { range: KeyRange::All, start, mode: Mode::Every, filter: Filter::default(), previous: false };
            let mut watched = Watched { spec, asked: Revision(2), judge: None, full: false, recent: VecDeque::new() };
            let history = history(vec![put("a", 1, 1, 1), put("a", 2, 1, 2), put("a", 3, 1, 3)]);
            watched.opened(&history, Revision(revision)).is_ok()
        };
        assert_eq!([1, 2, 3, 4].map(|revision| opened(Start::Now, revision)), [false, true, true, false]);
        assert!(opened(Start::After(Revision(9)), 9), "it is yet to come, as was asked");
    }
}
