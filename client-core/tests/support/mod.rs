//! A client on one clock, and its server played by the test.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod model;
pub mod watching;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use hither_client_core::{Action, Core, Endpoint, Error, LinkId, Note, Options, Signal, Update, WatchSpec};
use hither_protocol::codec::{Decoder, Frame, Message, decode, encode, encode_parts};
use hither_protocol::error::{CloseCode, Refusal};
use hither_protocol::frame::Flags;
use hither_protocol::message::{
    Batch, CancelRequest, CancelWatch, Consistency, Context, Created, Filter, Get, Goodbye, Hello, KeepAlive,
    KeepAliveReply, Mode, Put, PutReply, Reply, Request, Resumed, SessionOpenReply, SessionReply, SnapshotPage, Stamp,
    Start, Subscribe, Welcome, encode_refusal, op,
};
use hither_protocol::{
    Applied, ClusterId, Entry, ErrorCode, Event, KeyRange, Lineage, Moment, NodeId, Previous, RequestNumber, Revision,
    SessionId, Version,
};

pub const CLUSTER: ClusterId = ClusterId([7; 16]);
pub const LINEAGE: Lineage = Lineage { cluster: CLUSTER, incarnation: 1 };

/// What a client said.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Hello(Hello),
    KeepAlive(u64),
    Subscribe(Subscribe),
    CancelWatch(u64),
    CancelRequest(u64),
    Goodbye,
    Request(u64, Context, Request),
}

/// A client and the ends of its connections.
pub struct World {
    pub core: Core,
    pub now: Moment,
    pub dialed: VecDeque<(LinkId, Endpoint)>,
    pub hung_up: Vec<(LinkId, CloseCode)>,
    pub others: Vec<Action>,
    pub signals: VecDeque<Signal>,
    pub notes: Vec<Note>,
    pub finished: bool,
    decoders: BTreeMap<LinkId, (Decoder, Decoder)>,
}

pub fn options(servers: u16) -> Options {
    let endpoints = (1..=servers).map(|port| Endpoint { host: "s".to_owned(), port }).collect();
    Options { endpoints, ..Options::default() }
}

pub fn get(key: &str) -> Request {
    Get { key: key.into(), consistency: Consistency::default() }.into()
}

pub fn resumed() -> Option<SessionReply> {
    Some(SessionReply::Resumed(Resumed { ttl_ms: 10_000, epoch: 1 }))
}

/// Which call was answered first of those that are, and how.
pub fn answered(world: &mut World) -> (u64, Result<u64, (ErrorCode, Applied)>) {
    while let Some(signal) = world.signal() {
        if let Signal::Answered { id, outcome } = signal {
            let outcome = outcome.map(|(stamp, _)| stamp.revision.0);
            return (id, outcome.map_err(|error| (error.code(), error.applied())));
        }
    }
    panic!("nothing was answered");
}

impl World {
    pub fn new(options: Options) -> Self {
        Self::seeded(options, 1)
    }

    pub fn seeded(options: Options, seed: u64) -> Self {
        options.check().expect("good options");
        let now = Moment(1_000_000_000);
        let mut world = Self {
            core: Core::new(options, seed, now),
            now,
            dialed: VecDeque::new(),
            hung_up: Vec::new(),
            others: Vec::new(),
            signals: VecDeque::new(),
            notes: Vec::new(),
            finished: false,
            decoders: BTreeMap::new(),
        };
        world.pump();
        world
    }

    /// A client whose first server has greeted it.
    pub fn connected(options: Options) -> (Self, LinkId) {
        let mut world = Self::new(options);
        let link = world.accept();
        world.welcome(link, None);
        assert!(matches!(world.signal(), Some(Signal::Connected(Ok(())))));
        assert!(matches!(world.signal(), Some(Signal::State(_))));
        world.said(link);
        (world, link)
    }

    /// A client with a session, opened for a put that was answered.
    pub fn with_session(options: Options) -> (Self, LinkId) {
        let (mut world, link) = Self::connected(options);
        world.put(1, "a");
        world.open_session(link, 77);
        let (number, _, _) = world.request(link);
        world.reply_put(link, number, 1);
        assert!(matches!(world.signal(), Some(Signal::Answered { id: 1, outcome: Ok(_) })));
        world.said(link);
        (world, link)
    }

    /// Takes what the core has to say and to do.
    pub fn pump(&mut self) {
        while let Some(signal) = self.core.poll_signal() {
            match signal {
                Signal::Note(note) => self.notes.push(note),
                other => self.signals.push_back(other),
            }
        }
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Dial { link, endpoint } => self.dialed.push_back((link, endpoint)),
                Action::Hangup { link, code } => {
                    self.dialed.retain(|(dialed, _)| *dialed != link);
                    self.hung_up.push((link, code));
                }
                Action::Finish => self.finished = true,
                other => self.others.push(other),
            }
        }
    }

    /// Lets time pass, waking the core whenever it wants to be woken.
    pub fn sleep(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut turns = 0;
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.pump();
            turns += 1;
            assert!(turns < 100_000, "the core asks to be woken at once, again and again");
        }
        self.now = until;
        self.core.handle_timeout(self.now);
        self.pump();
    }

    /// The process is stopped for so long: the core is woken late.
    pub fn freeze(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.core.handle_timeout(self.now);
        self.pump();
    }

    /// The next attempt to connect succeeds, as far as QUIC is concerned.
    pub fn accept(&mut self) -> LinkId {
        let (link, _) = self.dialed.pop_front().expect("an attempt to connect");
        self.core.handle_dialed(self.now, link);
        self.pump();
        assert!(matches!(&self.said(link)[..], [Said::Hello(_)]), "Hello comes first, and alone");
        link
    }

    /// Waits for an attempt to connect, lets it succeed, and returns its Hello.
    pub fn accept_again(&mut self) -> (LinkId, Hello) {
        for _ in 0..1_000 {
            if let Some((link, _)) = self.dialed.pop_front() {
                self.core.handle_dialed(self.now, link);
                self.pump();
                let said = self.said(link);
                let Some(Said::Hello(hello)) = said.into_iter().next() else { panic!("no Hello") };
                return (link, hello);
            }
            self.sleep(Duration::from_millis(100));
        }
        panic!("no attempt to connect");
    }

    pub fn welcome(&mut self, link: LinkId, session: Option<SessionReply>) {
        self.welcome_at(link, session, 0);
    }

    pub fn welcome_at(&mut self, link: LinkId, session: Option<SessionReply>, revision: u64) {
        let welcome = Welcome {
            lineage: LINEAGE,
            node: NodeId(1),
            version: "test".to_owned(),
            name: "tester".to_owned(),
            role: hither_protocol::message::Role::Client,
            term: 1,
            revision: Revision(revision),
            leader: None,
            session,
            beat_ms: 1_000,
            endpoints: vec!["elsewhere:7400".to_owned()],
        };
        self.say(link, 0, &welcome);
    }

    pub fn lose(&mut self, link: LinkId) {
        self.core.handle_lost(self.now, link, Error::new(ErrorCode::Unavailable, "cut"));
        self.decoders.remove(&link);
        self.pump();
    }

    /// The server says something.
    pub fn say<M: Message>(&mut self, link: LinkId, id: u64, message: &M) {
        self.say_more(link, id, message, false);
    }

    pub fn say_more<M: Message>(&mut self, link: LinkId, id: u64, message: &M, more: bool) {
        let mut out = BytesMut::new();
        let flags = if more { Flags::MORE } else { Flags::default() };
        encode_parts(&mut out, M::OP, M::VERSION, flags, id, None, message);
        self.deliver(link, &out);
    }

    pub fn deliver(&mut self, link: LinkId, bytes: &[u8]) {
        for frame in frames(bytes) {
            self.core.handle_frame(self.now, link, &frame);
        }
        self.pump();
    }

    pub fn reply(&mut self, link: LinkId, number: u64, revision: u64, reply: &Reply) {
        let mut out = BytesMut::new();
        let stamp = Stamp { revision: Revision(revision), term: 1, node: NodeId(1), age_ms: 0 };
        reply.encode(&mut out, RequestNumber(number), &stamp, false);
        self.deliver(link, &out);
    }

    pub fn reply_put(&mut self, link: LinkId, number: u64, revision: u64) {
        let reply = Reply::Put(PutReply { revision: Revision(revision), previous: None });
        self.reply(link, number, revision, &reply);
    }

    pub fn refuse(&mut self, link: LinkId, number: u64, refusal: &Refusal) {
        let mut out = BytesMut::new();
        encode_refusal(&mut out, RequestNumber(number), refusal);
        self.deliver(link, &out);
    }

    /// Everything that the client said on a connection since the last time.
    pub fn said(&mut self, link: LinkId) -> Vec<Said> {
        let (control, lane) = self.decoders.entry(link).or_default();
        let mut said = Vec::new();
        while let Some(bytes) = self.core.poll_control(link) {
            control.push(&bytes);
        }
        while let Some(bytes) = self.core.poll_lane(link) {
            lane.push(&bytes);
        }
        while let Some(frame) = control.next_frame().expect("a frame") {
            said.push(control_frame(&frame));
        }
        while let Some(frame) = lane.next_frame().expect("a frame") {
            let (context, request) = Request::decode(&frame).expect("a request");
            said.push(Said::Request(frame.header.id, context, request));
        }
        said
    }

    /// The requests that the client sent since the last time.
    pub fn requests(&mut self, link: LinkId) -> Vec<(u64, Context, Request)> {
        let request = |said| match said {
            Said::Request(number, context, request) => Some((number, context, request)),
            _ => None,
        };
        self.said(link).into_iter().filter_map(request).collect()
    }

    /// The only request that the client sent since the last time.
    pub fn request(&mut self, link: LinkId) -> (u64, Context, Request) {
        let mut requests = self.requests(link);
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// The only subscription since the last time.
    pub fn subscription(&mut self, link: LinkId) -> Subscribe {
        let subscribe = |said| match said {
            Said::Subscribe(subscribe) => Some(subscribe),
            _ => None,
        };
        let mut all: Vec<Subscribe> = self.said(link).into_iter().filter_map(subscribe).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub fn signal(&mut self) -> Option<Signal> {
        self.signals.pop_front()
    }

    pub fn put(&mut self, id: u64, key: &str) {
        let put = Put { key: key.into(), value: "v".into(), lease: None, previous: false };
        self.core.handle_call(self.now, id, put.into(), None);
        self.pump();
    }

    pub fn watch(&mut self, id: u64, start: Start) {
        self.core.handle_watch(self.now, id, spec(start), None);
        self.pump();
    }

    /// Answers the client's request for a session.
    pub fn open_session(&mut self, link: LinkId, session: u64) {
        let (number, _, request) = self.request(link);
        let Request::SessionOpen(open) = request else { panic!("{request:?}") };
        let reply = SessionOpenReply { session: SessionId(session), ttl_ms: open.ttl_ms, epoch: 1 };
        self.reply(link, number, 0, &Reply::SessionOpen(reply));
    }

    pub fn acknowledge(&mut self, link: LinkId, number: u64) {
        self.say(link, 0, &KeepAliveReply { number, session_alive: Some(true) });
    }

    pub fn create(&mut self, link: LinkId, wire: u64, revision: u64) {
        self.say(link, wire, &Created { revision: Revision(revision), lineage: LINEAGE });
    }

    pub fn snapshot(&mut self, link: LinkId, wire: u64, revision: u64, entries: Vec<Entry>) {
        self.say(link, wire, &SnapshotPage { revision: Revision(revision), entries });
    }

    pub fn batch(&mut self, link: LinkId, wire: u64, from: u64, to: u64, events: Vec<Event>) {
        self.say(link, wire, &Batch { from: Revision(from), to: Revision(to), folded: false, events });
    }

    /// The updates of one watch that have come, in order.
    pub fn updates(&mut self, watch: u64) -> Vec<Update> {
        let mut updates = Vec::new();
        self.signals.retain(|signal| match signal {
            Signal::Update { id, update } if *id == watch => {
                updates.push(update.clone());
                false
            }
            _ => true,
        });
        updates
    }

    /// The revisions of the events of one watch that have come, in order.
    pub fn told(&mut self, watch: u64) -> Vec<u64> {
        self.updates(watch).iter().flat_map(|update| update.events.iter().map(|event| event.revision().0)).collect()
    }
}

pub fn spec(start: Start) -> WatchSpec {
    WatchSpec {
        range: KeyRange::All,
        start,
        mode: Mode::Every,
        filter: Filter::default(),
        previous: false,
        min_interval_ms: 0,
    }
}

pub fn entry(key: &str, revision: u64) -> Entry {
    Entry {
        key: key.into(),
        value: format!("{key}@{revision}").into(),
        create_revision: Revision(revision),
        mod_revision: Revision(revision),
        version: Version(1),
        lease: None,
    }
}

pub fn put_event(key: &str, revision: u64) -> Event {
    Event::Put { entry: entry(key, revision), previous: Previous::NotAsked }
}

pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.next_frame().expect("a frame")).collect()
}

pub fn encoded<M: Message>(id: u64, message: &M) -> BytesMut {
    let mut out = BytesMut::new();
    encode(&mut out, id, message);
    out
}

pub fn control_frame(frame: &Frame) -> Said {
    match frame.header.op {
        op::HELLO => Said::Hello(decode(frame).expect("Hello")),
        op::KEEP_ALIVE => Said::KeepAlive(decode::<KeepAlive>(frame).expect("KeepAlive").number),
        op::SUBSCRIBE => Said::Subscribe(decode(frame).expect("Subscribe")),
        op::CANCEL_WATCH => Said::CancelWatch(decode::<CancelWatch>(frame).expect("CancelWatch").watch.0),
        op::CANCEL_REQUEST => Said::CancelRequest(decode::<CancelRequest>(frame).expect("CancelRequest").request.0),
        op::GOODBYE => {
            let Goodbye {} = decode(frame).expect("Goodbye");
            Said::Goodbye
        }
        other => panic!("operation {other:#x} on the control lane"),
    }
}
