//! The task that keeps what a client has registered: the shell of [`Declarations`].

use std::collections::HashMap;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hither_client_core::{Declarations, Error, Instance, Need, OnLoss, RegistryNote, Tie};
use hither_protocol::LeaseId;
use hither_protocol::message::TxnReply;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::{mpsc, oneshot, watch};

use super::registration::rfc3339;
use crate::client::{Client, closed};
use crate::clock;
use crate::lease::Lease;

/// How long what was let go of may take to be withdrawn once the client ends: its session ends then, and everything
/// that hangs on it.
const LINGER: Duration = Duration::from_secs(1);

/// What is asked of the keeper.
#[derive(Debug)]
pub(super) enum Ask {
    Register { member: u64, instance: Instance, tie: Tie, standing: watch::Sender<Standing>, reply: Answer },
    Update { member: u64, instance: Instance, reply: Answer },
    Withdraw { member: u64, reply: Option<Answer> },
    Forget { member: u64 },
    Close { done: oneshot::Sender<()> },
}

type Answer = oneshot::Sender<Result<bool, Error>>;

/// How a registration stands, and its record.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) phase: Phase,
    pub(super) instance: Instance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Declared,
    Lost,
    Gone,
}

/// What a future came to.
enum Event {
    Granted(Duration, Result<Lease, Error>),
    Tombstones(Result<LeaseId, Error>),
    Answer(u64, Result<TxnReply, Error>),
    Lost(LeaseId),
}

type Work = FuturesUnordered<Pin<Box<dyn Future<Output = Event> + Send>>>;

struct Keeper {
    client: Client,
    declarations: Declarations,
    work: Work,
    leases: HashMap<LeaseId, Lease>,
    members: HashMap<u64, (String, watch::Sender<Standing>)>,
    answers: HashMap<u64, Answer>,
    closers: Vec<oneshot::Sender<()>>,
    next_op: u64,
    /// It was said that what is lost could not be declared again.
    warned: bool,
}

/// Keeps registrations until the last handle of the client is gone.
pub(super) async fn keep(client: Client, mut asks: mpsc::UnboundedReceiver<Ask>, mut ending: watch::Receiver<()>) {
    let options = client.options();
    let backoff = (options.backoff_min, options.backoff_max);
    let mut keeper = Keeper {
        declarations: Declarations::new(backoff, SmallRng::from_os_rng().next_u64()),
        client,
        work: Work::new(),
        leases: HashMap::new(),
        members: HashMap::new(),
        answers: HashMap::new(),
        closers: Vec::new(),
        next_op: 0,
        warned: false,
    };
    let mut ended = false;
    let mut linger = std::pin::pin!(tokio::time::sleep(Duration::MAX));
    loop {
        keeper.turn();
        if keeper.declarations.is_empty() {
            for done in keeper.closers.drain(..) {
                // Whoever stopped waiting needs no answer.
                let _ = done.send(());
            }
            if ended && asks.is_empty() {
                return;
            }
        }
        let wake = keeper.declarations.poll_timeout(clock::now());
        let sleep = wake.map(|at| at.since(clock::now())).unwrap_or_default();
        tokio::select! {
            Some(ask) = asks.recv() => keeper.take(ask),
            Some(event) = keeper.work.next() => keeper.happened(event),
            () = tokio::time::sleep(sleep), if wake.is_some() => {}
            // An error is what it waits for: the other side is gone.
            _ = ending.changed(), if !ended => {
                ended = true;
                linger.set(tokio::time::sleep(LINGER));
            }
            () = &mut linger, if ended => return,
        }
    }
}

impl Keeper {
    /// Does and tells what there is to do and to tell.
    fn turn(&mut self) {
        loop {
            while let Some(note) = self.declarations.poll_note() {
                self.tell(note);
            }
            let Some(need) = self.declarations.poll_need(clock::now()) else { return };
            self.work(need);
        }
    }

    fn take(&mut self, ask: Ask) {
        let now = clock::now();
        match ask {
            Ask::Register { member, instance, tie, standing, reply } => {
                self.members.insert(member, (instance.service.clone(), standing));
                let op = self.op(reply);
                self.declarations.handle_register(now, member, op, instance, tie);
            }
            Ask::Update { member, instance, reply } => {
                let op = self.op(reply);
                self.declarations.handle_update(member, op, instance);
            }
            Ask::Withdraw { member, reply } => {
                let op = reply.map(|reply| self.op(reply));
                self.declarations.handle_withdraw(now, member, op, Some(rfc3339(SystemTime::now())));
            }
            Ask::Forget { member } => self.declarations.handle_forget(member),
            Ask::Close { done } => {
                self.closers.push(done);
                self.declarations.handle_close(now, &rfc3339(SystemTime::now()));
            }
        }
    }

    fn op(&mut self, reply: Answer) -> u64 {
        self.next_op += 1;
        self.answers.insert(self.next_op, reply);
        self.next_op
    }

    fn work(&mut self, need: Need) {
        let client = self.client.clone();
        match need {
            Need::Grant { ttl } => self.work.push(Box::pin(async move {
                // Whoever moves what hangs on it lets go of it then.
                Event::Granted(ttl, client.keep_lease(ttl, OnLoss::Leave).await)
            })),
            Need::GrantTombstones { ttl } => self.work.push(Box::pin(async move {
                Event::Tombstones(client.lease_grant(ttl).await.map(|granted| granted.lease))
            })),
            Need::Run { id, txn } => self.work.push(Box::pin(async move {
                let answer = client.ask(txn, None).await;
                Event::Answer(id, answer.map(|(_, reply)| reply))
            })),
            Need::Release { lease } => drop(self.leases.remove(&lease)),
        }
    }

    fn happened(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Granted(ttl, outcome) => {
                let outcome = outcome.map(|lease| {
                    let (id, losing) = (lease.id(), lease.losing());
                    self.leases.insert(id, lease);
                    self.work.push(Box::pin(async move {
                        losing.await;
                        Event::Lost(id)
                    }));
                    id
                });
                self.declarations.handle_granted(now, ttl, outcome);
            }
            Event::Tombstones(outcome) => self.declarations.handle_tombstones(now, outcome),
            Event::Answer(id, outcome) => self.declarations.handle_answer(now, id, outcome),
            // One that was let go of is nobody's loss.
            Event::Lost(lease) if self.leases.contains_key(&lease) => self.declarations.handle_lost(lease),
            Event::Lost(_) => {}
        }
    }

    fn tell(&mut self, note: RegistryNote) {
        match note {
            RegistryNote::Declared { member, instance, revision } => {
                self.warned = false;
                self.client.wrote(&instance.service, revision);
                self.stand(member, |standing| *standing = Standing { phase: Phase::Declared, instance: *instance });
            }
            RegistryNote::Lost { member, error } => {
                // Said once: it is tried again and again.
                if let Some(error) = error
                    && !std::mem::replace(&mut self.warned, true)
                {
                    tracing::warn!(%error, "what this client registered was lost and cannot be declared again yet");
                }
                self.stand(member, |standing| standing.phase = Phase::Lost);
            }
            RegistryNote::Gone { member, revision, error } => {
                if let (Some((service, _)), Some(revision)) = (self.members.get(&member), revision) {
                    self.client.wrote(service, revision);
                }
                if let Some(error) = error {
                    tracing::warn!(%error, "a registration is over");
                }
                self.stand(member, |standing| standing.phase = Phase::Gone);
                self.members.remove(&member);
            }
            RegistryNote::Done { op, outcome } => {
                if let Some(reply) = self.answers.remove(&op) {
                    // Whoever stopped waiting needs no answer.
                    let _ = reply.send(outcome);
                }
            }
        }
    }

    fn stand(&self, member: u64, change: impl FnOnce(&mut Standing)) {
        if let Some((_, standing)) = self.members.get(&member) {
            standing.send_modify(change);
        }
    }
}

impl Client {
    /// Asks the keeper, which is started by the first who does.
    pub(super) fn ask_keeper(&self, ask: Ask) -> Result<(), Error> {
        let mut keeper = self.registry().keeper();
        let asks = keeper.get_or_insert_with(|| {
            let (asks, receiver) = mpsc::unbounded_channel();
            self.spawn(keep(self.inner(), receiver, self.ending()));
            asks
        });
        asks.send(ask).map_err(|_| closed())
    }

    /// Takes out what is registered, if anything is, and waits for it shortly.
    pub(crate) async fn withdraw_all(&self) {
        let (done, withdrawn) = oneshot::channel();
        let asked = self.registry().keeper().as_ref().is_some_and(|asks| asks.send(Ask::Close { done }).is_ok());
        if asked {
            tokio::select! {
                _ = withdrawn => {}
                () = self.sleep(LINGER) => {}
            }
        }
    }
}
