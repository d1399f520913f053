//! Whatever happens to connections, every write takes effect once and every watch tells the truth: random storms over
//! one clock, each replayed by its seed.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hither_client_core::{LinkId, Options, Signal, Update, UpdateKind};
use hither_protocol::message::{KeepAliveReply, Resumed, SessionReply, Start};
use hither_protocol::{Applied, Event, Key, Revision};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::model::Model;
use support::{Said, World, encoded, options};

/// What a watch of the application has been told.
#[derive(Default)]
struct Told {
    state: BTreeMap<Key, (Revision, Bytes)>,
    revision: Revision,
    events: Vec<Event>,
    resets: usize,
    begun: bool,
}

impl Told {
    fn take(&mut self, update: Update) {
        assert!(update.revision >= self.revision, "told {} after {}", update.revision, self.revision);
        match update.kind {
            UpdateKind::Snapshot => {
                assert!(!self.begun, "a second snapshot, though nothing was forgotten");
                self.state.clear();
            }
            UpdateKind::Changes => {
                assert!(self.begun, "changes before the snapshot");
                let first = update.events.first().expect("changes that change nothing").revision();
                assert!(first > self.revision, "{first} was told before: {} was", self.revision);
                self.events.extend(update.events.iter().cloned());
            }
            UpdateKind::Reset => self.resets += 1,
        }
        self.begun = true;
        for event in update.events {
            assert!(event.revision() <= update.revision);
            match event {
                Event::Put { entry, .. } => {
                    self.state.insert(entry.key, (entry.mod_revision, entry.value));
                }
                Event::Delete { key, .. } => {
                    assert!(self.state.remove(&key).is_some(), "the deletion of a key that was not known");
                }
                Event::Liveness { .. } => {}
            }
        }
        self.revision = update.revision;
    }
}

/// A storm: the client, its server, and what is on the way between them.
struct Storm {
    world: World,
    model: Model,
    random: SmallRng,
    link: Option<LinkId>,
    upward: VecDeque<Said>,
    control: VecDeque<BytesMut>,
    lane: VecDeque<BytesMut>,
    streams: BTreeMap<u64, BytesMut>,
    told: BTreeMap<u64, Told>,
    full: BTreeMap<u64, bool>,
    next: u64,
    puts: BTreeMap<u64, Option<Result<(), Applied>>>,
    log: Vec<Event>,
    trims: bool,
}

impl Storm {
    fn new(seed: u64, trims: bool) -> Self {
        let options = Options { backoff_max: Duration::from_millis(200), in_flight_max: 8, ..options(2) };
        Self {
            world: World::seeded(options, seed),
            model: Model::default(),
            random: SmallRng::seed_from_u64(seed),
            link: None,
            upward: VecDeque::new(),
            control: VecDeque::new(),
            lane: VecDeque::new(),
            streams: BTreeMap::new(),
            told: BTreeMap::new(),
            full: BTreeMap::new(),
            next: 1,
            puts: BTreeMap::new(),
            log: Vec::new(),
            trims,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn turn(&mut self) {
        match self.random.random_range(0..100) {
            0..20 => self.put(),
            20..22 => {
                let key = format!("k{}", self.random.random_range(0..6)).as_str().into();
                self.model.delete(&key);
            }
            22..24 if self.told.len() < 4 => {
                let id = self.number();
                self.told.insert(id, Told::default());
                self.world.watch(id, Start::Snapshot);
            }
            24..26 => self.fill_or_drain(),
            26..29 => self.cut(),
            29..30 if self.trims => self.trim(),
            30..31 => self.cancel_one(),
            31..50 => {
                let nap = Duration::from_millis(self.random.random_range(0..300));
                self.world.sleep(nap);
            }
            50..60 => self.greet(),
            60..75 => self.serve(),
            75..85 => self.advance(),
            _ => self.arrive(),
        }
        self.collect();
    }

    fn put(&mut self) {
        let id = self.number();
        let key = format!("k{}", self.random.random_range(0..6));
        let put = hither_protocol::message::Put {
            key: key.into(),
            value: format!("value {id}").into(),
            lease: None,
            previous: false,
        };
        self.puts.insert(id, None);
        let timeout = Duration::from_millis(self.random.random_range(200..20_000));
        self.world.core.handle_call(self.world.now, id, put.into(), Some(timeout));
    }

    fn cancel_one(&mut self) {
        let open: Vec<u64> = self.puts.iter().filter(|(_, end)| end.is_none()).map(|(id, _)| *id).collect();
        if let Some(id) = open.first() {
            self.world.core.handle_cancel(self.world.now, *id);
            self.puts.insert(*id, Some(Err(Applied::Unknown)));
        }
    }

    fn fill_or_drain(&mut self) {
        let ids: Vec<u64> = self.told.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.random_range(0..ids.len())];
        let full = self.full.entry(id).or_default();
        *full = !*full;
        if *full {
            self.world.core.handle_full(self.world.now, id);
        } else {
            self.world.core.handle_drained(self.world.now, id);
        }
    }

    /// The connection breaks. What was on its way is lost, in both directions.
    fn cut(&mut self) {
        if let Some(link) = self.link.take() {
            self.world.lose(link);
            self.forget_connection();
        }
    }

    fn forget_connection(&mut self) {
        self.upward.clear();
        self.control.clear();
        self.lane.clear();
        self.streams.clear();
        self.model.watches.clear();
    }

    fn trim(&mut self) {
        self.note_log();
        self.model.trim();
    }

    fn note_log(&mut self) {
        let from = self.log.last().map_or(Revision::ZERO, Event::revision);
        self.log.extend(self.model.log.iter().filter(|event| event.revision() > from).cloned());
    }

    /// An attempt to connect reaches the server.
    fn greet(&mut self) {
        if self.world.dialed.is_empty() {
            return;
        }
        let (link, hello) = self.world.accept_again();
        let session = hello.session.map(|session| {
            if self.model.has_session(session) {
                SessionReply::Resumed(Resumed { ttl_ms: 10_000, epoch: 1 })
            } else {
                SessionReply::Expired
            }
        });
        self.link = Some(link);
        self.forget_connection();
        self.world.welcome_at(link, session, self.model.revision);
    }

    /// The server takes some of what the client said.
    fn serve(&mut self) {
        for _ in 0..self.random.random_range(0..4) {
            let Some(said) = self.upward.pop_front() else { return };
            match said {
                Said::Request(number, context, request) => {
                    let answer = self.model.apply(number, &context, &request);
                    self.lane.push_back(answer);
                }
                Said::KeepAlive(number) => {
                    self.control.push_back(encoded(0, &KeepAliveReply { number, session_alive: Some(true) }));
                    let beat = self.model.beat();
                    self.control.push_back(encoded(0, &beat));
                }
                Said::Subscribe(subscribe) => {
                    let stream = self.model.subscribe(&subscribe);
                    self.streams.insert(subscribe.watch.0, stream);
                }
                Said::CancelWatch(watch) => {
                    self.model.watches.remove(&watch);
                }
                Said::CancelRequest(_) | Said::Goodbye | Said::Hello(_) => {}
            }
        }
    }

    /// The server sends some of its watches what they are owed.
    fn advance(&mut self) {
        let ids: Vec<u64> = self.model.watches.keys().copied().collect();
        for id in ids {
            if self.random.random_bool(0.5) {
                let bytes = self.model.advance(id);
                self.streams.entry(id).or_default().extend_from_slice(&bytes);
            }
        }
    }

    /// Some of what the server sent arrives: each stream in its order, streams in any.
    fn arrive(&mut self) {
        let Some(link) = self.link else { return };
        if self.random.random_bool(0.5)
            && let Some(bytes) = self.control.pop_front()
        {
            self.world.deliver(link, &bytes);
        }
        if self.random.random_bool(0.5)
            && let Some(bytes) = self.lane.pop_front()
        {
            self.world.deliver(link, &bytes);
        }
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        for id in ids {
            if self.random.random_bool(0.3)
                && let Some(stream) = self.streams.get_mut(&id)
                && let Some(frame) = support::frames(stream).first()
            {
                let length = hither_protocol::frame::HEADER_BYTES + frame.body.len();
                let bytes = stream.copy_to_bytes(length);
                self.world.deliver(link, &bytes);
            }
        }
    }

    /// What the client has to say, on its way; what the application was told, told.
    fn collect(&mut self) {
        self.world.pump();
        if self.link.is_some_and(|link| self.world.hung_up.iter().any(|(hung_up, _)| *hung_up == link)) {
            self.link = None;
            self.forget_connection();
        }
        if let Some(link) = self.link {
            let said = self.world.said(link);
            self.upward.extend(said);
        }
        while let Some(signal) = self.world.signal() {
            match signal {
                Signal::Answered { id, outcome } => {
                    let end = self.puts.get_mut(&id).expect("a call that was made");
                    assert!(end.is_none(), "{id} was answered twice, or after it was taken back");
                    *end = Some(outcome.map(drop).map_err(|error| error.applied()));
                }
                Signal::Update { id, update } => self.told.get_mut(&id).expect("an open watch").take(update),
                Signal::Opened { id, outcome: Err(_) } => {
                    self.told.remove(&id);
                    self.full.remove(&id);
                }
                Signal::Ended { id, error } => panic!("watch {id} ended: {error:?}"),
                _ => {}
            }
        }
    }

    /// The storm is over: everything that can arrive, does.
    fn calm(&mut self) {
        for id in self.full.iter().filter(|(_, full)| **full).map(|(id, _)| *id).collect::<Vec<_>>() {
            self.world.core.handle_drained(self.world.now, id);
        }
        let mut left = 4_000;
        while left > 0 {
            left -= 1;
            if left > 100 && self.is_settled() {
                left = 100;
            }
            self.collect();
            self.greet();
            self.collect();
            self.serve();
            self.advance();
            self.arrive();
            self.collect();
            let nap = Duration::from_millis(20);
            self.world.sleep(nap);
        }
    }

    fn is_settled(&self) -> bool {
        self.puts.values().all(Option::is_some)
            && self.told.values().all(|told| told.begun && told.revision.0 == self.model.revision)
    }

    fn judge(&mut self) {
        self.note_log();
        for (id, end) in &self.puts {
            let value = format!("value {id}");
            let times = self.model.written.iter().filter(|written| **written == value).count();
            match end.expect("every call ends") {
                Ok(()) => assert_eq!(times, 1, "{value} was acknowledged"),
                Err(Applied::No) => assert_eq!(times, 0, "{value} was said not to have taken effect"),
                Err(Applied::Unknown) => assert!(times <= 1, "{value} took effect {times} times"),
            }
        }
        let state: BTreeMap<Key, (Revision, Bytes)> = self
            .model
            .entries
            .values()
            .map(|entry| (entry.key.clone(), (entry.mod_revision, entry.value.clone())))
            .collect();
        for (id, told) in &self.told {
            assert!(told.begun, "watch {id} never began");
            assert_eq!(told.state, state, "watch {id} tells another state");
            if told.resets == 0
                && let Some(first) = told.events.first()
            {
                let from = first.revision();
                let history: Vec<Event> = self.log.iter().filter(|event| event.revision() >= from).cloned().collect();
                assert_eq!(told.events, history, "watch {id} skipped or repeated something");
            }
        }
        assert_eq!(self.world.core.metrics().watch_gaps, 0, "a gap, though the server made none");
    }
}

fn weather(seeds: std::ops::Range<u64>, trims: bool) {
    for seed in seeds {
        let mut storm = Storm::new(seed, trims);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..600).for_each(|_| storm.turn());
            storm.calm();
            storm.judge();
        }));
        if let Err(panic) = run {
            eprintln!("replay with weather({seed}..{}, {trims})", seed + 1);
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn every_write_takes_effect_once_and_every_watch_tells_every_change() {
    weather(0..60, false);
}

#[test]
fn with_history_trimmed_meanwhile_every_watch_still_tells_the_state() {
    weather(1_000..1_060, true);
}
