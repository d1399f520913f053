//! The server of a simulation: the real state, hub and lessor over a log that is synced when the simulation says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use hither_protocol::codec::{Decoder, Frame, Message, decode, encode};
use hither_protocol::frame::Header;
use hither_protocol::message::{
    Beat, CancelWatch, Context, End, Hello, KeepAlive, KeepAliveReply, Reply, Request, Resumed, Role, SessionReply,
    Stamp, Subscribe, SubscribeRefused, Welcome, encode_refusal, op,
};
use hither_protocol::{
    ClusterId, Event, KeyRange, LeaseId, Moment, Namespace, NodeId, Previous, Refusal, RequestNumber, Revision,
    SessionId, UnixMillis, WatchId,
};
use hither_state::device::{MemoryState, StateDevice};
use hither_state::door::{Admitted, Caller, LeaseRequest, admit};
use hither_state::watch::{
    ChangeLog, ConnectionId, Frames, HubConfig, SubscriberId, WatchHub, WatchSpec, history_rows,
};
use hither_state::{Action, Change, Command, Delta, Lessor, LessorConfig, Position, RangeQuery, State, StateLimits};

/// Between two beats.
const BEAT: Duration = Duration::from_secs(1);
/// Frames of one watch on the way beyond which its stream takes no more.
const WINDOW: usize = 6;

/// What a server sends on one connection: each stream in its order, streams in any.
#[derive(Debug, Default)]
pub(super) struct Down {
    pub(super) control: VecDeque<Frame>,
    pub(super) lane: VecDeque<Frame>,
    pub(super) streams: BTreeMap<u64, VecDeque<Frame>>,
}

/// A connection, as the server sees it.
#[derive(Debug)]
struct Connection {
    session: Option<SessionId>,
    watches: BTreeMap<WatchId, SubscriberId>,
    ready: BTreeSet<SubscriberId>,
    waiting: BTreeMap<SubscriberId, Moment>,
    next_beat: Moment,
    down: Down,
}

/// A command on its way into the log, and who waits for its answer.
struct Proposal {
    command: Command,
    asked: Option<(ConnectionId, RequestNumber)>,
    /// Carried out already, though it is not in the log: a bug.
    early: Option<Delta>,
}

/// A node of one, and its disk.
pub(super) struct Server {
    config: HubConfig,
    /// Every command that is synced.
    log: Vec<Command>,
    proposed: VecDeque<Proposal>,
    state: State,
    hub: WatchHub,
    lessor: Lessor,
    history: MemoryState,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    /// What was committed and is to be recorded as history.
    pub(super) committed: Vec<Delta>,
    pub(super) compactions: u64,
}

impl Server {
    pub(super) fn new(config: HubConfig, now: Moment) -> Self {
        let state = State::new(StateLimits::default());
        let mut server = Self {
            hub: WatchHub::new(config.clone(), &state, ChangeLog::new(Revision::ZERO), now),
            config,
            log: Vec::new(),
            proposed: VecDeque::new(),
            state,
            lessor: Lessor::new(LessorConfig::default()),
            history: MemoryState::default(),
            connections: BTreeMap::new(),
            next_connection: 0,
            committed: Vec::new(),
            compactions: 0,
        };
        server.lessor.take_up(&server.state, now);
        server.decide(Action::ClusterInit { cluster: ClusterId([1; 16]), incarnation: 1 });
        server.sync(now);
        server
    }

    /// The process dies: what is not in the log is gone, and so are all connections. It starts again from its log and
    /// from the history on its disk.
    pub(super) fn crash(&mut self, now: Moment) {
        self.proposed.clear();
        self.connections.clear();
        self.state = State::new(StateLimits::default());
        for (place, command) in self.log.iter().enumerate() {
            self.state.apply(position(place), command);
        }
        let history = ChangeLog::load(&self.history, self.state.floor(), self.state.revision());
        self.hub = WatchHub::new(self.config.clone(), &self.state, history.expect("what was written reads back"), now);
        self.lessor = Lessor::new(LessorConfig::default());
        self.lessor.take_up(&self.state, now);
    }

    pub(super) fn connect(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }

    /// The connection is gone, for the server.
    pub(super) fn disconnect(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        self.hub.disconnect(id);
    }

    pub(super) fn down(&mut self, id: ConnectionId) -> Option<&mut Down> {
        self.connections.get_mut(&id).map(|connection| &mut connection.down)
    }

    /// Something arrives on the control lane.
    pub(super) fn control(&mut self, id: ConnectionId, frame: &Frame, now: Moment) {
        match frame.header.op {
            op::HELLO => self.greet(id, &decode::<Hello>(frame).expect("Hello"), now),
            op::KEEP_ALIVE => {
                let KeepAlive { number } = decode(frame).expect("KeepAlive");
                let Some(connection) = self.connections.get_mut(&id) else { return };
                let session_alive = connection.session.map(|session| self.lessor.handle_vouch(session, now));
                connection.down.control.push_back(framed(0, &KeepAliveReply { number, session_alive }));
            }
            op::SUBSCRIBE => self.subscribe(id, &decode(frame).expect("Subscribe"), now),
            op::CANCEL_WATCH => {
                let CancelWatch { watch } = decode(frame).expect("CancelWatch");
                let Some(connection) = self.connections.get_mut(&id) else { return };
                if let Some(subscriber) = connection.watches.remove(&watch) {
                    self.hub.cancel(subscriber);
                    let end = framed(watch.0, &End { reason: hither_protocol::message::EndReason::Cancelled });
                    connection.down.streams.entry(watch.0).or_default().push_back(end);
                }
            }
            _ => {}
        }
    }

    fn greet(&mut self, id: ConnectionId, hello: &Hello, now: Moment) {
        let alive = |session: SessionId, lessor: &mut Lessor| lessor.handle_vouch(session, now);
        let session = hello.session.map(|session| {
            let lease = self.state.lease(session.lease());
            match lease {
                Some(lease) if alive(session, &mut self.lessor) => {
                    SessionReply::Resumed(Resumed { ttl_ms: lease.record.ttl_ms, epoch: lease.record.epoch })
                }
                _ => SessionReply::Expired,
            }
        });
        let resumed = matches!(session, Some(SessionReply::Resumed(_)));
        let welcome = Welcome {
            lineage: self.state.lineage().expect("the first command named it"),
            node: NodeId(1),
            version: "simulated".to_owned(),
            name: "tester".into(),
            role: Role::Client,
            term: 1,
            revision: self.state.revision(),
            leader: None,
            session,
            beat_ms: u64::try_from(BEAT.as_millis()).unwrap_or(u64::MAX),
            endpoints: Vec::new(),
        };
        let mut down = Down::default();
        down.control.push_back(framed(0, &welcome));
        let connection = Connection {
            session: hello.session.filter(|_| resumed),
            watches: BTreeMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_beat: now + BEAT,
            down,
        };
        self.connections.insert(id, connection);
    }

    fn subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe, now: Moment) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let watch = subscribe.watch;
        match self.hub.subscribe(&self.state, id, WatchSpec::new(Namespace::default(), subscribe), now) {
            Ok((subscriber, created)) => {
                connection.watches.insert(watch, subscriber);
                connection.down.streams.entry(watch.0).or_default().push_back(framed(watch.0, &created));
                connection.ready.insert(subscriber);
            }
            Err(refusal) => {
                connection.down.control.push_back(framed(0, &SubscribeRefused { watch, refusal }));
            }
        }
    }

    /// A request arrives.
    pub(super) fn request(&mut self, id: ConnectionId, frame: &Frame, now: Moment) {
        let number = RequestNumber(frame.header.id);
        let (context, request): (Context, Request) = Request::decode(frame).expect("a request");
        if let (Some(token), Some(connection)) = (context.retry, self.connections.get_mut(&id)) {
            connection.session = Some(token.session);
        }
        let caller = Caller { namespace: Namespace::default(), name: "tester".into(), role: Role::Client };
        let outcome = match admit(&caller, &context, request, UnixMillis(now.0 / 1_000_000)) {
            Ok(Admitted::Propose(command)) => return self.propose(command, Some((id, number)), now),
            Ok(Admitted::Lease(LeaseRequest::Renew(renew))) => {
                self.lessor.handle_renew(renew.lease, now).map(Reply::LeaseRenew)
            }
            Ok(other) => panic!("nobody here asks for {other:?}"),
            Err(refusal) => Err(refusal),
        };
        self.answer(id, number, self.state.revision(), outcome);
    }

    fn propose(&mut self, command: Command, asked: Option<(ConnectionId, RequestNumber)>, now: Moment) {
        let mut proposal = Proposal { command, asked, early: None };
        if applies_early() {
            let place = self.log.len() + self.proposed.len();
            proposal.early = Some(self.apply(place, &proposal.command, asked, now));
        }
        self.proposed.push_back(proposal);
    }

    /// A decision of the leader.
    fn decide(&mut self, action: Action) {
        let (namespace, principal) = (Namespace::system(), std::sync::Arc::default());
        let command = Command { namespace, principal, retry: None, at: UnixMillis(0), action };
        self.propose(command, None, Moment::default());
    }

    /// What is proposed reaches the disk, and is committed and carried out.
    pub(super) fn sync(&mut self, now: Moment) {
        while let Some(Proposal { command, asked, early }) = self.proposed.pop_front() {
            let place = self.log.len();
            let delta = early.unwrap_or_else(|| self.apply(place, &command, asked, now));
            self.compactions += u64::from(delta.changes.iter().any(|change| matches!(change, Change::Floor { .. })));
            let mut rows = Vec::new();
            history_rows(&delta, &mut rows);
            self.history.write(&rows, b"").expect("memory does not fail");
            self.log.push(command);
            self.committed.push(delta);
        }
    }

    fn apply(
        &mut self,
        place: usize,
        command: &Command,
        asked: Option<(ConnectionId, RequestNumber)>,
        now: Moment,
    ) -> Delta {
        let applied = self.state.apply(position(place), command);
        self.hub.publish(&applied.delta, now);
        self.lessor.handle_delta(&applied.delta, now);
        if let Some((id, number)) = asked {
            self.answer(id, number, applied.delta.revision, applied.outcome);
        }
        applied.delta
    }

    fn answer(&mut self, id: ConnectionId, number: RequestNumber, revision: Revision, outcome: Result<Reply, Refusal>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Ok(Reply::SessionOpen(open)) = &outcome {
            connection.session = Some(open.session);
        }
        let mut out = BytesMut::new();
        match outcome {
            Ok(reply) => {
                let stamp = Stamp { revision, term: 1, node: NodeId(1), age_ms: 0 };
                reply.encode(&mut out, number, &stamp, false);
            }
            Err(refusal) => encode_refusal(&mut out, number, &refusal),
        }
        connection.down.lane.extend(frames(&out));
    }

    /// What the leader does as time passes.
    pub(super) fn tend(&mut self, now: Moment) {
        type Poll = fn(&mut Lessor, Moment) -> Vec<(LeaseId, u64)>;
        type Decide = fn(Vec<(LeaseId, u64)>) -> Action;
        let duties: [(Poll, Decide); 3] = [
            (Lessor::poll_suspect, |leases| Action::MarkSuspect { leases }),
            (Lessor::poll_alive, |leases| Action::MarkAlive { leases }),
            (Lessor::poll_expired, |leases| Action::Expire { leases }),
        ];
        for (poll, decide) in duties {
            let leases = poll(&mut self.lessor, now);
            if !leases.is_empty() {
                self.decide(decide(leases));
            }
        }
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.next_beat <= now)
            else {
                continue;
            };
            connection.next_beat = now + BEAT;
            let beat = self.hub.beat(id);
            let beat = Beat { revision: beat.revision, sent: beat.sent, behind: beat.behind, age_ms: 0, term: 1 };
            connection.down.control.push_back(framed(0, &beat));
        }
    }

    /// Looks whether history is to be trimmed.
    pub(super) fn trim(&mut self, now: Moment) {
        if let Some(revision) = self.hub.floor_due(now) {
            self.decide(Action::SetFloor { revision });
        }
    }

    /// Sends what the watches of a connection have, as far as their streams take it.
    pub(super) fn serve(&mut self, id: ConnectionId, bytes_max: usize, now: Moment) {
        let mut ready = Vec::new();
        self.hub.poll_ready(id, &mut ready);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.ready.extend(ready);
        let due: Vec<_> = connection.waiting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for subscriber in due {
            connection.waiting.remove(&subscriber);
            connection.ready.insert(subscriber);
        }
        for (watch, subscriber) in &connection.watches {
            let stream = connection.down.streams.entry(watch.0).or_default();
            if stream.len() >= WINDOW || !connection.ready.remove(subscriber) {
                continue;
            }
            match self.hub.poll_frames(&self.state, *subscriber, bytes_max, now) {
                Frames::Idle => {}
                Frames::NotBefore(at) => drop(connection.waiting.insert(*subscriber, at)),
                Frames::Frames { frames, more } => {
                    stream.extend(frames.into_iter().map(|frame| {
                        let length = u32::try_from(frame.body.len()).expect("a frame has at most 2 MiB");
                        let header = Header { length, op: frame.op, version: 1, flags: frame.flags, id: watch.0 };
                        Frame { header, body: frame.body }
                    }));
                    if more {
                        connection.ready.insert(*subscriber);
                    }
                }
                Frames::Ended(end) => panic!("nobody ended it: {end:?}"),
            }
        }
    }

    /// Every key, as a list would have it.
    pub(super) fn list(&self) -> Vec<hither_protocol::Entry> {
        let mut entries = Vec::new();
        let mut after = None;
        loop {
            let query = RangeQuery { after, ..RangeQuery::new(&KeyRange::All) };
            let page = self.state.range(&Namespace::default(), &query);
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() {
                return entries;
            }
        }
    }

    /// Watches that were at this revision or later never had a reason for a reset.
    pub(super) fn floor(&self) -> Revision {
        self.hub.floor()
    }

    /// Whether nothing is on its way into the log.
    pub(super) fn is_idle(&self) -> bool {
        self.proposed.is_empty()
    }
}

/// Whether commands are carried out before they are in the log, which is a bug.
fn applies_early() -> bool {
    #[cfg(feature = "planted")]
    return hither_protocol::planted::strikes(hither_protocol::planted::Bug::EventBeforeCommit);
    #[cfg(not(feature = "planted"))]
    false
}

fn position(place: usize) -> Position {
    Position { index: place as u64 + 1, offset: 0 }
}

/// The events of a committed command, as history records them.
pub(super) fn events(delta: &Delta) -> Vec<Event> {
    let revision = delta.revision;
    let entry = |previous: &hither_protocol::Entry| Previous::Entry(Box::new(previous.clone()));
    let event = |change: &Change| match change {
        Change::Put { entry: put, previous, .. } => {
            Some(Event::Put { entry: put.clone(), previous: previous.as_deref().map_or(Previous::None, entry) })
        }
        Change::Delete { previous, .. } => {
            Some(Event::Delete { key: previous.key.clone(), revision, previous: entry(previous) })
        }
        Change::Liveness { lease, state, .. } => Some(Event::Liveness { lease: *lease, state: *state, revision }),
        _ => None,
    };
    delta.changes.iter().filter_map(event).collect()
}

fn framed<M: Message>(id: u64, message: &M) -> Frame {
    let mut out = BytesMut::new();
    encode(&mut out, id, message);
    frames(&out).next().expect("one frame")
}

fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    std::iter::from_fn(move || decoder.next_frame().expect("what was encoded decodes"))
}
