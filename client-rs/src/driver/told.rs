//! Whom the driver tells what.

use std::collections::HashMap;
use std::sync::Arc;

use hither_client_core::{Core, Error, Note, SessionState, Signal, Update};
use hither_protocol::message::LeaseGrantReply;
use hither_protocol::{LeaseId, Moment, Revision, SessionId};
use tokio::sync::{oneshot, watch};

use super::links::Links;
use super::renewal::{RENEWAL, Renewal};
use super::{Granted, Outcome, StateOnDrop};
use crate::mailbox::Mailbox;

/// Everyone who waits for something.
pub(super) struct Told {
    connected: Option<oneshot::Sender<Result<(), Error>>>,
    state: StateOnDrop,
    pub(super) calls: HashMap<u64, oneshot::Sender<Outcome>>,
    pub(super) sessions: HashMap<u64, oneshot::Sender<Result<SessionId, Error>>>,
    pub(super) grants: HashMap<u64, oneshot::Sender<Granted>>,
    pub(super) leases: HashMap<LeaseId, watch::Sender<bool>>,
    pub(super) watches: HashMap<u64, Watching>,
}

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

    /// The application took from a full mailbox until there was room. It may have been filled again before this was heard:
    /// then there will be room once more.
    pub(super) fn drained(&self, core: &mut Core, now: Moment, id: u64) {
        if self.watches.get(&id).is_some_and(|watching| !watching.mailbox.is_full()) {
            core.handle_drained(now, id);
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use bytes::BytesMut;
    use hither_client_core::{Action, LinkId, Options, UpdateKind, WatchSpec};
    use hither_protocol::codec::{Decoder, Message, encode};
    use hither_protocol::message::{Created, Filter, Mode, Role, Start, Subscribe, Welcome, op};
    use hither_protocol::{ClusterId, Event, KeyRange, LeaseState, Lineage, NodeId};

    use super::*;

    const NOW: Moment = Moment(1);
    const LINEAGE: Lineage = Lineage { cluster: ClusterId([1; 16]), incarnation: 1 };

    fn say<M: Message>(core: &mut Core, link: LinkId, id: u64, message: &M) {
        let (mut bytes, mut decoder) = (BytesMut::new(), Decoder::default());
        encode(&mut bytes, id, message);
        decoder.push(&bytes);
        let frame = decoder.next_frame().expect("it can be read").expect("a frame");
        core.handle_frame(NOW, link, &frame);
    }

    /// A core whose server has opened watch 1.
    fn watching() -> Core {
        let endpoints = vec!["a:1".parse().expect("an endpoint")];
        let mut core = Core::new(Options { endpoints, ..Options::default() }, 1, NOW);
        let Some(Action::Dial { link, .. }) = core.poll_action() else { panic!("it connects") };
        core.handle_dialed(NOW, link);
        let welcome = Welcome {
            lineage: LINEAGE,
            node: NodeId(1),
            version: String::new(),
            name: String::new(),
            role: Role::Client,
            term: 1,
            revision: Revision(1),
            leader: None,
            session: None,
            beat_ms: 1_000,
            endpoints: vec![],
        };
        say(&mut core, link, 0, &welcome);
        let spec = WatchSpec {
            range: KeyRange::All,
            start: Start::Now,
            mode: Mode::default(),
            filter: Filter::default(),
            previous: false,
            min_interval_ms: 0,
        };
        core.handle_watch(NOW, 1, spec, None);
        let mut said = Decoder::default();
        said.push(&core.poll_control(link).expect("it subscribes"));
        let wire = std::iter::from_fn(|| said.next_frame().expect("it can be read"))
            .find(|frame| frame.header.op == op::SUBSCRIBE)
            .map(|frame| hither_protocol::codec::decode::<Subscribe>(&frame).expect("Subscribe").watch.0);
        say(&mut core, link, wire.expect("a subscription"), &Created { revision: Revision(1), lineage: LINEAGE });
        while core.poll_action().is_some() {}
        core
    }

    fn update(revision: u64) -> Update {
        let revision = Revision(revision);
        let event = Event::Liveness { lease: LeaseId(1), state: LeaseState::Alive, revision };
        Update { revision, kind: UpdateKind::Changes, events: vec![event], folded: false }
    }

    #[test]
    fn a_watch_that_was_filled_again_is_not_read_on_for_the_room_that_was_there_before() {
        let mut core = watching();
        let (mut told, _state) = Told::new(oneshot::channel().0);
        let mailbox = Arc::new(Mailbox::new(4, usize::MAX));
        told.watches.insert(1, Watching { opened: None, mailbox: Arc::clone(&mailbox) });
        let take = || match mailbox.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(taken)) => taken.drained,
            _ => panic!("nothing to take"),
        };
        // One wake-up brings it all; the application takes half meanwhile, and says so, which the driver has yet to hear.
        (2..=5).for_each(|revision| told.update(&mut core, NOW, 1, update(revision)));
        assert_eq!([take(), take()], [false, true]);
        (6..=7).for_each(|revision| told.update(&mut core, NOW, 1, update(revision)));
        assert!(matches!(core.poll_action(), Some(Action::Pause { .. })));
        while core.poll_action().is_some() {}
        told.drained(&mut core, NOW, 1);
        assert_eq!(core.poll_action(), None, "it is full");
        assert_eq!([take(), take()], [false, true]);
        told.drained(&mut core, NOW, 1);
        assert!(matches!(core.poll_action(), Some(Action::Resume { .. })));
    }
}
