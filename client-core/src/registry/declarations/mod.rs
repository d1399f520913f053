//! What a process has registered: declared once, and again after any loss, until it is withdrawn.

mod answers;
mod member;
mod needs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hither_protocol::message::{Txn, TxnReply};
use hither_protocol::{ErrorCode, Key, LeaseId, Moment, Revision};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::member::{Group, Member, Phase, gone};
use crate::backoff::Backoff;
use crate::error::Error;
use crate::instance::Instance;
use crate::registry::tombstone::Tombstones;

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
