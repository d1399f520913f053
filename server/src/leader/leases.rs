//! Deadlines of leases, at the leader: a lessor under a lock, and who waits for its next deadline.

use std::sync::Arc;
use std::time::Duration;

use hither_protocol::message::LeaseRenewReply;
use hither_protocol::{LeaseId, Moment, Refusal, SessionId};
use hither_state::{Delta, Lessor, LessorConfig, State};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How long after the last client that had to wait no lease ends: those that were turned away come back within the longest
/// wait between two attempts.
const CROWD_GONE: Duration = Duration::from_secs(10);
/// How long after the beginning of a leadership a crowd keeps leases from ending. Strangers who keep coming must not keep
/// the leases of the dead.
const CROWD_MAX: Duration = Duration::from_secs(60);

/// What is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) suspect: Vec<Vec<(LeaseId, u64)>>,
    pub(crate) alive: Vec<Vec<(LeaseId, u64)>>,
    pub(crate) expired: Vec<Vec<(LeaseId, u64)>>,
}

/// Deadlines of leases while this node leads. Its lock is the last: nothing else is locked under it.
#[derive(Debug)]
pub(crate) struct Leases {
    inner: Mutex<Inner>,
    sooner: Notify,
}

#[derive(Debug)]
struct Inner {
    lessor: Lessor,
    /// When who polls will look again.
    next_look: Option<Moment>,
    /// When this leadership began, and when a client last had to wait in line to be let in.
    since: Moment,
    crowded: Option<Moment>,
}

impl Inner {
    /// Whether those whose time is over may be in a line that this node makes them wait in. After a restart everybody comes
    /// back at once, and whoever is let in last must not have lost for it.
    fn is_crowded(&self, now: Moment) -> bool {
        now.since(self.since) < CROWD_MAX && self.crowded.is_some_and(|at| now.since(at) < CROWD_GONE)
    }
}

impl Default for Leases {
    fn default() -> Self {
        let lessor = Lessor::new(LessorConfig::default());
        Self {
            inner: Mutex::new(Inner { lessor, next_look: None, since: Moment(0), crowded: None }),
            sooner: Notify::new(),
        }
    }
}

impl Leases {
    /// This node leads from now on: every lease gets a full TTL.
    pub(crate) fn take_up(&self, state: &State, now: Moment) {
        self.inner.lock().since = now;
        self.with(|lessor| lessor.take_up(state, now));
    }

    /// A client has to wait in line.
    pub(crate) fn crowded(&self, now: Moment) {
        self.inner.lock().crowded = Some(now);
    }

    /// It no longer does.
    pub(crate) fn resign(&self) {
        self.with(Lessor::resign);
    }

    /// What was applied, in the order of the log, under the lock of the state.
    pub(crate) fn handle_deltas(&self, deltas: &[Delta], now: Moment) {
        self.with(|lessor| deltas.iter().for_each(|delta| lessor.handle_delta(delta, now)));
    }

    pub(crate) fn renew(&self, lease: LeaseId, now: Moment) -> Result<LeaseRenewReply, Refusal> {
        self.with(|lessor| lessor.handle_renew(lease, now))
    }

    /// Whether the session lives on; none if this node does not lead, so that it cannot tell.
    pub(crate) fn vouch(&self, session: SessionId, now: Moment) -> Option<bool> {
        self.with(|lessor| lessor.is_leading().then(|| lessor.handle_vouch(session, now)))
    }

    /// A proposal of what was due was not written, and will not be.
    pub(crate) fn refused(&self, leases: &[(LeaseId, u64)]) {
        self.with(|lessor| lessor.handle_refused(leases));
    }

    pub(crate) fn remaining(&self, lease: LeaseId, now: Moment) -> Option<std::time::Duration> {
        self.inner.lock().lessor.remaining(lease, now)
    }

    /// What is due now.
    pub(crate) fn poll(&self, now: Moment) -> Due {
        let mut inner = self.inner.lock();
        let is_crowded = inner.is_crowded(now);
        let lessor = &mut inner.lessor;
        let mut batches = |poll: fn(&mut Lessor, Moment) -> Vec<(LeaseId, u64)>| {
            let mut batches = Vec::new();
            loop {
                match poll(lessor, now) {
                    batch if batch.is_empty() => return batches,
                    batch => batches.push(batch),
                }
            }
        };
        Due {
            suspect: batches(Lessor::poll_suspect),
            alive: batches(Lessor::poll_alive),
            expired: if is_crowded { Vec::new() } else { batches(Lessor::poll_expired) },
        }
    }

    /// When to poll again, no later than `latest`; [`sooner`](Self::sooner) resolves if that changes.
    pub(crate) fn next_look(&self, now: Moment, latest: Moment) -> Moment {
        let mut inner = self.inner.lock();
        let due = inner.lessor.poll_timeout().filter(|_| !inner.is_crowded(now));
        let next = due.map_or(latest, |due| due.min(latest));
        inner.next_look = Some(next);
        next
    }

    /// Resolves when something became due before the next look.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    fn with<T>(&self, handle: impl FnOnce(&mut Lessor) -> T) -> T {
        let mut inner = self.inner.lock();
        let handled = handle(&mut inner.lessor);
        if let (Some(planned), Some(next)) = (inner.next_look, inner.lessor.poll_timeout())
            && next < planned
        {
            inner.next_look = Some(next);
            self.sooner.notify_one();
        }
        handled
    }
}

/// Whether this node may act on its leadership: a majority followed it within the time in which it elects nobody else.
pub(crate) type Confirmed = Arc<dyn Fn() -> bool + Send + Sync>;

#[cfg(test)]
mod tests {
    use hither_protocol::message::LeaseKind;
    use hither_protocol::{Namespace, UnixMillis};
    use hither_state::{Action, Command, Position, StateLimits};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A leader since `START` of one lease of ten seconds.
    fn leases() -> Leases {
        let mut state = State::new(StateLimits { state_bytes_max: 1 << 30, leases_max: 1 << 20 });
        let action = Action::LeaseGrant { ttl_ms: 10_000, kind: LeaseKind::Ttl };
        let (namespace, principal) = (Namespace::default(), "alice".into());
        let command = Command { namespace, principal, retry: None, at: UnixMillis(0), action };
        state.apply(Position { index: 1, offset: 0 }, &command).outcome.expect("there is room for a lease");
        let leases = Leases::default();
        leases.take_up(&state, START);
        leases
    }

    const START: Moment = Moment(1_000_000_000_000);

    /// When the lease ends, if clients wait in line until `crowded` after the start.
    fn ends(crowded: Duration) -> Duration {
        let leases = leases();
        let mut now = START;
        while leases.poll(now).expired.is_empty() {
            if now.since(START) < crowded {
                leases.crowded(now);
            }
            assert!(leases.next_look(now, now + SECOND / 4) >= now);
            now = now + SECOND / 4;
            assert!(now.since(START) < 200 * SECOND, "it never ends");
        }
        now.since(START)
    }

    #[test]
    fn no_lease_ends_while_clients_wait_to_be_let_in_nor_before_those_turned_away_can_be_back() {
        assert!(ends(Duration::ZERO) <= 11 * SECOND);
        assert!(ends(20 * SECOND) >= 29 * SECOND);
        assert!(ends(20 * SECOND) <= 31 * SECOND);
    }

    #[test]
    fn who_keeps_coming_keeps_no_lease_of_the_dead() {
        assert!(ends(150 * SECOND) <= 61 * SECOND);
    }
}
