//! A state with its lessor, a clock that is moved by hand, and proposals that wait until they are let through.

use std::time::Duration;

use bytes::Bytes;
use hither_protocol::message::{Delete, LeaseKind, Put, Reply, RetryToken};
use hither_protocol::{KeyRange, LeaseId, LeaseState, Moment, Namespace, SequenceNumber, SessionId, UnixMillis};
use hither_state::{Action, Command, Lessor, LessorConfig, Position, State, StateLimits};

pub(crate) const CONFIG: LessorConfig = LessorConfig { silence: Duration::from_secs(1), stall: Duration::from_secs(1) };
/// What is due is seen to no later than this, if it is polled then.
pub(crate) const TICK: Duration = Duration::from_millis(64);

pub(crate) type Leases = Vec<(LeaseId, u64)>;

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) lessor: Lessor,
    pub(crate) now: Moment,
    index: u64,
    sequence: u64,
}

impl World {
    /// A leader of nothing yet.
    pub(crate) fn new() -> Self {
        let state = State::new(StateLimits { state_bytes_max: 1 << 30, leases_max: 1 << 20 });
        let mut lessor = Lessor::new(CONFIG);
        let now = Moment(5_000_000_000_000);
        lessor.take_up(&state, now);
        Self { state, lessor, now, index: 0, sequence: 0 }
    }

    pub(crate) fn apply(&mut self, retry: Option<RetryToken>, action: Action) -> Reply {
        self.index += 1;
        let command =
            Command { namespace: Namespace::default(), principal: "alice".into(), retry, at: UnixMillis(0), action };
        let applied = self.state.apply(Position { index: self.index, offset: 0 }, &command);
        self.lessor.handle_delta(&applied.delta, self.now);
        applied.outcome.unwrap_or_else(|refusal| panic!("{command:?}: {refusal:?}"))
    }

    pub(crate) fn grant(&mut self, ttl_ms: u64) -> LeaseId {
        match self.apply(None, Action::LeaseGrant { ttl_ms, kind: LeaseKind::Ttl }) {
            Reply::LeaseGrant(reply) => reply.lease,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn open(&mut self, ttl_ms: u64) -> SessionId {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.index.to_le_bytes());
        match self.apply(None, Action::SessionOpen { ttl_ms, nonce }) {
            Reply::SessionOpen(reply) => reply.session,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn bind(&mut self, session: SessionId, ttl_ms: u64) -> LeaseId {
        self.sequence += 1;
        let sequence = SequenceNumber(self.sequence);
        let retry = RetryToken { session, sequence, acknowledged: SequenceNumber(self.sequence - 1) };
        match self.apply(Some(retry), Action::LeaseGrant { ttl_ms, kind: LeaseKind::Bound }) {
            Reply::LeaseGrant(reply) => reply.lease,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn put(&mut self, key: &str, lease: Option<LeaseId>) {
        let put = Put { key: key.into(), value: Bytes::new(), lease, previous: false };
        self.apply(None, Action::Put(put));
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.apply(None, Action::Delete(Delete { range: KeyRange::One(key.into()), previous: false }));
    }

    pub(crate) fn standing(&self, lease: LeaseId) -> Option<(LeaseState, u64)> {
        self.state.lease(lease).map(|lease| (lease.record.state, lease.record.epoch))
    }

    /// The clock moves; nobody polls.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// The clock moves as if someone polled all the while and let everything through; returns what was expired and when.
    pub(crate) fn live(&mut self, time: Duration) -> Vec<(Moment, LeaseId)> {
        let end = self.now + time;
        let mut expired = Vec::new();
        while self.now < end {
            self.now = self.lessor.poll_timeout().unwrap_or(end).max(self.now).min(end);
            let suspect = self.lessor.poll_suspect(self.now);
            self.apply(None, Action::MarkSuspect { leases: suspect });
            let alive = self.lessor.poll_alive(self.now);
            self.apply(None, Action::MarkAlive { leases: alive });
            let leases = self.lessor.poll_expired(self.now);
            expired.extend(leases.iter().map(|&(lease, _)| (self.now, lease)));
            self.apply(None, Action::Expire { leases });
        }
        expired
    }

    /// Someone polls all the while, but there is nothing to do; returns the leases named expired, which stay in flight.
    pub(crate) fn poll_expired_after(&mut self, time: Duration) -> Leases {
        let end = self.now + time;
        let mut expired = Vec::new();
        while self.now < end {
            self.now = (self.now + ms(100)).min(end);
            expired.extend(self.lessor.poll_expired(self.now));
        }
        expired
    }
}
