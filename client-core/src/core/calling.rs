//! Requests: queued, numbered, and sent, again under the same number if need be.

use std::time::Duration;

use bytes::BytesMut;
use hither_protocol::frame::HEADER_BYTES;
use hither_protocol::limits::{FRAME_BYTES_MAX, LANE_BODY_BYTES_MAX};
use hither_protocol::message::{Context, LeaseGrant, LeaseKind, LeaseRevoke, Request, SessionOpen};
use hither_protocol::{ErrorCode, LeaseId, Moment, RequestNumber};
use rand::RngCore;

use super::answering::closed;
use super::{Action, Core, Signal};
use crate::call::{Call, Purpose};
use crate::error::Error;
use crate::link::LinkId;
use crate::session::OnLoss;

/// Numbers of the core's own requests: far from those that the shell gives.
const INTERNAL: u64 = 1 << 63;

impl Core {
    /// The application asks something. `id`: chosen by the shell, below 2^63, never used before. `timeout`: for all of
    /// it; none is the default. The answer is [`Signal::Answered`].
    pub fn handle_call(&mut self, now: Moment, id: u64, request: Request, timeout: Option<Duration>) {
        self.take_call(now, id, request, timeout);
        self.settle(now);
    }

    /// As [`handle_call`](Self::handle_call), but what it leads to is put off until
    /// [`handle_timeout`](Self::handle_timeout), which is owed at once, but once for all calls that came together.
    pub fn take_call(&mut self, now: Moment, id: u64, request: Request, timeout: Option<Duration>) {
        if self.calls.waiting() >= self.options.waiting_max {
            // Those before it may only wait because they came together.
            self.settle(now);
        }
        self.begin(now, id, Purpose::Answer, request, timeout);
    }

    /// The application wants the session open. The answer is [`Signal::Session`].
    pub fn handle_session(&mut self, now: Moment, id: u64) {
        match &self.session {
            Some(session) if !session.is_lost() => {
                let outcome = Ok(session.id());
                self.signals.push_back(Signal::Session { id, outcome });
            }
            _ if self.is_closed() => {
                self.signals.push_back(Signal::Session { id, outcome: Err(closed()) });
            }
            _ => {
                self.session_waiters.insert(id);
                self.open_session(now);
            }
        }
        self.settle(now);
    }

    /// The application wants a lease that is kept. The answer is [`Signal::Leased`]. `on_loss`: what becomes of it at
    /// the server if it must be taken as lost.
    pub fn handle_lease(&mut self, now: Moment, id: u64, ttl: Duration, on_loss: OnLoss) {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let grant = LeaseGrant { ttl_ms, kind: LeaseKind::Bound };
        self.begin(now, id, Purpose::Keep(on_loss), grant.into(), None);
        self.settle(now);
    }

    /// The application keeps a lease no longer, and wants it to end if `revoke`.
    pub fn handle_release(&mut self, now: Moment, lease: LeaseId, revoke: bool) {
        if let Some(session) = &mut self.session {
            session.release(vec![lease]);
        }
        if revoke && !self.is_closed() {
            self.revoke(now, lease);
        }
        self.settle(now);
    }

    /// The application no longer waits for a call: no answer follows.
    pub fn handle_cancel(&mut self, now: Moment, id: u64) {
        self.session_waiters.remove(&id);
        self.give_up(id);
        self.settle(now);
    }

    pub(super) fn revoke(&mut self, now: Moment, lease: LeaseId) {
        let request = LeaseRevoke { lease };
        self.ask_quietly(now, Purpose::Forget, request.into(), self.options.session_ttl);
    }

    pub(super) fn ask_quietly(&mut self, now: Moment, purpose: Purpose, request: Request, timeout: Duration) -> u64 {
        self.next_internal += 1;
        let id = INTERNAL | self.next_internal;
        self.begin(now, id, purpose, request, Some(timeout));
        id
    }

    fn begin(&mut self, now: Moment, id: u64, purpose: Purpose, request: Request, timeout: Option<Duration>) {
        let deadline = now + timeout.unwrap_or(self.options.request_timeout);
        let call = Call::new(purpose, request, now, deadline);
        let refused = if self.is_closed() {
            Some(closed())
        } else if self.calls.waiting() >= self.options.waiting_max && purpose != Purpose::OpenSession {
            // What waits for a session may be all that waits.
            Some(Error::new(ErrorCode::ServerBusy, "too many requests of this client wait for a server"))
        } else {
            self.pool_turned_away()
        };
        match refused {
            Some(error) => self.answer(now, id, &call, Err(error), None),
            None => self.calls.insert(id, call),
        }
    }

    /// While nobody takes this client, requests do not wait for what will not come.
    fn pool_turned_away(&self) -> Option<Error> {
        if self.active.is_some() { None } else { self.pool.turned_away() }
    }

    /// Sends what can be sent.
    pub(super) fn pump(&mut self, now: Moment) {
        let Some(link) = self.active else { return };
        while self.has_room(link)
            && let Some(id) = self.calls.front(false)
        {
            self.calls.pop(false, id);
            self.transmit(now, link, id);
        }
        while self.has_room(link)
            && let Some(id) = self.calls.front(true)
        {
            if self.session.is_none() {
                self.open_session(now);
                break;
            }
            if !self.number(id) {
                break;
            }
            self.calls.pop(true, id);
            self.transmit(now, link, id);
        }
        // The request for a session may just have been queued.
        while self.has_room(link)
            && let Some(id) = self.calls.front(false)
        {
            self.calls.pop(false, id);
            self.transmit(now, link, id);
        }
    }

    fn has_room(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.in_flight.len() < self.options.in_flight_max)
    }

    pub(super) fn open_session(&mut self, now: Moment) {
        if self.opening.is_some() {
            return;
        }
        let mut nonce = [0; 16];
        self.random.fill_bytes(&mut nonce);
        let ttl_ms = u64::try_from(self.options.session_ttl.as_millis()).unwrap_or(u64::MAX);
        // If that is not enough, whatever still waits for it leads to another attempt.
        let timeout = self.options.request_timeout;
        let id = self.ask_quietly(now, Purpose::OpenSession, SessionOpen { ttl_ms, nonce }.into(), timeout);
        self.opening = Some(id).filter(|id| self.calls.get(*id).is_some());
    }

    /// Gives a mutation its number in the session. False if it has to wait for others to be answered.
    fn number(&mut self, id: u64) -> bool {
        let (Some(session), Some(call)) = (&mut self.session, self.calls.get_mut(id)) else { return true };
        if let Some((of, _)) = call.token {
            if of == session.id() {
                return true;
            }
            if call.maybe {
                self.expire(id);
                return true;
            }
            call.token = None;
        }
        let spread = u64::try_from(self.options.in_flight_max).unwrap_or(u64::MAX);
        match session.take_number(spread) {
            Some(number) => {
                call.token = Some((session.id(), number));
                true
            }
            None => false,
        }
    }

    /// Ends a mutation of which nobody can tell any more whether it took effect.
    pub(super) fn expire(&mut self, id: u64) {
        let detail = "the session ended before the answer came, so that whether the request took effect is unknown";
        self.end(Moment::default(), id, Err(Error::unknown(ErrorCode::SessionExpired, detail)));
    }

    fn transmit(&mut self, now: Moment, link_id: LinkId, id: u64) {
        let (Some(link), Some(call)) = (self.links.get_mut(&link_id), self.calls.get_mut(id)) else { return };
        let remaining = u64::try_from(call.deadline.since(now).as_millis()).unwrap_or(u64::MAX);
        let retry = match (&self.session, call.token) {
            (Some(session), Some((_, number))) => Some(session.token(number)),
            _ => None,
        };
        let context = Context { deadline_ms: Some(remaining), trace: None, retry };
        let start = link.lane.len();
        call.request.encode(&mut link.lane, RequestNumber(id), &context);
        let body = link.lane.len() - start - HEADER_BYTES;
        if body > FRAME_BYTES_MAX {
            link.lane.truncate(start);
            let detail = format!("the request has {body} bytes, the limit is {FRAME_BYTES_MAX}");
            self.end(now, id, Err(Error::new(ErrorCode::FrameTooLarge, detail)));
            return;
        }
        if body > LANE_BODY_BYTES_MAX {
            let frame: BytesMut = link.lane.split_off(start);
            self.actions.push_back(Action::Exchange { link: link_id, frame: frame.freeze() });
        }
        link.in_flight.insert(id);
        link.ask_soon(now);
        if call.sent > 0 {
            self.metrics.retries += 1;
        }
        self.calls.sent(id, link_id, now);
    }
}
