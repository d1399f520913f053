//! Whom the driver tells what.

use std::collections::HashMap;
use std::sync::Arc;

use hither_client_core::{Core, Error, Note, SessionState, Signal, Update};
use hither_protocol::message::LeaseGrantReply;
use hither_protocol::{LeaseId, Moment, Revision, SessionId};
use tokio::sync::{oneshot, watch};

use super::links::Links;
use super::renewal::{RENEWAL, Renewal};
use super::{Outcome, StateOnDrop};
use crate::mailbox::Mailbox;

/// Everyone who waits for something.
pub(super) struct Told {
    connected: Option<oneshot::Sender<Result<(), Error>>>,
    state: StateOnDrop,
    pub(super) calls: HashMap<u64, oneshot::Sender<Outcome>>,
    pub(super) sessions: HashMap<u64, oneshot::Sender<Result<SessionId, Error>>>,
    pub(super) grants: HashMap<u64, Grant>,
    pub(super) leases: HashMap<LeaseId, watch::Sender<bool>>,
    pub(super) watches: HashMap<u64, Watching>,
}

type Grant = oneshot::Sender<Result<(LeaseGrantReply, watch::Receiver<bool>), Error>>;

/// A watch of the application. It ends with its last mailbox.
pub(super) struct Watching {
    pub(super) opened: Option<oneshot::Sender<Result<Revision, Error>>>,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        // However the driver ends, nobody waits for ever.
        self.mailbox.end(Ok(()));
    }
}

impl Told {
    pub(super) fn new(connected: oneshot::Sender<Result<(), Error>>) -> (Self, watch::Receiver<SessionState>) {
        let (state, states) = watch::channel(SessionState::Suspended);
        let told = Self {
            connected: Some(connected),
            state: StateOnDrop(state),
            calls: HashMap::new(),
            sessions: HashMap::new(),
            grants: HashMap::new(),
            leases: HashMap::new(),
            watches: HashMap::new(),
        };
        (told, states)
    }

    /// Passes a signal on. Whoever stopped waiting needs no answer, so failures to send are none.
    pub(super) fn handle(
        &mut self,
        core: &mut Core,
        renewal: &mut Renewal,
        links: &mut Links,
        now: Moment,
        signal: Signal,
    ) {
        match signal {
            Signal::Connected(outcome) => {
                if let Some(connected) = self.connected.take() {
                    let _ = connected.send(outcome);
                }
            }
            Signal::Answered { id: RENEWAL, outcome } => {
                if renewal.answered(links, now, outcome) {
                    core.handle_renewed(now);
                }
            }
            Signal::Answered { id, outcome } => {
                if let Some(reply) = self.calls.remove(&id) {
                    let _ = reply.send(outcome);
                }
            }
            Signal::Session { id, outcome } => {
                if let Some(reply) = self.sessions.remove(&id) {
                    let _ = reply.send(outcome);
                }
            }
            Signal::Leased { id, outcome } => self.granted(core, now, id, outcome),
            Signal::LeaseLost { lease } => {
                if let Some(lost) = self.leases.remove(&lease) {
                    lost.send_replace(true);
                }
            }
            Signal::Opened { id, outcome } => {
                let failed = outcome.is_err();
                if let Some(opened) = self.watches.get_mut(&id).and_then(|watching| watching.opened.take()) {
                    let _ = opened.send(outcome);
                }
                if failed {
                    self.watches.remove(&id);
                }
            }
            Signal::Update { id, update } => self.update(core, now, id, update),
            Signal::Standing { id, live } => {
                if let Some(watching) = self.watches.get(&id) {
                    watching.mailbox.stand(live);
                }
            }
            Signal::Ended { id, error } => {
                if let Some(watching) = self.watches.remove(&id) {
                    watching.mailbox.end(error.map_or(Ok(()), Err));
                }
            }
            Signal::State(state) => {
                self.state.0.send_replace(state);
            }
            Signal::Note(note) => log(&note),
        }
    }

    fn granted(&mut self, core: &mut Core, now: Moment, id: u64, outcome: Result<LeaseGrantReply, Error>) {
        let Some(reply) = self.grants.remove(&id) else { return };
        match outcome {
            Ok(granted) => {
                let lease = granted.lease;
                let (lost, receiver) = watch::channel(false);
                if reply.send(Ok((granted, receiver))).is_ok() {
                    self.leases.insert(lease, lost);
                } else {
                    // Nobody waits for it any more, so nobody would let go of it.
                    core.handle_release(now, lease, true);
                }
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn update(&mut self, core: &mut Core, now: Moment, id: u64, update: Update) {
        if let Some(watching) = self.watches.get(&id)
            && watching.mailbox.push(update)
        {
            core.handle_full(now, id);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // A client that is gone keeps nothing alive.
        for lost in self.leases.values() {
            lost.send_replace(true);
        }
    }
}

fn log(note: &Note) {
    match note {
        Note::Greeted { endpoint, node, again: false, .. } => tracing::debug!(%endpoint, %node, "connected"),
        Note::Greeted { endpoint, node, resumed, again: true } => {
            tracing::info!(%endpoint, %node, watches = resumed, "connected again, watches go on where they were");
        }
        Note::Lost { endpoint, error } => tracing::debug!(%endpoint, %error, "no connection"),
        Note::Silent { endpoint } => {
            tracing::info!(%endpoint, "no beat for three intervals, looking for another server")
        }
        Note::Gap { reason } => tracing::warn!(reason, "a watch is opened again where it was"),
        Note::SessionLost { leases } => tracing::warn!(leases, "the session is lost"),
    }
}
