//! Finding a server, keeping the connection to it, and finding another.

use std::collections::BTreeSet;
use std::time::Duration;

use hither_protocol::error::CloseCode;
use hither_protocol::message::{Hello, SessionReply, Welcome};
use hither_protocol::{ErrorCode, Moment};

use super::{Action, Core, Note, Signal};
use crate::backoff::{ceiling, jitter};
use crate::error::Error;
use crate::link::{Link, LinkId, Phase};
use crate::pool::no_answer;
use crate::url::Endpoint;

/// How long one server has before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(300);
/// How long one attempt may take at most, however long a client is ready to wait: a server that is too busy for it is
/// asked anew.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// Most attempts at once.
const DIALS_MAX: usize = 3;
/// A connection that lived so long was worth having: after its end the waits begin from the shortest again.
const WORTH: Duration = Duration::from_secs(1);
/// Until when those spread who lost a server and wait for nothing, and of it the part in which none of them begins: others
/// have leases to keep.
const YIELD_MAX: Duration = Duration::from_secs(10);
const YIELD_PART: u32 = 10;
/// The longest first wait of who was told to come later, and the longest at all, if something depends on it; others wait
/// about as long as those who lost a server.
const LATER: Duration = Duration::from_millis(500);
const LATER_MAX: Duration = Duration::from_secs(2);

impl Core {
    /// The connection stands, as far as QUIC is concerned.
    pub fn handle_dialed(&mut self, now: Moment, id: LinkId) {
        let hello = Hello {
            agent: self.options.agent.clone(),
            namespace: self.options.namespace.to_string(),
            cluster: self.options.cluster,
            session: self.session.as_ref().map(crate::session::Session::id),
            seen: self.seen,
        };
        if let Some(link) = self.links.get_mut(&id)
            && let Phase::Dialing { until } = link.phase
        {
            link.phase = Phase::Greeting { until };
            link.heard = now;
            link.tell(0, &hello);
            if let Some(session) = hello.session {
                link.speak_of(session);
            }
        }
        self.settle(now);
    }

    /// A connection, or an attempt at one, ended. Unknown ones are ignored.
    pub fn handle_lost(&mut self, now: Moment, id: LinkId, error: Error) {
        self.drop_link(now, id, error);
        self.settle(now);
    }

    pub(super) fn handle_welcome(&mut self, now: Moment, id: LinkId, welcome: Welcome) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !matches!(link.phase, Phase::Greeting { .. }) {
            return;
        }
        if self.options.cluster.is_some_and(|cluster| cluster != welcome.lineage.cluster) {
            let detail = format!("{} belongs to cluster {}", link.endpoint, welcome.lineage.cluster);
            let endpoint = link.endpoint.clone();
            self.hang_up(id, CloseCode::ClusterMismatch);
            self.lost_attempt(now, &endpoint, Error::new(ErrorCode::ClusterMismatch, detail));
            return;
        }
        if self.session.as_ref().is_some_and(|session| link.session() != Some(session.id())) {
            // One was opened over the connection before, after Hello: this server would not vouch for it.
            self.hang_up(id, CloseCode::Moved);
            self.dial_at = Some(now);
            return;
        }
        link.phase = Phase::Open { since: now };
        link.heard = now;
        link.keep_alive_at = now;
        let announced = Duration::from_millis(welcome.beat_ms.max(1));
        link.beat = self.options.beat_interval.unwrap_or(announced);
        let endpoint = link.endpoint.clone();
        self.pool.greeted(&endpoint);
        // One address alone is this node's own, under which it may not be reachable from here.
        if self.options.learn_servers && welcome.endpoints.len() > 1 {
            self.pool.learn(welcome.endpoints.iter().filter_map(|endpoint| endpoint.parse().ok()));
        }
        self.seen = self.seen.max(welcome.revision);
        self.metrics.connects += 1;
        let again = self.metrics.connects > 1;
        self.metrics.reconnects = self.metrics.connects - 1;
        let before = self.active.replace(id);
        self.silent = false;
        self.dial_at = None;
        self.refused = 0;
        let dialing: Vec<LinkId> =
            self.links.iter().filter(|(other, link)| **other != id && !link.is_open()).map(|(id, _)| *id).collect();
        for other in dialing {
            self.hang_up(other, CloseCode::Moved);
        }
        if welcome.session == Some(SessionReply::Expired) {
            self.lose_session();
        }
        let resumed = self.resume_watches();
        if let Some(before) = before {
            self.leave(before);
        }
        if self.connect_by.take().is_some() {
            self.signals.push_back(Signal::Connected(Ok(())));
        }
        self.note(Note::Greeted { endpoint, node: welcome.node, resumed, again });
    }

    /// The server asked to be left. What it still answers is taken; another is looked for meanwhile.
    pub(super) fn handle_go_away(&mut self, now: Moment, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.leaving = true;
            self.dial_at.get_or_insert(now);
        }
    }

    /// The identity was renewed: another connection is made that shows it, before the old certificate ends.
    pub fn handle_renewed(&mut self, now: Moment) {
        if let Some(active) = self.active {
            self.handle_go_away(now, active);
        }
        self.settle(now);
    }

    /// Another server took over from this one.
    fn leave(&mut self, id: LinkId) {
        let again = self.abandon(id);
        self.calls.requeue(&again);
        let waits = self.links.get(&id).is_some_and(|link| !link.in_flight.is_empty());
        if !waits {
            self.hang_up(id, CloseCode::Moved);
        }
    }

    /// Whether another connection is needed than the one there is.
    pub(super) fn wants_link(&self) -> bool {
        if self.is_closed() {
            return false;
        }
        let good = |link: &Link| !link.leaving && !self.silent;
        !self.active.and_then(|id| self.links.get(&id)).is_some_and(good)
    }

    /// When to dial next.
    pub(super) fn dial_due(&self) -> Option<Moment> {
        let at = self.dial_at.filter(|_| self.wants_link())?;
        Some(if self.is_idle() { at.max(self.yield_until) } else { at })
    }

    /// Whether nothing is lost and nobody waits while there is no connection.
    fn is_idle(&self) -> bool {
        self.session.is_none()
            && self.opening.is_none()
            && self.connect_by.is_none()
            && self.calls.len() == 0
            && self.watches.subscribers() == 0
    }

    /// Lets those come first who have more to lose.
    fn give_way(&mut self, now: Moment, most: Duration) {
        let most = most.min(self.options.backoff_max);
        let least = most / YIELD_PART;
        self.yield_until = now + least + jitter(most - least, &mut self.random);
    }

    /// Tries again later, after an attempt that failed.
    fn try_later(&mut self, now: Moment, error: &Error) {
        let (wait, most) = if error.code() == ErrorCode::ServerBusy {
            // It is there, and has too many others at its door: neither at once, nor all at the same time.
            let longest = ceiling(LATER, LATER_MAX.min(self.options.backoff_max), self.refused);
            let most = ceiling(YIELD_MAX / 2, YIELD_MAX, self.refused);
            self.refused = self.refused.saturating_add(1);
            (longest / 2 + jitter(longest / 2, &mut self.random), most)
        } else {
            (self.backoff.next(&mut self.random), YIELD_MAX)
        };
        self.dial_at = Some(now + wait);
        self.give_way(now, most);
    }

    pub(super) fn dial(&mut self, now: Moment) {
        while self.dial_due().is_some_and(|at| now >= at) {
            self.dial_one(now);
        }
    }

    fn dial_one(&mut self, now: Moment) {
        let attempts = self.links.iter().filter(|(_, link)| !link.is_open());
        let dialing: BTreeSet<&Endpoint> = attempts.clone().map(|(_, link)| &link.endpoint).collect();
        let oldest = attempts.map(|(id, _)| *id).next().filter(|_| dialing.len() >= DIALS_MAX);
        let leaving = self.active.and_then(|id| self.links.get(&id)).filter(|link| link.leaving);
        let leaving = leaving.map(|link| &link.endpoint);
        let Some(endpoint) = self.pool.pick(&dialing, leaving, &mut self.random) else {
            self.dial_at = None;
            return;
        };
        if let Some(oldest) = oldest {
            // It has had the longest time.
            self.hang_up(oldest, CloseCode::Moved);
        }
        let id = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(id, Link::new(endpoint.clone(), now, now + self.options.connect_timeout.min(ATTEMPT_MAX)));
        self.actions.push_back(Action::Dial { link: id, endpoint });
        // Beside one that does not answer, others are tried.
        self.dial_at = if self.pool.has_untried() {
            Some(now + HEAD_START)
        } else if self.pool.has_several() {
            Some(now + self.backoff.next(&mut self.random).max(HEAD_START))
        } else {
            None
        };
    }

    /// Deadlines and silence of connections.
    pub(super) fn check_links(&mut self, now: Moment) {
        let overdue: Vec<(LinkId, Endpoint)> = self
            .links
            .iter()
            .filter(
                |(_, link)| matches!(link.phase, Phase::Dialing { until } | Phase::Greeting { until } if now >= until),
            )
            .map(|(id, link)| (*id, link.endpoint.clone()))
            .collect();
        for (id, endpoint) in overdue {
            let silence = no_answer(&endpoint.to_string(), self.options.connect_timeout);
            // Silence is told with the time that whoever asks has waited.
            let error = Error::new(ErrorCode::Timeout, silence.detail());
            self.hang_up(id, CloseCode::Moved);
            self.lost_attempt(now, &endpoint, error);
        }
        self.check_silence(now);
        let interval = self.keep_alive_interval();
        for link in self.links.values_mut().filter(|link| link.is_open() && now >= link.keep_alive_at) {
            link.keep_alive(now, interval);
        }
        if self.connect_by.is_some_and(|by| now >= by) {
            self.connect_by = None;
            let error = self.pool.unreachable(self.options.connect_timeout, None);
            self.signals.push_back(Signal::Connected(Err(error)));
        }
    }

    /// What the server has to say from now on.
    pub(super) fn check_owed(&mut self, now: Moment) {
        let is_kept = self.is_holding();
        if let Some(link) = self.active.and_then(|id| self.links.get_mut(&id)) {
            link.owe(now, is_kept);
        }
    }

    fn check_silence(&mut self, now: Moment) {
        let Some(link) = self.active.and_then(|id| self.links.get(&id)) else { return };
        let silent = link.silent_at().is_some_and(|at| now >= at);
        if silent && !self.silent {
            let endpoint = link.endpoint.clone();
            self.note(Note::Silent { endpoint });
            self.dial_at.get_or_insert(now);
            self.give_way(now, YIELD_MAX);
        }
        self.silent = silent;
    }

    pub(super) fn drop_link(&mut self, now: Moment, id: LinkId, error: Error) {
        let Some(link) = self.links.get(&id) else { return };
        let endpoint = link.endpoint.clone();
        if self.closing.is_some() {
            self.links.remove(&id);
            if self.active == Some(id) {
                self.active = None;
                self.finish();
            }
            return;
        }
        match link.phase {
            Phase::Open { since } => {
                let again = self.abandon(id);
                self.fail_in_flight(id, &error);
                self.calls.requeue(&again);
                self.links.remove(&id);
                if self.active == Some(id) {
                    self.active = None;
                    self.silent = false;
                    self.lose_streams();
                    if now.since(since) >= WORTH {
                        self.backoff.reset();
                    }
                    // Full jitter from the first attempt on: everyone who lost this server lost it now.
                    let wait = self.backoff.next(&mut self.random);
                    self.dial_at = Some(self.dial_at.map_or(now + wait, |at| at.min(now + wait)));
                    self.give_way(now, YIELD_MAX);
                }
                self.last_loss = Some(error.clone());
                self.note(Note::Lost { endpoint, error });
            }
            Phase::Dialing { .. } | Phase::Greeting { .. } => self.failed(now, id, error),
        }
    }

    /// An attempt at a connection failed.
    pub(super) fn failed(&mut self, now: Moment, id: LinkId, error: Error) {
        if let Some(link) = self.links.remove(&id) {
            self.lost_attempt(now, &link.endpoint, error);
        }
    }

    pub(super) fn lost_attempt(&mut self, now: Moment, endpoint: &Endpoint, error: Error) {
        self.metrics.dial_failures += 1;
        self.pool.failed(endpoint, error.clone());
        self.note(Note::Lost { endpoint: endpoint.clone(), error: error.clone() });
        if self.pool.has_untried() {
            self.dial_at = Some(now);
        } else if self.dial_at.is_none() || self.links.values().all(Link::is_open) {
            self.try_later(now, &error);
        }
        self.turn_away();
    }

    /// If every server turns this client away for good, nothing is gained by waiting.
    fn turn_away(&mut self) {
        let Some(error) = self.pool.turned_away() else { return };
        if self.connect_by.take().is_some() {
            self.signals.push_back(Signal::Connected(Err(error.clone())));
        }
        self.fail_waiting(&error);
        if matches!(error.code(), ErrorCode::IdentityRevoked | ErrorCode::IdentityInvalid) {
            self.end_watches(&error);
        }
    }

    /// Ends a connection from this side.
    pub(super) fn hang_up(&mut self, id: LinkId, code: CloseCode) {
        if self.links.remove(&id).is_some() {
            self.actions.push_back(Action::Hangup { link: id, code });
        }
        if self.active == Some(id) {
            self.active = None;
        }
    }
}
