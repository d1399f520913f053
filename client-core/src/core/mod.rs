//! The state machine of a client. What happened goes in, what to do comes out.

mod answering;
mod calling;
mod carriers;
mod connecting;
mod following;
mod lanes;
mod standing;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::error::CloseCode;
use hither_protocol::message::{LeaseGrantReply, Reply, Stamp};
use hither_protocol::{LeaseId, Moment, NodeId, Revision, SessionId};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::carriers::Watches;
use crate::backoff::Backoff;
use crate::call::Calls;
use crate::error::Error;
use crate::link::{Link, LinkId, Phase};
use crate::options::Options;
use crate::pool::ServerPool;
use crate::session::Session;
use crate::update::{Metrics, SessionState, Update};
use crate::url::Endpoint;

/// How long a goodbye may take: whoever closes a client waits for it.
const GOODBYE: Duration = Duration::from_millis(200);

/// What the shell is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connects to a server. Then [`Core::handle_dialed`], or [`Core::handle_lost`].
    Dial {
        /// The name of the attempt, and of the connection that it becomes.
        link: LinkId,
        /// Where.
        endpoint: Endpoint,
    },
    /// Lets the server open so many unidirectional streams at once.
    AllowStreams {
        /// The connection.
        link: LinkId,
        /// How many.
        count: u64,
    },
    /// Sends a request on a stream of its own, since it is too large for the lane.
    Exchange {
        /// The connection.
        link: LinkId,
        /// The whole frame.
        frame: Bytes,
    },
    /// Reads no more from the stream of a watch: the application cannot keep up.
    Pause {
        /// The connection.
        link: LinkId,
        /// The watch's id on it.
        watch: u64,
    },
    /// Reads from it again.
    Resume {
        /// The connection.
        link: LinkId,
        /// The watch's id on it.
        watch: u64,
    },
    /// Ends a connection or an attempt. Nothing more is to be reported of it.
    Hangup {
        /// The connection.
        link: LinkId,
        /// What the server is told.
        code: CloseCode,
    },
    /// The client was closed and has said goodbye: the shell may end.
    Finish,
}

/// What the application is to be told, in order.
#[derive(Clone, Debug)]
pub enum Signal {
    /// The first greeting came, or will not.
    Connected(Result<(), Error>),
    /// A call ended.
    Answered {
        /// The call.
        id: u64,
        /// With what.
        outcome: Result<(Stamp, Reply), Error>,
    },
    /// A session is open, or cannot be opened.
    Session {
        /// The call.
        id: u64,
        /// With what.
        outcome: Result<SessionId, Error>,
    },
    /// A lease was granted and is kept from now on, or not.
    Leased {
        /// The call.
        id: u64,
        /// With what.
        outcome: Result<LeaseGrantReply, Error>,
    },
    /// A lease that was kept must be taken as lost.
    LeaseLost {
        /// The lease.
        lease: LeaseId,
    },
    /// A watch is open, or will not be.
    Opened {
        /// The watch.
        id: u64,
        /// Where it begins.
        outcome: Result<Revision, Error>,
    },
    /// A watch goes on.
    Update {
        /// The watch.
        id: u64,
        /// With this.
        update: Update,
    },
    /// Whether a watch is the present; for those that [`Core::handle_follow_standing`] named.
    Standing {
        /// The watch.
        id: u64,
        /// A server has confirmed it, and does so with every beat.
        live: bool,
    },
    /// A watch is over; with an error, unless the client was closed.
    Ended {
        /// The watch.
        id: u64,
        /// Why.
        error: Option<Error>,
    },
    /// The client stands otherwise than before.
    State(SessionState),
    /// Worth a line in a log.
    Note(Note),
}

/// Worth a line in a log.
#[derive(Clone, Debug)]
pub enum Note {
    /// A server greeted the client.
    Greeted {
        /// Where it is.
        endpoint: Endpoint,
        /// Which node it is.
        node: NodeId,
        /// Watches that go on there where they were.
        resumed: u64,
        /// Whether another connection came before.
        again: bool,
    },
    /// A connection, or an attempt at one, ended.
    Lost {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        error: Error,
    },
    /// A server has not been heard of for three beats: another is looked for.
    Silent {
        /// Which.
        endpoint: Endpoint,
    },
    /// A watch was opened again since what came did not follow.
    Gap {
        /// What was wrong.
        reason: &'static str,
    },
    /// The session is over, and the leases bound to it.
    SessionLost {
        /// How many leases.
        leases: u64,
    },
}

/// A client, but for its sockets, its clock and its tasks.
///
/// Every method with a `now` is given the time on one monotonic clock. After any `handle_*`, the shell takes what there
/// is of [`poll_signal`](Self::poll_signal), [`poll_action`](Self::poll_action), [`poll_control`](Self::poll_control)
/// and [`poll_lane`](Self::poll_lane), in this order, and calls [`handle_timeout`](Self::handle_timeout) at
/// [`poll_timeout`](Self::poll_timeout). After a pause (a stopped process, a sleeping machine) `handle_timeout` comes
/// before anything else, so that lost leases are reported before anything is done under them.
#[derive(Debug)]
pub struct Core {
    options: Options,
    random: SmallRng,
    actions: VecDeque<Action>,
    signals: VecDeque<Signal>,
    metrics: Metrics,
    state: SessionState,

    pool: ServerPool,
    backoff: Backoff,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    active: Option<LinkId>,
    silent: bool,
    /// Why the last connection ended.
    last_loss: Option<Error>,
    dial_at: Option<Moment>,
    /// How often it was told to come later, since the last greeting.
    refused: u32,
    /// Others dial first until then, if this client is idle.
    yield_until: Moment,
    /// Until when the first greeting is awaited.
    connect_by: Option<Moment>,
    closing: Option<Moment>,
    finished: bool,

    calls: Calls,
    next_internal: u64,
    session: Option<Session>,
    opening: Option<u64>,
    /// Why the last attempt to open a session failed, until one is open.
    refused_session: Option<Error>,
    session_waiters: BTreeSet<u64>,
    seen: Revision,
    /// The newest revision in an answer.
    answered: Revision,

    watches: Watches,
    /// The moment that the newest beat speaks of.
    beat_at: Moment,
}

impl Core {
    /// A client that begins to connect. `seed`: for its jitter and nonces; another for every client.
    ///
    /// The options must have passed [`Options::check`].
    #[must_use]
    pub fn new(options: Options, seed: u64, now: Moment) -> Self {
        let pool = ServerPool::new(&options.endpoints);
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let connect_by = Some(now + options.connect_timeout);
        let seen = options.seen;
        let mut core = Self {
            options,
            random: SmallRng::seed_from_u64(seed),
            actions: VecDeque::new(),
            signals: VecDeque::new(),
            metrics: Metrics::default(),
            state: SessionState::Suspended,
            pool,
            backoff,
            links: BTreeMap::new(),
            next_link: 1,
            active: None,
            silent: false,
            last_loss: None,
            dial_at: Some(now),
            refused: 0,
            yield_until: now,
            connect_by,
            closing: None,
            finished: false,
            calls: Calls::default(),
            next_internal: 0,
            session: None,
            opening: None,
            refused_session: None,
            session_waiters: BTreeSet::new(),
            seen,
            answered: seen,
            watches: Watches::default(),
            beat_at: Moment::default(),
        };
        core.settle(now);
        core
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next thing to tell the application.
    pub fn poll_signal(&mut self) -> Option<Signal> {
        self.signals.pop_front()
    }

    /// What to write to the control lane of a connection, when it takes more.
    pub fn poll_control(&mut self, link: LinkId) -> Option<Bytes> {
        self.links.get_mut(&link)?.take_control()
    }

    /// What to write to the request lane of a connection, when it takes more. Nothing before the greeting.
    pub fn poll_lane(&mut self, link: LinkId) -> Option<Bytes> {
        self.links.get_mut(&link)?.take_lane()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.finished {
            return None;
        }
        let links = self.links.iter().map(|(id, link)| match link.phase {
            Phase::Dialing { until } | Phase::Greeting { until } => until,
            Phase::Open { .. } if self.silent || Some(*id) != self.active => link.keep_alive_at,
            Phase::Open { .. } => link.silent_at().map_or(link.keep_alive_at, |at| at.min(link.keep_alive_at)),
        });
        let session = self.session.as_ref().and_then(Session::next_deadline);
        links
            .chain(self.dial_due())
            .chain(self.connect_by)
            .chain(self.closing)
            .chain(session)
            .chain(self.calls.next_deadline())
            .chain(self.watches.next_deadline(self.active.is_some()))
            .min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.settle(now);
    }

    /// How the client stands.
    #[must_use]
    pub const fn state(&self) -> SessionState {
        self.state
    }

    /// The last moment at which the watches that are live were confirmed to be the present.
    #[must_use]
    pub const fn beat_at(&self) -> Moment {
        self.beat_at
    }

    /// What was counted so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Metrics {
            in_flight: count(self.calls.len()),
            watches: count(self.watches.subscribers()),
            watch_streams: count(self.watches.streams()),
            ..self.metrics
        }
    }

    /// The settings that it runs with.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// The application leaves: everything ends, and the server is told.
    pub fn handle_close(&mut self, now: Moment) {
        if self.closing.is_some() || self.finished {
            return;
        }
        self.connect_by = None;
        self.dial_at = None;
        self.close_calls();
        self.close_watches();
        self.close_session();
        let active = self.active.filter(|_| !self.silent);
        let others: Vec<LinkId> = self.links.keys().copied().filter(|link| Some(*link) != active).collect();
        for link in others {
            self.hang_up(link, CloseCode::Goodbye);
        }
        match active.and_then(|link| self.links.get_mut(&link)) {
            Some(link) => {
                link.lane.clear();
                link.tell(0, &hither_protocol::message::Goodbye {});
                self.closing = Some(now + GOODBYE);
            }
            None => self.finish(),
        }
        self.set_state();
    }

    fn finish(&mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.hang_up(link, CloseCode::Goodbye);
        }
        self.closing = None;
        self.finished = true;
        self.actions.push_back(Action::Finish);
    }

    /// Brings everything to where `now` wants it.
    fn settle(&mut self, now: Moment) {
        if self.finished {
            return;
        }
        if let Some(until) = self.closing {
            if now >= until {
                self.finish();
            }
            return;
        }
        // First of all: whoever holds a lease hears of its loss before of anything else.
        self.check_session(now);
        self.check_links(now);
        self.check_calls(now);
        self.check_watches(now);
        self.dial(now);
        self.pump(now);
        self.check_owed(now);
        self.tell_standings();
        self.set_state();
    }

    fn set_state(&mut self) {
        let state = if self.closing.is_some() || self.finished {
            SessionState::Closed
        } else if self.active.is_some() && !self.silent {
            SessionState::Connected
        } else if self.session.as_ref().is_some_and(Session::is_lost) {
            SessionState::Lost
        } else {
            SessionState::Suspended
        };
        if state != self.state {
            self.state = state;
            self.signals.push_back(Signal::State(state));
        }
    }

    const fn is_closed(&self) -> bool {
        self.closing.is_some() || self.finished
    }

    fn note(&mut self, note: Note) {
        self.signals.push_back(Signal::Note(note));
    }
}
