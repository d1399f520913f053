//! What a process has registered: declared once, and again after any loss, until it is withdrawn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::message::{Compare, Delete, Put, Relation, Txn, TxnOp, TxnReply, TxnResult};
use hither_protocol::{Applied, Entry, ErrorCode, Key, KeyRange, LeaseId, Moment, Revision};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::instance::Instance;
use crate::registry::tombstone::{Lease, Tombstones, tombstone};

/// Instances declared in one transaction: each takes one operation and at most two conditions.
const BATCH_MAX: usize = 128;
/// The same in bytes of records: half a frame, for what is around them.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What an instance is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// A lease of this time to live, which the client keeps. All its instances of one time to live share it.
    Kept(Duration),
    /// A lease of the caller's.
    Given(LeaseId),
    /// Nothing.
    Free,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// Grants a lease and keeps it, and does not revoke it if it is lost; then
    /// [`Declarations::handle_granted`].
    Grant {
        /// Its time to live.
        ttl: Duration,
    },
    /// Grants a lease that nobody keeps; then [`Declarations::handle_tombstones`].
    GrantTombstones {
        /// Its time to live.
        ttl: Duration,
    },
    /// Runs a transaction; then [`Declarations::handle_answer`].
    Run {
        /// Names it.
        id: u64,
        /// It.
        txn: Txn,
    },
    /// Nothing is tied to this lease any more: ends it.
    Release {
        /// It.
        lease: LeaseId,
    },
}

/// What the application is to be told.
#[derive(Clone, Debug)]
pub enum Note {
    /// An instance is in the registry, as it is now.
    Declared {
        /// Which.
        member: u64,
        /// As it stands there, its epoch too.
        instance: Box<Instance>,
        /// The revision of the write.
        revision: Revision,
    },
    /// An instance must be taken as gone. It is declared again.
    Lost {
        /// Which.
        member: u64,
        /// Why the last attempt to declare it again failed, if there was one.
        error: Option<Error>,
    },
    /// An instance was given up: it was withdrawn, or its id is another registration's. The last note of it.
    Gone {
        /// Which.
        member: u64,
        /// The revision that took it out, if this did.
        revision: Option<Revision>,
        /// Why, unless it was asked for.
        error: Option<Error>,
    },
    /// What the application asked for is done, or will not be.
    Done {
        /// The number that it was asked under.
        op: u64,
        /// Whether something changed.
        outcome: Result<bool, Error>,
    },
}

/// The instances that a client has registered.
///
/// Told what happened (`handle_*`) and asked what to do ([`poll_need`](Self::poll_need)) and what to tell
/// ([`poll_note`](Self::poll_note)), like the core. An instance is this registration's as long as its key has the
/// create revision and the lease that it was declared with; every write to it is bound to both, so that a registration
/// that was replaced changes nothing.
#[derive(Debug)]
pub struct Declarations {
    members: BTreeMap<u64, Member>,
    /// The member that stands for a key.
    keys: BTreeMap<Key, u64>,
    groups: BTreeMap<Tie, Group>,
    running: BTreeMap<u64, Running>,
    /// Keys that are being withdrawn: nothing is declared there meanwhile.
    withdrawing: BTreeSet<Key>,
    tombstones: Tombstones,
    notes: VecDeque<Note>,
    /// Leases that were lost. The server may go on with them, and with what is tied to them.
    lost: BTreeSet<LeaseId>,
    releases: VecDeque<LeaseId>,
    backoff: Backoff,
    random: SmallRng,
    next_txn: u64,
}

#[derive(Debug)]
struct Member {
    instance: Instance,
    tie: Tie,
    /// The lease that it was declared with last.
    lease: Option<LeaseId>,
    phase: Phase,
    /// What to tell once it is declared, or cannot be.
    waiting: Vec<u64>,
    updates: VecDeque<(u64, Instance)>,
    leave: Option<Leave>,
    /// Its own record is still there from before the loss.
    left_behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be declared for the first time.
    New,
    /// To be declared again.
    Lost,
    Declared,
    /// A transaction about it is on its way.
    Busy,
    /// To be withdrawn, not before this moment.
    Leaving(Moment),
}

#[derive(Clone, Debug, Default)]
struct Leave {
    ops: Vec<u64>,
    /// The record to leave behind.
    stopped_at: Option<String>,
}

#[derive(Debug)]
struct Group {
    lease: Option<LeaseId>,
    granting: bool,
    declaring: bool,
    backoff: Backoff,
    retry_at: Moment,
}

#[derive(Debug)]
enum Running {
    Declare { tie: Tie, lease: Option<LeaseId>, members: Vec<u64> },
    Update { member: u64, op: u64, instance: Box<Instance> },
    Withdraw { member: u64, key: Key },
}

impl Declarations {
    /// Of a client that has registered nothing. `backoff`: the first and the longest wait between attempts.
    #[must_use]
    pub fn new(backoff: (Duration, Duration), seed: u64) -> Self {
        Self {
            members: BTreeMap::new(),
            keys: BTreeMap::new(),
            groups: BTreeMap::new(),
            running: BTreeMap::new(),
            withdrawing: BTreeSet::new(),
            tombstones: Tombstones::default(),
            notes: VecDeque::new(),
            lost: BTreeSet::new(),
            releases: VecDeque::new(),
            backoff: Backoff::new(backoff.0, backoff.1),
            random: SmallRng::seed_from_u64(seed),
            next_txn: 0,
        }
    }

    /// Whether nothing is registered, and nothing remains to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.running.is_empty() && self.releases.is_empty()
    }

    /// Registers an instance, which must have passed its check. `member` and `op`: numbers never used before.
    pub fn handle_register(&mut self, now: Moment, member: u64, op: u64, instance: Instance, tie: Tie) {
        self.supersede(&instance);
        let lease = match tie {
            Tie::Given(lease) => Some(lease),
            Tie::Kept(_) | Tie::Free => None,
        };
        let backoff = self.backoff.clone();
        self.groups.entry(tie).or_insert_with(|| Group {
            lease,
            granting: false,
            declaring: false,
            backoff,
            retry_at: now,
        });
        let new = Member {
            instance,
            tie,
            lease: None,
            phase: Phase::New,
            waiting: vec![op],
            updates: VecDeque::new(),
            leave: None,
            left_behind: false,
        };
        self.keys.insert(new.instance.key(), member);
        self.members.insert(member, new);
    }

    /// Of two registrations of one id in one process the later holds.
    fn supersede(&mut self, by: &Instance) {
        if let Some(before) = self.keys.get(&by.key()).copied() {
            let error = Error::new(ErrorCode::Conflict, format!("{} was registered again by this client", by.key()));
            self.give_up(before, None, Some(error));
        }
    }

    /// Changes the record of an instance; its names must be the same.
    pub fn handle_update(&mut self, member: u64, op: u64, instance: Instance) {
        match self.members.get_mut(&member) {
            Some(of) if of.leave.is_none() => match of.phase {
                Phase::New | Phase::Lost => {
                    of.instance = Instance { epoch: of.instance.epoch, ..instance };
                    of.waiting.push(op);
                }
                Phase::Declared | Phase::Busy | Phase::Leaving(_) => of.updates.push_back((op, instance)),
            },
            _ => self.done(op, Err(gone())),
        }
    }

    /// Takes an instance out, and leaves behind when it stopped. Without `op` nobody waits for it.
    pub fn handle_withdraw(&mut self, now: Moment, member: u64, op: Option<u64>, stopped_at: Option<String>) {
        let Some(of) = self.members.get_mut(&member) else {
            if let Some(op) = op {
                self.done(op, Err(gone()));
            }
            return;
        };
        let leave = of.leave.get_or_insert_default();
        leave.ops.extend(op);
        leave.stopped_at = stopped_at.or(leave.stopped_at.take());
        match of.phase {
            Phase::New => self.give_up(member, None, None),
            Phase::Lost | Phase::Declared => of.phase = Phase::Leaving(now),
            Phase::Busy | Phase::Leaving(_) => {}
        }
    }

    /// Nobody looks after an instance any more. It stays for as long as what it is tied to.
    pub fn handle_forget(&mut self, member: u64) {
        self.give_up(member, None, None);
    }

    /// The process stops: what hangs on leases that the client keeps is taken out.
    pub fn handle_close(&mut self, now: Moment, stopped_at: &str) {
        let members: Vec<(u64, Tie)> = self.members.iter().map(|(id, member)| (*id, member.tie)).collect();
        for (member, tie) in members {
            match tie {
                Tie::Kept(_) => self.handle_withdraw(now, member, None, Some(stopped_at.to_owned())),
                Tie::Given(_) | Tie::Free => self.handle_forget(member),
            }
        }
    }

    /// The lease that was asked for.
    pub fn handle_granted(&mut self, now: Moment, ttl: Duration, outcome: Result<LeaseId, Error>) {
        let tie = Tie::Kept(ttl);
        let Some(group) = self.groups.get_mut(&tie) else {
            // Whoever wanted it is gone.
            self.releases.extend(outcome);
            return;
        };
        group.granting = false;
        match outcome {
            Ok(lease) => group.lease = Some(lease),
            Err(error) => {
                let members = self.to_declare(tie);
                self.failed(now, tie, &members, &error);
            }
        }
    }

    /// The lease for what stopped instances leave behind.
    pub fn handle_tombstones(&mut self, now: Moment, outcome: Result<LeaseId, Error>) {
        self.tombstones.handle_granted(now, outcome.ok());
    }

    /// A lease that was granted must be taken as lost, and what is tied to it.
    pub fn handle_lost(&mut self, lease: LeaseId) {
        for group in self.groups.values_mut().filter(|group| group.lease == Some(lease)) {
            group.lease = None;
            self.lost.insert(lease);
        }
        let mut notes = Vec::new();
        for (id, member) in self.members.iter_mut().filter(|(_, member)| member.lease == Some(lease)) {
            if member.phase == Phase::Declared {
                member.phase = Phase::Lost;
                member.waiting.extend(member.updates.drain(..).map(|(op, instance)| {
                    member.instance = Instance { epoch: member.instance.epoch, ..instance };
                    op
                }));
            }
            if matches!(member.phase, Phase::Lost | Phase::Busy) {
                notes.push(Note::Lost { member: *id, error: None });
            }
        }
        self.notes.extend(notes);
    }

    /// What a transaction came to.
    pub fn handle_answer(&mut self, now: Moment, id: u64, outcome: Result<TxnReply, Error>) {
        match self.running.remove(&id) {
            Some(Running::Declare { tie, lease, members }) => {
                if let Some(group) = self.groups.get_mut(&tie) {
                    group.declaring = false;
                }
                match outcome {
                    Ok(reply) => self.declared(now, tie, lease, &reply, &members),
                    Err(error) => self.not_declared(now, tie, lease, &members, &error),
                }
            }
            Some(Running::Update { member, op, instance }) => self.updated(now, member, op, *instance, outcome),
            Some(Running::Withdraw { member, key }) => {
                self.withdrawing.remove(&key);
                self.withdrawn(now, member, outcome);
            }
            None => {}
        }
    }

    /// When to ask [`poll_need`](Self::poll_need) again although nothing happened.
    #[must_use]
    pub fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        let leaving = self.members.values().filter_map(|member| match member.phase {
            Phase::Leaving(at) => Some(at),
            _ => None,
        });
        let groups = self.groups.iter().filter(|(tie, group)| {
            !group.granting && !group.declaring && self.members.values().any(|member| member.is_due(**tie))
        });
        leaving.chain(groups.map(|(_, group)| group.retry_at)).filter(|at| *at > now).min()
    }

    /// The next thing to tell.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// The next thing to do.
    pub fn poll_need(&mut self, now: Moment) -> Option<Need> {
        self.poll_declare(now)
            .or_else(|| self.poll_update())
            .or_else(|| self.poll_withdraw(now))
            .or_else(|| self.poll_release())
    }

    fn poll_declare(&mut self, now: Moment) -> Option<Need> {
        let ready = |tie: &Tie, group: &Group| {
            let idle = !group.granting && !group.declaring && group.retry_at <= now;
            idle && self.members.values().any(|member| member.is_due(*tie) && !self.is_withdrawing(member))
        };
        let tie = *self.groups.iter().find(|(tie, group)| ready(tie, group))?.0;
        let group = self.groups.get_mut(&tie)?;
        if let (Tie::Kept(ttl), None) = (tie, group.lease) {
            group.granting = true;
            return Some(Need::Grant { ttl });
        }
        let lease = group.lease;
        group.declaring = true;
        // Again and for the first time are bound to different conditions, so they do not mix. What was lost goes first.
        let mut members = self.to_declare(tie);
        let again = members.iter().any(|id| self.members[id].phase == Phase::Lost);
        let wanted = if again { Phase::Lost } else { Phase::New };
        members.retain(|id| self.members[id].phase == wanted && !self.is_withdrawing(&self.members[id]));
        members.truncate(BATCH_MAX);
        let mut txn = Txn::default();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for id in members {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let value = Bytes::from(member.instance.to_json());
            bytes += value.len();
            if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                break;
            }
            batch.push(id);
            member.phase = Phase::Busy;
            let key = member.instance.key();
            if again {
                txn.when.extend(member.conditions(member.left_behind));
                txn.otherwise.push(TxnOp::Get(key.clone()));
            }
            txn.then.push(TxnOp::Put(Put { key, value, lease, previous: true }));
        }
        Some(self.run(Running::Declare { tie, lease, members: batch }, txn))
    }

    fn poll_update(&mut self) -> Option<Need> {
        let due = |member: &Member| member.phase == Phase::Declared && !member.updates.is_empty();
        let (id, member) = self.members.iter_mut().find(|(_, member)| due(member))?;
        let (op, instance) = member.updates.pop_front()?;
        member.phase = Phase::Busy;
        let key = member.instance.key();
        let value = instance.to_json().into();
        let put = Put { key: key.clone(), value, lease: member.lease, previous: false };
        let when = member.conditions(true);
        let txn = Txn { when, then: vec![TxnOp::Put(put)], otherwise: vec![TxnOp::Get(key)] };
        let running = Running::Update { member: *id, op, instance: Box::new(instance) };
        Some(self.run(running, txn))
    }

    fn poll_withdraw(&mut self, now: Moment) -> Option<Need> {
        let due = |member: &Member| matches!(member.phase, Phase::Leaving(at) if at <= now);
        let speaks = |member: &Member| member.leave.as_ref().is_some_and(|leave| leave.stopped_at.is_some());
        let first = |speaking: bool| {
            self.members.iter().find(|(_, member)| due(member) && speaks(member) == speaking).map(|(id, _)| *id)
        };
        let (quiet, speaking) = (first(false), first(true));
        let (id, lease) = match (quiet, speaking) {
            (Some(id), _) => (id, None),
            (None, Some(id)) => match self.tombstones.lease(now) {
                Lease::There(lease) => (id, Some(lease)),
                Lease::Ask(ttl) => return Some(Need::GrantTombstones { ttl }),
                Lease::Asked => return None,
                // Going is more important than what is left behind.
                Lease::None => (id, None),
            },
            (None, None) => return None,
        };
        let member = self.members.get_mut(&id)?;
        let key = member.instance.key();
        let mut then = vec![TxnOp::Delete(Delete { range: KeyRange::One(key.clone()), previous: false })];
        if let (Some(lease), Some(at)) = (lease, member.leave.as_ref().and_then(|leave| leave.stopped_at.as_ref())) {
            then.push(TxnOp::Put(tombstone(&member.instance, at, lease)));
        }
        member.phase = Phase::Busy;
        let when = member.conditions(true);
        let txn = Txn { when, then, otherwise: vec![TxnOp::Get(key.clone())] };
        self.withdrawing.insert(key.clone());
        Some(self.run(Running::Withdraw { member: id, key }, txn))
    }

    fn poll_release(&mut self) -> Option<Need> {
        let unused = |tie: &Tie| !self.members.values().any(|member| member.tie == *tie);
        let ties: Vec<Tie> = self.groups.keys().filter(|tie| unused(tie)).copied().collect();
        for tie in ties {
            let group = self.groups.remove(&tie);
            if let (Tie::Kept(_), Some(lease)) = (tie, group.and_then(|group| group.lease)) {
                self.releases.push_back(lease);
            }
        }
        // The old lease goes when everything has moved to the new one: finders see no gap.
        let used = |lease: &LeaseId| self.members.values().any(|member| member.lease == Some(*lease));
        if let Some(lease) = self.lost.iter().find(|lease| !used(lease)).copied() {
            self.lost.remove(&lease);
            self.releases.push_back(lease);
        }
        self.releases.pop_front().map(|lease| Need::Release { lease })
    }

    fn run(&mut self, running: Running, txn: Txn) -> Need {
        self.next_txn += 1;
        self.running.insert(self.next_txn, running);
        Need::Run { id: self.next_txn, txn }
    }

    fn is_withdrawing(&self, member: &Member) -> bool {
        !self.withdrawing.is_empty() && self.withdrawing.contains(&member.instance.key())
    }

    fn to_declare(&self, tie: Tie) -> Vec<u64> {
        self.members.iter().filter(|(_, member)| member.is_due(tie)).map(|(id, _)| *id).collect()
    }

    fn declared(&mut self, now: Moment, tie: Tie, lease: Option<LeaseId>, reply: &TxnReply, members: &[u64]) {
        let mut results = reply.results.iter();
        for id in members {
            let result = results.next();
            let Some(member) = self.members.get_mut(id).filter(|member| member.phase == Phase::Busy) else { continue };
            if !reply.succeeded {
                self.look(now, *id, result);
                continue;
            }
            member.lease = lease;
            member.left_behind = false;
            if let Some(TxnResult::Put(put)) = result {
                member.instance.epoch = put.previous.as_ref().map_or(reply.revision, |entry| entry.create_revision);
                self.stand(now, *id, reply.revision);
            } else {
                // A retry whose results the server no longer knows: what hangs on its lease is looked at once more.
                member.instance.epoch = Revision::ZERO;
                member.rest(now, Phase::Lost);
            }
        }
        if let Some(group) = self.groups.get_mut(&tie) {
            group.backoff.reset();
        }
    }

    /// An instance is in the registry.
    fn stand(&mut self, now: Moment, id: u64, revision: Revision) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let lost = member.is_lost(&self.groups);
        member.rest(now, if lost { Phase::Lost } else { Phase::Declared });
        let waiting = std::mem::take(&mut member.waiting);
        self.notes.push_back(Note::Declared { member: id, instance: Box::new(member.instance.clone()), revision });
        if lost {
            self.notes.push_back(Note::Lost { member: id, error: None });
        }
        for op in waiting {
            self.done(op, Ok(true));
        }
    }

    /// What stands where an instance was to be declared again.
    fn look(&mut self, now: Moment, id: u64, result: Option<&TxnResult>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let entry = match result {
            Some(TxnResult::Get(get)) => get.entry.as_ref(),
            _ => None,
        };
        member.rest(now, Phase::Lost);
        match entry {
            None => member.left_behind = false,
            Some(entry) if member.owns(entry) => {
                member.instance.epoch = entry.create_revision;
                member.left_behind = true;
            }
            Some(_) => {
                let error = taken(&member.instance);
                self.give_up(id, None, Some(error));
            }
        }
    }

    fn not_declared(&mut self, now: Moment, tie: Tie, lease: Option<LeaseId>, members: &[u64], error: &Error) {
        let busy = |id: &&u64| self.members.get(id).is_some_and(|member| member.phase == Phase::Busy);
        let members: Vec<u64> = members.iter().filter(busy).copied().collect();
        for id in &members {
            let Some(member) = self.members.get_mut(id) else { continue };
            // Whatever was declared before has the lease that it was declared with.
            let new = member.lease.is_none() && member.instance.epoch == Revision::ZERO;
            member.phase = if new { Phase::New } else { Phase::Lost };
            if new && lease.is_some() && error.applied() == Applied::Unknown {
                // It may be there all the same, and what others hang on the lease for would keep it.
                member.lease = lease;
                member.leave.get_or_insert_default();
            }
        }
        if error.code() == ErrorCode::LeaseNotFound
            && let (Tie::Kept(_), Some(lease)) = (tie, lease)
        {
            self.handle_lost(lease);
            for id in members {
                if let Some(member) = self.members.get_mut(&id) {
                    member.rest(now, member.phase);
                }
            }
            return;
        }
        self.failed(now, tie, &members, error);
    }

    /// An attempt to declare failed. Those who wait for the first one are told; the others are tried again.
    fn failed(&mut self, now: Moment, tie: Tie, members: &[u64], error: &Error) {
        let over = matches!(tie, Tie::Given(_)) && error.code() == ErrorCode::LeaseNotFound;
        let mut told = false;
        for id in members {
            let Some(member) = self.members.get_mut(id) else { continue };
            if over || member.phase == Phase::New && member.lease.is_none() {
                self.give_up(*id, None, Some(error.clone()));
                continue;
            }
            let new = member.phase == Phase::New;
            member.rest(now, Phase::Lost);
            if new {
                for op in std::mem::take(&mut member.waiting) {
                    self.done(op, Err(error.clone()));
                }
            } else if !std::mem::replace(&mut told, true) {
                // That they are lost was told before; why they still are, one stands for all.
                self.notes.push_back(Note::Lost { member: *id, error: Some(error.clone()) });
            }
        }
        if let Some(group) = self.groups.get_mut(&tie) {
            group.retry_at = now + group.backoff.next(&mut self.random);
        }
    }

    fn updated(&mut self, now: Moment, id: u64, op: u64, instance: Instance, outcome: Result<TxnReply, Error>) {
        let Some(member) = self.members.get_mut(&id) else {
            self.done(op, Err(gone()));
            return;
        };
        let instance = Instance { epoch: member.instance.epoch, ..instance };
        match outcome {
            Ok(reply) if reply.succeeded => {
                member.instance = instance;
                self.stand(now, id, reply.revision);
                self.done(op, Ok(true));
                return;
            }
            Ok(reply) => {
                let other = match reply.results.first() {
                    Some(TxnResult::Get(get)) => get.entry.as_ref().is_some_and(|entry| !member.owns(entry)),
                    _ => false,
                };
                let error = if other { taken(&member.instance) } else { missing(&member.instance) };
                if other {
                    self.give_up(id, None, Some(error.clone()));
                }
                self.done(op, Err(error));
            }
            Err(error) if error.code() == ErrorCode::LeaseNotFound && matches!(member.tie, Tie::Kept(_)) => {
                // It is declared again as it is to be.
                member.instance = instance;
                member.waiting.push(op);
                let lease = member.lease;
                lease.into_iter().for_each(|lease| self.handle_lost(lease));
            }
            Err(error) => self.done(op, Err(error)),
        }
        if let Some(member) = self.members.get_mut(&id) {
            let lost = member.is_lost(&self.groups);
            member.rest(now, if lost { Phase::Lost } else { Phase::Declared });
        }
    }

    fn withdrawn(&mut self, now: Moment, id: u64, outcome: Result<TxnReply, Error>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let ops = member.leave.as_mut().map(|leave| std::mem::take(&mut leave.ops)).unwrap_or_default();
        let (told, revision, over) = match outcome {
            Ok(reply) => {
                let other = match reply.results.first() {
                    Some(TxnResult::Get(get)) => get.entry.is_some(),
                    _ => false,
                };
                let told = if other && !reply.succeeded { Err(taken(&member.instance)) } else { Ok(reply.succeeded) };
                (told, reply.succeeded.then_some(reply.revision), true)
            }
            // What it was tied to has ended, and with it this.
            Err(error) if error.code() == ErrorCode::Closed => (Err(error), None, true),
            Err(error) => (Err(error), None, false),
        };
        // How it stands is told before whoever asked goes on.
        if over {
            self.give_up(id, revision, told.clone().err());
        } else if let Some(member) = self.members.get_mut(&id) {
            // A lease that others share would keep it for ever.
            let mut backoff = self.backoff.clone();
            member.phase = Phase::Leaving(now + backoff.next(&mut self.random).max(AGAIN));
        }
        for op in ops {
            self.done(op, told.clone());
        }
    }

    /// Forgets an instance, and tells everyone who waits for it.
    fn give_up(&mut self, id: u64, revision: Option<Revision>, error: Option<Error>) {
        let Some(member) = self.members.remove(&id) else { return };
        let key = member.instance.key();
        if self.keys.get(&key) == Some(&id) {
            self.keys.remove(&key);
        }
        let updates = member.updates.into_iter().map(|(op, _)| op);
        for op in member.waiting.into_iter().chain(updates) {
            self.done(op, Err(error.clone().unwrap_or_else(gone)));
        }
        for op in member.leave.into_iter().flat_map(|leave| leave.ops) {
            self.done(op, Ok(false));
        }
        self.notes.push_back(Note::Gone { member: id, revision, error });
    }

    fn done(&mut self, op: u64, outcome: Result<bool, Error>) {
        self.notes.push_back(Note::Done { op, outcome });
    }
}

/// Between two attempts to withdraw what nobody waits for.
const AGAIN: Duration = Duration::from_secs(1);

impl Member {
    /// Nothing about it is on its way any more.
    fn rest(&mut self, now: Moment, phase: Phase) {
        self.phase = if self.leave.is_some() { Phase::Leaving(now) } else { phase };
    }

    /// Whether the lease that it was declared with was lost.
    fn is_lost(&self, groups: &BTreeMap<Tie, Group>) -> bool {
        matches!(self.tie, Tie::Kept(_)) && groups.get(&self.tie).is_none_or(|group| group.lease != self.lease)
    }

    fn is_due(&self, tie: Tie) -> bool {
        self.tie == tie && matches!(self.phase, Phase::New | Phase::Lost)
    }

    /// What must hold so that a write to it is a write to this registration's record.
    fn conditions(&self, there: bool) -> Vec<Compare> {
        let key = self.instance.key();
        if !there {
            return vec![Compare::Absent(key)];
        }
        let lease = Compare::Lease(key.clone(), self.lease);
        if self.instance.epoch == Revision::ZERO {
            // It may have been declared, and nobody knows when: what hangs on its lease is its own.
            return vec![lease];
        }
        vec![Compare::CreateRevision(key, Relation::Equal, self.instance.epoch), lease]
    }

    fn owns(&self, entry: &Entry) -> bool {
        let epoch = self.instance.epoch;
        entry.lease == self.lease && (epoch == Revision::ZERO || epoch == entry.create_revision)
    }
}

fn taken(instance: &Instance) -> Error {
    let detail =
        format!("{} is another registration's by now; this one's was of epoch {}", instance.key(), instance.epoch);
    Error::new(ErrorCode::Conflict, detail)
}

fn missing(instance: &Instance) -> Error {
    let detail = format!("{} is not there any more: somebody has deregistered it", instance.key());
    Error::new(ErrorCode::NotFound, detail)
}

fn gone() -> Error {
    Error::new(ErrorCode::NotFound, "this registration was given up before")
}
