//! The session and its leases: until when they hold, and who must be told when they do not.

use std::time::Duration;

use hither_protocol::limits::LEASES_CHECKED_MAX;
use hither_protocol::message::{KeepAliveReply, LeaseCheck};
use hither_protocol::{LeaseId, Moment};

use super::{Core, Note, Signal};
use crate::call::{Phase, Purpose};
use crate::link::LinkId;
use crate::options::{KEEP_ALIVE_HOLDING, KEEP_ALIVE_IDLE};
use crate::session::OnLoss;
use crate::update::SessionState;

impl Core {
    /// Whether something ends if the server does not hear of this client.
    pub(super) const fn is_holding(&self) -> bool {
        self.session.is_some() || self.opening.is_some()
    }

    /// Three in the time after which the server would suspect the client. One that expects signs of life more often
    /// than the server gives them asks for them, and does not take a server that has nothing to say for a silent one.
    pub(super) fn keep_alive_interval(&self) -> Duration {
        let interval = if self.is_holding() { KEEP_ALIVE_HOLDING } else { KEEP_ALIVE_IDLE };
        self.options.beat_interval.map_or(interval, |beat| interval.min(beat))
    }

    pub(super) fn handle_keep_alive_reply(&mut self, id: LinkId, reply: &KeepAliveReply) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let sent = link.acknowledge(reply.number);
        let spoken_of = link.spoken_of(reply.number);
        // It names none, and may be about one before this.
        let Some(session) = self.session.as_mut().filter(|session| spoken_of == Some(session.id())) else { return };
        match (reply.session_alive, sent) {
            (Some(false), _) if self.active == Some(id) => self.lose_session(),
            (Some(true), Some(sent)) if session.is_lost() => {
                // What was reported lost stays lost, so it must not live on at the server.
                session.revive(sent);
            }
            (Some(true), Some(sent)) => session.confirm(sent),
            _ => {}
        }
    }

    /// Leases that ran out, and those that must be asked after.
    pub(super) fn check_session(&mut self, now: Moment) {
        let Some(session) = &mut self.session else { return };
        if session.next_deadline().is_none_or(|at| now < at) {
            return;
        }
        let was_lost = session.is_lost();
        let lost = session.take_lost(now);
        let is_lost = session.is_lost();
        let due = session.take_due(now);
        if is_lost && !was_lost {
            self.report_session_lost(lost.len());
        }
        for (lease, on_loss) in lost {
            self.signals.push_back(Signal::LeaseLost { lease });
            if on_loss == OnLoss::Revoke {
                // If the session goes on after all, the lease must not go on with it unseen.
                self.revoke(now, lease);
            }
        }
        let timeout = self.options.request_timeout;
        for leases in due.chunks(LEASES_CHECKED_MAX) {
            let check = LeaseCheck { leases: leases.to_vec() };
            self.ask_quietly(now, Purpose::Check, check.into(), timeout);
        }
    }

    /// The server says that the session is over.
    pub(super) fn lose_session(&mut self) {
        let Some(session) = self.session.take() else { return };
        let (id, was_lost) = (session.id(), session.is_lost());
        let leases = session.into_leases();
        if !was_lost {
            self.report_session_lost(leases.len());
        }
        for lease in leases {
            self.signals.push_back(Signal::LeaseLost { lease });
        }
        // What was sent and not answered can no longer be asked about; what was not, goes on under the next session.
        for call_id in self.calls.ids() {
            let Some(call) = self.calls.get_mut(call_id) else { continue };
            if call.token.is_none_or(|(of, _)| of != id) || matches!(call.phase, Phase::Sent(..)) {
                continue;
            }
            if call.maybe {
                self.expire(call_id);
            } else {
                call.token = None;
            }
        }
    }

    fn report_session_lost(&mut self, leases: usize) {
        self.metrics.sessions_lost += 1;
        self.state = SessionState::Lost;
        self.signals.push_back(Signal::State(SessionState::Lost));
        self.note(Note::SessionLost { leases: u64::try_from(leases).unwrap_or(u64::MAX) });
    }

    /// These leases are over.
    pub(super) fn lose_leases(&mut self, leases: Vec<LeaseId>) {
        let lost = self.session.as_mut().map(|session| session.release(leases)).unwrap_or_default();
        self.signals.extend(lost.into_iter().map(|lease| Signal::LeaseLost { lease }));
    }

    pub(super) fn close_session(&mut self) {
        let leases = self.session.take().map(crate::session::Session::into_leases).unwrap_or_default();
        self.signals.extend(leases.into_iter().map(|lease| Signal::LeaseLost { lease }));
    }
}
