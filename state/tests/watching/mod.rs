//! A state, its hub, a disk, and clients that judge what they are sent.

mod judge;
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::message::{Delete, Filter, LeaseKind, Mode, Put, Reply, Start, Txn, TxnOp};
use hither_protocol::{
    ClusterId, ErrorCode, Key, KeyRange, LeaseId, LeaseState, Lineage, Moment, Namespace, Revision, UnixMillis, WatchId,
};
use hither_state::device::{MemoryState, RowChange, StateDevice};
use hither_state::watch::{
    ChangeLog, ConnectionId, Frames, HubConfig, SubscriberId, WatchHub, WatchSpec, history_rows,
};
use hither_state::{Action, Applied, Command, Position, State, StateLimits};

use judge::Judge;
use model::Model;

/// One of the keys in play.
pub(crate) fn key(number: u8) -> Key {
    let folder = ["a", "b", "bb"][usize::from(number % 3)];
    format!("{folder}/{}", number / 3).into()
}

/// A watch and the client behind it.
struct Client {
    connection: ConnectionId,
    spec: WatchSpec,
    judge: Judge,
}

pub(crate) struct World {
    config: HubConfig,
    state: State,
    pub(crate) hub: WatchHub,
    disk: MemoryState,
    model: Model,
    clients: BTreeMap<SubscriberId, Client>,
    /// Watches that the hub said have something, or may have.
    pending: Vec<SubscriberId>,
    now: Moment,
    index: u64,
    lease: Option<(LeaseId, u64)>,
    next_watch: u64,
}

impl World {
    pub(crate) fn new(config: HubConfig) -> Self {
        let state = State::new(StateLimits::default());
        let hub = WatchHub::new(config.clone(), &state, ChangeLog::new(Revision::ZERO), Moment(0));
        let mut world = Self {
            config,
            state,
            hub,
            disk: MemoryState::default(),
            model: Model::default(),
            clients: BTreeMap::new(),
            pending: Vec::new(),
            now: Moment(0),
            index: 0,
            lease: None,
            next_watch: 0,
        };
        world.apply(Action::ClusterInit { cluster: ClusterId([1; 16]), incarnation: 1 });
        world
    }

    pub(crate) fn head(&self) -> Revision {
        self.state.revision()
    }

    fn apply(&mut self, action: Action) -> Applied {
        self.index += 1;
        let command = Command {
            namespace: Namespace::default(),
            principal: "tester".into(),
            retry: None,
            at: UnixMillis(self.index),
            action,
        };
        let applied = self.state.apply(Position { index: self.index, offset: 0 }, &command);
        self.hub.publish(&applied.delta, self.now);
        self.model.record(&applied.delta);
        let mut rows = Vec::new();
        history_rows(&applied.delta, &mut rows);
        self.write(&rows);
        applied
    }

    fn write(&mut self, rows: &[RowChange]) {
        self.disk.write(rows, b"").expect("memory does not fail");
    }

    pub(crate) fn put(&mut self, number: u8, value: u8, leased: bool) {
        let lease = leased.then(|| self.lease().0);
        self.apply(Action::Put(put(number, value, lease)));
    }

    pub(crate) fn put_two(&mut self, (one, other): (u8, u8), value: u8) {
        let mut then = vec![TxnOp::Put(put(one, value, None))];
        if key(one) != key(other) {
            then.push(TxnOp::Put(put(other, value, None)));
        }
        self.apply(Action::Txn(Txn { when: Vec::new(), then, otherwise: Vec::new() }));
    }

    pub(crate) fn delete(&mut self, range: KeyRange) {
        self.apply(Action::Delete(Delete { range, previous: false }));
    }

    fn lease(&mut self) -> (LeaseId, u64) {
        if let Some(lease) = self.lease {
            return lease;
        }
        let applied = self.apply(Action::LeaseGrant { ttl_ms: 10_000, kind: LeaseKind::Ttl });
        let Ok(Reply::LeaseGrant(granted)) = applied.outcome else { panic!("{:?}", applied.outcome) };
        *self.lease.insert((granted.lease, granted.epoch))
    }

    pub(crate) fn suspect(&mut self) {
        let lease = self.lease();
        self.apply(Action::MarkSuspect { leases: vec![lease] });
    }

    pub(crate) fn alive(&mut self) {
        let lease = self.lease();
        self.apply(Action::MarkAlive { leases: vec![lease] });
        let view = self.state.lease(lease.0).expect("it was granted");
        assert_eq!(view.record.state, LeaseState::Alive);
        self.lease = Some((lease.0, view.record.epoch));
    }

    pub(crate) fn revoke(&mut self) {
        if let Some((lease, _)) = self.lease.take() {
            self.apply(Action::LeaseRevoke { lease });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a watch has as many choices")]
    pub(crate) fn subscribe(
        &mut self,
        connection: u8,
        range: KeyRange,
        start: Start,
        elsewhere: bool,
        mode: Mode,
        filter: Filter,
        previous: bool,
        min_interval: Duration,
    ) {
        self.next_watch += 1;
        let lineage = Lineage { cluster: ClusterId([1; 16]), incarnation: if elsewhere { 7 } else { 1 } };
        let spec = WatchSpec {
            watch: WatchId(self.next_watch),
            namespace: Namespace::default(),
            range,
            start,
            lineage: Some(lineage),
            mode,
            filter,
            previous,
            min_interval,
        };
        self.open(ConnectionId(connection.into()), spec, elsewhere);
    }

    fn open(&mut self, connection: ConnectionId, spec: WatchSpec, elsewhere: bool) {
        let (id, created) = match self.hub.subscribe(&self.state, connection, spec.clone(), self.now) {
            Ok(opened) => opened,
            // Memory for snapshots is short: the client tries again later, here not at all.
            Err(refusal) => return assert_eq!(refusal.code, ErrorCode::ServerBusy),
        };
        let judge = Judge::new(&spec, &created, elsewhere, self.head());
        self.clients.insert(id, Client { connection, spec, judge });
        self.ask(u8::try_from(connection.0).expect("numbered by a byte"));
    }

    pub(crate) fn ask(&mut self, connection: u8) {
        self.hub.poll_ready(ConnectionId(connection.into()), &mut self.pending);
    }

    pub(crate) fn poll(&mut self, which: u8, bytes_max: usize) {
        if self.pending.is_empty() {
            return;
        }
        let id = self.pending.swap_remove(usize::from(which) % self.pending.len());
        self.poll_one(id, bytes_max);
    }

    fn poll_one(&mut self, id: SubscriberId, bytes_max: usize) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        match self.hub.poll_frames(&self.state, id, bytes_max, self.now) {
            Frames::Idle => false,
            Frames::NotBefore(moment) => {
                assert!(moment > self.now, "not before a moment to come");
                self.pending.push(id);
                false
            }
            Frames::Frames { frames, more } => {
                for frame in frames {
                    assert!(frame.body.len() <= self.config.frame_bytes_max.max(1_000), "a frame within its bound");
                    client.judge.receive(&frame, &self.model);
                }
                if more {
                    self.pending.push(id);
                }
                true
            }
            Frames::Ended(end) => panic!("nobody ended it: {end:?}"),
        }
    }

    /// Polls everything that is pending until nothing is.
    pub(crate) fn poll_all(&mut self) {
        while let Some(id) = self.pending.pop() {
            self.poll_one(id, 500);
        }
    }

    /// The bodies of the next frames of all watches.
    pub(crate) fn bodies(&mut self) -> Vec<Bytes> {
        self.ask(0);
        let mut bodies = Vec::new();
        for id in std::mem::take(&mut self.pending) {
            if let Frames::Frames { frames, .. } = self.hub.poll_frames(&self.state, id, 500, self.now) {
                bodies.extend(frames.into_iter().map(|frame| frame.body));
            }
        }
        bodies
    }

    pub(crate) fn beat(&mut self, connection: u8) {
        let connection = ConnectionId(connection.into());
        let beat = self.hub.beat(connection);
        let clients = self.clients.values_mut().filter(|client| client.connection == connection);
        for client in clients {
            client.judge.beat(client.spec.watch, &beat, &self.model);
        }
    }

    pub(crate) fn cancel(&mut self, which: u8) {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        if let Some(&id) = ids.get(usize::from(which) % ids.len().max(1)) {
            self.hub.cancel(id);
            self.clients.remove(&id);
        }
    }

    pub(crate) fn disconnect(&mut self, connection: u8) {
        let connection = ConnectionId(connection.into());
        self.hub.disconnect(connection);
        self.clients.retain(|_, client| client.connection != connection);
    }

    pub(crate) fn floor(&mut self, revision: Revision) {
        self.apply(Action::SetFloor { revision });
    }

    pub(crate) fn floor_due(&mut self) {
        if let Some(revision) = self.hub.floor_due(self.now) {
            assert!(revision > self.hub.floor());
            self.floor(revision);
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// The hub is built anew from what is on disk, and every client resumes where it is.
    pub(crate) fn restart(&mut self) {
        let log = ChangeLog::load(&self.disk, self.state.floor(), self.head()).expect("what was written reads back");
        self.hub = WatchHub::new(self.config.clone(), &self.state, log, self.now);
        self.pending.clear();
        for (_, client) in std::mem::take(&mut self.clients) {
            let start = client.judge.position().map_or(Start::Snapshot, Start::After);
            let spec = WatchSpec { start, lineage: self.state.lineage(), ..client.spec };
            self.open(client.connection, spec, false);
        }
    }

    /// The state runs ahead by some writes that the hub is not told of, and the hub is given all of it at once, as a node
    /// is that was behind for too long.
    pub(crate) fn install(&mut self, missed: u8, trimmed: bool) {
        let other = WatchHub::new(self.config.clone(), &self.state, ChangeLog::new(self.head()), self.now);
        let hub = std::mem::replace(&mut self.hub, other);
        (0..missed).for_each(|number| self.put(number % 12, number, false));
        if trimmed {
            self.floor(self.head());
        }
        self.hub = hub;
        let log = ChangeLog::load(&self.disk, self.state.floor(), self.head()).expect("what was written reads back");
        self.hub.install(&self.state, log, self.now);
    }

    /// Lets every client catch up, woken by nothing but what the hub says, and asks whether they all did.
    pub(crate) fn settle(&mut self) {
        // Those that wait for a future revision get there.
        (0..6).for_each(|round| self.put(round, round, false));
        for _ in 0..10_000 {
            self.wait(Duration::from_secs(1));
            let mut wakes = Vec::new();
            self.hub.poll_wakes(&mut wakes);
            wakes.iter().for_each(|&connection| self.hub.poll_ready(connection, &mut self.pending));
            if self.pending.is_empty() {
                break;
            }
            for id in std::mem::take(&mut self.pending) {
                self.poll_one(id, 300);
            }
        }
        assert!(self.pending.is_empty(), "everybody comes to rest");
        for client in self.clients.values() {
            client.judge.is_complete(self.state.revision(), &self.model);
        }
        let connections: Vec<_> = self.clients.values().map(|client| client.connection).collect();
        for connection in connections {
            assert_eq!(self.hub.beat(connection).behind, [], "everybody is synced");
        }
        assert_eq!(self.hub.lag().revisions, 0);
        assert_eq!(self.hub.live_bytes(), 0, "what everybody has read is dropped");
        for id in std::mem::take(&mut self.clients).into_keys() {
            self.hub.cancel(id);
        }
        assert_eq!((self.hub.watches(), self.hub.topics()), (0, 0));
        assert_eq!(self.hub.snapshot_bytes(), 0);
    }
}

fn put(number: u8, value: u8, lease: Option<LeaseId>) -> Put {
    let value = Bytes::from(vec![value; usize::from(value % 60)]);
    Put { key: key(number), value, lease, previous: false }
}
