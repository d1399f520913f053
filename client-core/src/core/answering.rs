//! Answers, refusals, and calls that end without either.

use std::time::Duration;

use hither_protocol::codec::Frame;
use hither_protocol::error::{CloseCode, Refusal};
use hither_protocol::frame::Flags;
use hither_protocol::message::{CancelRequest, Reply, Request, Stamp};
use hither_protocol::{Applied, ErrorCode, Moment, RequestNumber, SequenceNumber, SessionId};

use super::{Core, Signal};
use crate::backoff::{ceiling, jitter};
use crate::call::{Call, Phase, Purpose};
use crate::error::Error;
use crate::link::LinkId;
use crate::session::Session;

/// The longest wait before a request that a server could not take is sent again: its deadline is near.
const RETRY_MAX: Duration = Duration::from_secs(1);

impl Core {
    /// A frame that answers a request.
    pub(super) fn handle_reply(&mut self, now: Moment, link: LinkId, frame: &Frame) {
        let id = frame.header.id;
        let Some(call) = self.calls.get_mut(id) else {
            if let Some(link) = self.links.get_mut(&link) {
                link.in_flight.remove(&id);
            }
            return;
        };
        let Phase::Sent(sent_over, sent_at) = call.phase else { return };
        if sent_over != link {
            return;
        }
        match Reply::decode(frame) {
            Ok(Ok((_, Reply::Range(mut range)))) if frame.header.flags.has(Flags::MORE) => {
                call.entries.append(&mut range.entries);
            }
            Ok(Ok((stamp, reply))) => {
                let reply = call.join(reply);
                self.seen = self.seen.max(stamp.revision);
                self.answered = self.answered.max(stamp.revision);
                self.finish_call(now, id, Ok((stamp, reply)), Some(sent_at));
            }
            Ok(Err(refusal)) => self.handle_refusal(now, link, id, refusal),
            Err(refusal) => {
                let detail = format!("the answer cannot be read: {}", refusal.detail);
                let error = Error::new(ErrorCode::InvalidFrame, detail);
                call.maybe = true;
                self.end(now, id, Err(error));
            }
        }
    }

    fn handle_refusal(&mut self, now: Moment, link: LinkId, id: u64, refusal: Refusal) {
        if let Some(link) = self.links.get_mut(&link) {
            link.in_flight.remove(&id);
        }
        if let Some(leader) = refusal.leader.as_ref().and_then(|hint| hint.address.parse().ok()) {
            self.pool.hint(leader);
        }
        if matches!(refusal.code, ErrorCode::NotLeader | ErrorCode::ShuttingDown) {
            self.handle_go_away(now, link);
        }
        let Some(call) = self.calls.get_mut(id) else { return };
        call.maybe |= refusal.applied == Applied::Unknown;
        let error = Error::from(refusal);
        if error.code() == ErrorCode::SessionExpired && call.token.is_some() {
            self.refuse_session(now, id, error);
            return;
        }
        if !is_transient(error.code()) || !(call.is_repeatable() || error.applied() == Applied::No) {
            self.end(now, id, Err(error));
            return;
        }
        let wait = jitter(ceiling(self.options.backoff_min, RETRY_MAX, call.sent.saturating_sub(1)), &mut self.random);
        if now + wait >= call.deadline {
            self.end(now, id, Err(error));
            return;
        }
        call.last = Some(error);
        self.calls.delay(id, now + wait);
    }

    /// The session of a mutation is over. If the mutation certainly did nothing, it goes on under the next session.
    fn refuse_session(&mut self, now: Moment, id: u64, error: Error) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let ours = self.session.as_ref().map(Session::id) == call.token.map(|(session, _)| session);
        if call.maybe {
            self.end(now, id, Err(error));
        } else {
            call.token = None;
            call.last = Some(error);
            self.calls.requeue(&[id]);
        }
        if ours {
            self.lose_session();
        }
    }

    /// Ends a call that was sent, with its sequence number and its place on the connection.
    pub(super) fn end(&mut self, now: Moment, id: u64, outcome: Result<(Stamp, Reply), Error>) {
        self.finish_call(now, id, outcome, None);
    }

    fn finish_call(&mut self, now: Moment, id: u64, outcome: Result<(Stamp, Reply), Error>, sent_at: Option<Moment>) {
        let Some(call) = self.retire(id) else { return };
        self.answer(now, id, &call, outcome, sent_at);
    }

    /// Takes a call out of everything that knows it.
    fn retire(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(id)?;
        self.metrics.requests += 1;
        if let Phase::Sent(link, _) = call.phase
            && let Some(link) = self.links.get_mut(&link)
        {
            link.in_flight.remove(&id);
        }
        if let (Some(session), Some((of, number))) = (&mut self.session, call.token)
            && session.id() == of
        {
            session.settle(number);
        }
        Some(call)
    }

    /// Gives a call up, and tells the server if it has it.
    pub(super) fn give_up(&mut self, id: u64) -> Option<Call> {
        let mut call = self.retire(id)?;
        if let Phase::Sent(link, _) = call.phase
            && let Some(link) = self.links.get_mut(&link)
        {
            call.maybe = true;
            link.tell(0, &CancelRequest { request: RequestNumber(id) });
        }
        Some(call)
    }

    /// Tells whoever waits for a call that it is over.
    pub(super) fn answer(
        &mut self,
        now: Moment,
        id: u64,
        call: &Call,
        outcome: Result<(Stamp, Reply), Error>,
        sent_at: Option<Moment>,
    ) {
        let outcome = outcome.map_err(|error| call.qualify(error));
        match call.purpose {
            Purpose::Answer => {
                if let (Err(error), Request::Put(put)) = (&outcome, &call.request)
                    && error.code() == ErrorCode::LeaseNotFound
                    && let Some(lease) = put.lease
                {
                    self.lose_leases(vec![lease]);
                }
                self.signals.push_back(Signal::Answered { id, outcome });
            }
            Purpose::Keep(on_loss) => {
                let outcome = outcome.and_then(|(_, reply)| match reply {
                    Reply::LeaseGrant(granted) => Ok(granted),
                    _ => Err(Error::unknown(ErrorCode::InvalidFrame, "the server answered another question")),
                });
                let orphan = match (&outcome, &mut self.session) {
                    (Ok(granted), Some(session)) => {
                        session.hold(granted, sent_at.unwrap_or(now), on_loss);
                        None
                    }
                    // Its session ended while the answer was on its way.
                    (Ok(granted), None) => Some(granted.lease),
                    (Err(_), _) => None,
                };
                self.signals.push_back(Signal::Leased { id, outcome });
                self.signals.extend(orphan.map(|lease| Signal::LeaseLost { lease }));
            }
            Purpose::Revoke => {
                if let Ok((_, Reply::LeaseGrant(granted))) = outcome {
                    self.revoke(now, granted.lease);
                }
            }
            Purpose::OpenSession => {
                let over = if let Phase::Sent(link, _) = call.phase { Some(link) } else { None };
                self.session_opened(now, outcome, sent_at, over);
            }
            Purpose::Check => {
                if let Ok((_, Reply::LeaseCheck(checked))) = outcome {
                    self.lose_leases(checked.gone);
                }
            }
            Purpose::Forget => {}
        }
    }

    /// `over`: the connection that the answer came on.
    fn session_opened(
        &mut self,
        now: Moment,
        outcome: Result<(Stamp, Reply), Error>,
        sent_at: Option<Moment>,
        over: Option<LinkId>,
    ) {
        self.opening = None;
        let opened = outcome.and_then(|(_, reply)| match reply {
            Reply::SessionOpen(opened) => Ok(opened),
            _ => Err(Error::new(ErrorCode::InvalidFrame, "the server answered another question")),
        });
        let waiters = std::mem::take(&mut self.session_waiters);
        match opened {
            Ok(opened) => {
                let session = Session::new(&opened, sent_at.unwrap_or(now));
                let session_id = session.id();
                self.session = Some(session);
                self.refused_session = None;
                if let Some(link) = over.and_then(|over| self.links.get_mut(&over)) {
                    link.speak_of(session_id);
                }
                for link in self.links.values_mut().filter(|link| link.is_open()) {
                    link.keep_alive_at = link.keep_alive_at.min(now);
                }
                self.signals.extend(waiters.into_iter().map(|id| Signal::Session { id, outcome: Ok(session_id) }));
            }
            Err(error) => {
                self.signals.extend(waiters.into_iter().map(|id| Signal::Session { id, outcome: Err(error.clone()) }));
                let may_wait = error.code() == ErrorCode::Timeout || is_transient(error.code());
                // Mutations that wait: none can be sent without a session, and the next attempt is made at once.
                if !may_wait && self.session.is_none() {
                    while let Some(id) = self.calls.front(true) {
                        self.end(now, id, Err(error.clone()));
                    }
                }
                self.refused_session = Some(error);
            }
        }
    }

    /// Deadlines, and what waited long enough.
    pub(super) fn check_calls(&mut self, now: Moment) {
        let due = self.calls.due(now);
        self.calls.requeue(&due);
        for id in self.calls.expired(now) {
            if self.is_granted_maybe(id) {
                self.disown(now, id);
                continue;
            }
            let Some(call) = self.give_up(id) else { continue };
            self.metrics.timeouts += 1;
            let error = self.overdue(&call);
            self.answer(now, id, &call, Err(error), None);
        }
        let left: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(id, link)| link.is_open() && Some(**id) != self.active && link.in_flight.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for link in left {
            self.hang_up(link, CloseCode::Moved);
        }
    }

    /// Whether a call may have granted a lease that would live as long as the session does.
    fn is_granted_maybe(&self, id: u64) -> bool {
        let Some(call) = self.calls.get(id) else { return false };
        let sent = call.maybe || matches!(call.phase, Phase::Sent(..));
        let ours = call.token.is_some_and(|(of, _)| self.session.as_ref().is_some_and(|session| session.id() == of));
        matches!(call.purpose, Purpose::Keep(_)) && sent && ours
    }

    /// The application does not wait for its lease any longer. The answer is still waited for, and asked for again after
    /// a reconnect, since without it nobody knows what to revoke.
    fn disown(&mut self, now: Moment, id: u64) {
        let Some(call) = self.calls.get(id) else { return };
        self.metrics.timeouts += 1;
        let outcome = Err(self.overdue(call).maybe_applied());
        self.signals.push_back(Signal::Leased { id, outcome });
        // A session that is silent for so long is over, and takes the lease along.
        self.calls.postpone(id, now + self.options.session_ttl, Purpose::Revoke);
    }

    /// Why a call ended at its deadline.
    fn overdue(&self, call: &Call) -> Error {
        if let Phase::Sent(link, _) = call.phase {
            // Whoever reads it asks first which server that was.
            let server =
                self.links.get(&link).map_or_else(|| "the server".to_owned(), |link| link.endpoint.to_string());
            return Error::new(ErrorCode::Timeout, format!("{server} did not answer before the deadline"));
        }
        let answers = self.active.is_some() && !self.silent;
        if answers && call.phase == Phase::Waiting && call.request.is_mutation() && self.session.is_none() {
            let opening = self.opening.and_then(|id| self.calls.get(id));
            let last = opening.and_then(|opening| opening.last.as_ref()).or(self.refused_session.as_ref());
            let why = last.cloned().or_else(|| opening.map(|opening| self.overdue(opening)));
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let detail = format!("the request was not sent before its deadline, since no session is open{why}");
            return Error::new(ErrorCode::Timeout, detail);
        }
        if let Some(error) = &call.last {
            return error.clone();
        }
        if answers {
            return Error::new(
                ErrorCode::Timeout,
                "the request was not sent before its deadline: too many are on their way",
            );
        }
        self.pool.unreachable(call.deadline.since(call.begun), self.last_loss.as_ref())
    }

    /// Takes every repeatable call off a connection that is no more. Returns them, in the order they were sent.
    pub(super) fn abandon(&mut self, id: LinkId) -> Vec<u64> {
        let Some(link) = self.links.get_mut(&id) else { return Vec::new() };
        let mut again: Vec<(Option<(SessionId, SequenceNumber)>, u64)> = Vec::new();
        for &call_id in &link.in_flight {
            if let Some(call) = self.calls.get_mut(call_id)
                && call.is_repeatable()
            {
                call.maybe |= call.has_effect();
                again.push((call.token, call_id));
            }
        }
        link.in_flight.retain(|call_id| !again.iter().any(|(_, again)| again == call_id));
        again.sort_unstable_by_key(|(token, call_id)| (token.map(|(_, number)| number), *call_id));
        again.into_iter().map(|(_, call_id)| call_id).collect()
    }

    /// Ends the calls that cannot be sent twice, since the connection that has them is gone.
    pub(super) fn fail_in_flight(&mut self, id: LinkId, error: &Error) {
        let Some(link) = self.links.get_mut(&id) else { return };
        for call_id in std::mem::take(&mut link.in_flight) {
            let Some(mut call) = self.retire(call_id) else { continue };
            call.maybe = true;
            let detail = format!("the connection was lost before the answer came: {}", error.detail());
            self.answer(Moment::default(), call_id, &call, Err(Error::new(ErrorCode::ConnectionLost, detail)), None);
        }
    }

    /// Ends what waits to be sent.
    pub(super) fn fail_waiting(&mut self, error: &Error) {
        for id in self.calls.ids() {
            if self.calls.get(id).is_some_and(|call| !matches!(call.phase, Phase::Sent(..))) {
                self.end(Moment::default(), id, Err(error.clone()));
            }
        }
    }

    pub(super) fn close_calls(&mut self) {
        for id in self.calls.ids() {
            let Some(mut call) = self.retire(id) else { continue };
            call.maybe |= matches!(call.phase, Phase::Sent(..));
            self.answer(Moment::default(), id, &call, Err(closed()), None);
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the client was closed")
}

/// Errors that another attempt may not meet, so that it is made here and not by the application.
const fn is_transient(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ServerBusy
            | ErrorCode::TooManyInFlight
            | ErrorCode::NotReady
            | ErrorCode::NotLeader
            | ErrorCode::Unavailable
            | ErrorCode::ShuttingDown
            | ErrorCode::ConnectionLost
            | ErrorCode::TooStale
    )
}
