//! The replicated state in memory, with everybody who is told of its changes.
//!
//! One writer, raft's thread; it locks the state for a batch of entries and publishes what they changed before it lets go,
//! so that whoever locks the state sees no half of a batch, and a watch opened under the lock misses nothing. Answers go
//! out after that. Locks are taken in this order: ahead, state, hub, lessor.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hither_protocol::Revision;
use hither_state::image::Meta;
use hither_state::watch::{ConnectionId, WatchHub};
use hither_state::{Command, Delta, Position, State};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::engine::{Clock, Stats};
use crate::leader::Leases;
use crate::raft::{Entry, LeaderId, LogId, Outcome, Payload, StoredMembership};

/// Commands that are applied under one lock, rounded up to a whole entry: readers wait no longer than these take.
const HOLD_COMMANDS_MAX: usize = 512;

/// Is told which connections have something to send.
pub type Wake = Arc<dyn Fn(&[ConnectionId]) + Send + Sync>;

/// The replicated state of this node.
pub struct Machine {
    /// Keys, leases, sessions. Locked before the hub. Hold it for no more than a page.
    pub state: RwLock<State>,
    /// The watches of this node.
    pub hub: Mutex<WatchHub>,
    pub(crate) leases: Leases,
    standing: Mutex<Standing>,
    ahead: Mutex<Option<Ahead>>,
    waiters: Mutex<Waiters>,
    wake: RwLock<Option<Wake>>,
    clock: Clock,
    stats: Arc<Stats>,
}

/// How far the log is applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: Arc<StoredMembership>,
}

/// What a run of entries changed, on its way to the disk.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) deltas: Vec<Delta>,
    /// The state after them.
    pub(crate) meta: Meta,
    pub(crate) standing: Standing,
    /// Bytes of the commands: a measure of how much waits.
    pub(crate) bytes: u64,
}

/// An entry that was applied before raft asked for it, and what came of it.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) id: LogId,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) block: Option<Block>,
}

#[derive(Default)]
struct Waiters {
    applied: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    revision: BTreeMap<(Revision, u64), oneshot::Sender<()>>,
    leader: Vec<(LeaderId, oneshot::Sender<()>)>,
    next: u64,
}

impl Machine {
    pub(crate) fn new(state: State, hub: WatchHub, standing: Standing, clock: Clock, stats: Arc<Stats>) -> Self {
        Self {
            state: RwLock::new(state),
            hub: Mutex::new(hub),
            leases: Leases::default(),
            standing: Mutex::new(standing),
            ahead: Mutex::default(),
            waiters: Mutex::default(),
            wake: RwLock::new(None),
            clock,
            stats,
        }
    }

    /// The last entry applied, the revision and the hash of the state: equal in all replicas that are at the same entry.
    #[must_use]
    pub fn fingerprint(&self) -> (u64, Revision, u128) {
        let state = self.state.read();
        let applied = self.standing.lock().applied;
        (applied.map_or(0, |applied| applied.index), state.revision(), state.hash())
    }

    pub(crate) fn set_wake(&self, wake: Wake) {
        *self.wake.write() = Some(wake);
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Applies a run of entries; returns the outcomes of each, and what is to be written.
    ///
    /// # Errors
    /// An entry does not decode, or is applied already: this replica is broken.
    pub(crate) fn apply(&self, entries: &[Entry]) -> io::Result<(Vec<Vec<Outcome>>, Option<Block>)> {
        let applied = self.standing.lock().applied.map(|applied| applied.index);
        if let Some(first) = entries.first().map(|entry| entry.log_id.index).filter(|&first| applied >= Some(first)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("entry {first} is applied already")));
        }
        let commands = entries.iter().map(commands_of).collect::<io::Result<Vec<_>>>()?;
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut deltas = Vec::with_capacity(commands.iter().map(Vec::len).sum());
        let mut wakes = Vec::new();
        let mut meta = None;
        let mut next = 0;
        while next < entries.len() {
            let first = deltas.len();
            let mut state = self.state.write();
            let now = self.clock.now();
            while next < entries.len() && deltas.len() - first < HOLD_COMMANDS_MAX {
                let index = entries[next].log_id.index;
                outcomes.push(apply_entry(&mut state, index, &commands[next], &mut deltas));
                next += 1;
            }
            // What a delivery's time is counted from: bench/src/workload/applied.rs reads it.
            tracing::trace!(revision = state.revision().0, "applied");
            {
                let mut hub = self.hub.lock();
                deltas[first..].iter().for_each(|delta| hub.publish(delta, now));
                hub.poll_wakes(&mut wakes);
            }
            self.leases.handle_deltas(&deltas[first..], now);
            self.advance(&entries[..next]);
            let applied = entries[next - 1].log_id.index;
            self.release(entries[next - 1].log_id, state.revision());
            if next == entries.len() {
                meta = Some(Meta::of(&state, applied, bytes::Bytes::new()));
            }
        }
        self.stats.commands_applied.fetch_add(deltas.len() as u64, Ordering::Relaxed);
        if !wakes.is_empty() {
            self.wake(&wakes);
        }
        let bytes = entries
            .iter()
            .map(|entry| if let Payload::Normal(of) = &entry.payload { of.encoded().len() as u64 } else { 0 });
        let block = meta.map(|meta| Block { deltas, meta, standing: self.standing(), bytes: bytes.sum() });
        Ok((outcomes, block))
    }

    /// Applies an entry that is committed although raft has yet to find out, if it is the next one and raft has asked for all
    /// before it. What came of it is kept until raft asks.
    ///
    /// # Errors
    /// It does not decode.
    pub(crate) fn apply_ahead(&self, entry: &Entry) -> io::Result<()> {
        let mut ahead = self.ahead.lock();
        // One at a time, or what came of the first would be lost and raft would apply it again.
        let applied = self.standing.lock().applied;
        if ahead.is_none() && applied.is_some_and(|applied| applied.index + 1 == entry.log_id.index) {
            let (mut outcomes, block) = self.apply(std::slice::from_ref(entry))?;
            let outcomes = outcomes.pop().unwrap_or_default();
            *ahead = Some(Ahead { id: entry.log_id, outcomes, block });
            self.stats.entries_applied_ahead.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What came of an entry that was applied ahead.
    pub(crate) fn take_ahead(&self, id: LogId) -> Option<Ahead> {
        self.ahead.lock().take_if(|ahead| ahead.id == id)
    }

    /// Puts a state that came from another node in place of this one.
    pub(crate) fn install(&self, state: State, history: hither_state::watch::ChangeLog, standing: Standing) {
        let mut wakes = Vec::new();
        // What raft asks for comes after this state from now on.
        *self.ahead.lock() = None;
        {
            let mut current = self.state.write();
            let now = self.clock.now();
            let mut hub = self.hub.lock();
            hub.install(&state, history, now);
            hub.poll_wakes(&mut wakes);
            self.leases.resign();
            let applied = standing.applied;
            *self.standing.lock() = standing;
            if let Some(applied) = applied {
                self.release(applied, state.revision());
            }
            *current = state;
        }
        if !wakes.is_empty() {
            self.wake(&wakes);
        }
    }

    /// Resolves when the log is applied up to `index`.
    pub(crate) fn wait_applied(&self, index: u64) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        self.wait_applied_then(index, done);
        wait
    }

    /// Completes `done` when the log is applied up to `index`.
    pub(crate) fn wait_applied_then(&self, index: u64, done: oneshot::Sender<()>) {
        // Under this lock, so that the applier cannot pass between the look and the entry in the list.
        let mut waiters = self.waiters.lock();
        if self.standing.lock().applied.is_some_and(|applied| applied.index >= index) {
            let _ = done.send(());
            return;
        }
        waiters.forget_the_gone();
        let number = waiters.number();
        waiters.applied.insert((index, number), done);
    }

    /// Resolves when the store is at `revision`.
    pub(crate) fn wait_revision(&self, revision: Revision) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        let state = self.state.read();
        if state.revision() >= revision {
            let _ = done.send(());
            return wait;
        }
        // The state stays locked until the entry is in the list, so that the applier cannot pass between.
        let mut waiters = self.waiters.lock();
        waiters.forget_the_gone();
        let number = waiters.number();
        waiters.revision.insert((revision, number), done);
        wait
    }

    /// Resolves when an entry of `leader` is applied, or of one after it.
    pub(crate) fn wait_leader(&self, leader: LeaderId) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        let mut waiters = self.waiters.lock();
        if self.standing.lock().applied.is_some_and(|applied| applied.leader_id >= leader) {
            let _ = done.send(());
        } else {
            waiters.leader.push((leader, done));
        }
        wait
    }

    /// The time that hub and lessor are driven by.
    pub(crate) fn now(&self) -> hither_protocol::Moment {
        self.clock.now()
    }

    fn advance(&self, entries: &[Entry]) {
        let mut standing = self.standing.lock();
        for entry in entries {
            standing.applied = standing.applied.max(Some(entry.log_id));
            if let Payload::Membership(membership) = &entry.payload {
                standing.membership = Arc::new(StoredMembership::new(Some(entry.log_id), membership.clone()));
            }
        }
    }

    fn release(&self, applied: LogId, revision: Revision) {
        let mut waiters = self.waiters.lock();
        for (_, done) in waiters.leader.extract_if(.., |(leader, _)| *leader <= applied.leader_id) {
            let _ = done.send(());
        }
        while let Some(entry) = waiters.applied.first_entry().filter(|entry| entry.key().0 <= applied.index) {
            let _ = entry.remove().send(());
        }
        while let Some(entry) = waiters.revision.first_entry().filter(|entry| entry.key().0 <= revision) {
            let _ = entry.remove().send(());
        }
    }

    fn wake(&self, connections: &[ConnectionId]) {
        let wake = self.wake.read().clone();
        if let Some(wake) = wake {
            wake(connections);
        }
    }
}

impl Waiters {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Callers that ran out of patience leave their entry behind; each new one clears some, so that they do not pile up.
    fn forget_the_gone(&mut self) {
        if (self.applied.len() + self.revision.len()).is_power_of_two() {
            self.applied.retain(|_, done| !done.is_closed());
            self.revision.retain(|_, done| !done.is_closed());
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("standing", &self.standing).finish_non_exhaustive()
    }
}

fn commands_of(entry: &Entry) -> io::Result<Vec<Command>> {
    let Payload::Normal(commands) = &entry.payload else { return Ok(Vec::new()) };
    commands
        .take()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("entry {}: {error}", entry.log_id.index)))
}

fn apply_entry(state: &mut State, index: u64, commands: &[Command], deltas: &mut Vec<Delta>) -> Vec<Outcome> {
    let apply = |(offset, command): (u16, &Command)| {
        let applied = state.apply(Position { index, offset }, command);
        let outcome = Outcome { revision: applied.delta.revision, answer: applied.outcome };
        deltas.push(applied.delta);
        outcome
    };
    (0..=u16::MAX).zip(commands).map(apply).collect()
}
