//! Requests on their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hither_protocol::message::{Reply, Request};
use hither_protocol::{Entry, Moment, SequenceNumber, SessionId};

use crate::error::Error;
use crate::link::LinkId;
use crate::session::OnLoss;

/// A request, from when the application asked until it is answered.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) purpose: Purpose,
    pub(crate) request: Request,
    pub(crate) begun: Moment,
    pub(crate) deadline: Moment,
    pub(crate) phase: Phase,
    pub(crate) token: Option<(SessionId, SequenceNumber)>,
    /// It was sent, and what became of it is unknown.
    pub(crate) maybe: bool,
    /// Times that it was sent.
    pub(crate) sent: u32,
    /// Why it was not answered so far.
    pub(crate) last: Option<Error>,
    /// Entries of a reply that takes several frames.
    pub(crate) entries: Vec<Entry>,
}

/// Whom the answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The application.
    Answer,
    /// The core: the session that mutations wait for.
    OpenSession,
    /// The application, and the core: a lease to keep.
    Keep(OnLoss),
    /// The core: a lease that nobody waits for any more, to be revoked.
    Revoke,
    /// The core: whether leases that it keeps still are.
    Check,
    /// Nobody: it is only to be done.
    Forget,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In the queue.
    Waiting,
    /// Sent over this connection at this time.
    Sent(LinkId, Moment),
    /// Sent again after this moment.
    Delayed(Moment),
}

impl Call {
    pub(crate) const fn new(purpose: Purpose, request: Request, begun: Moment, deadline: Moment) -> Self {
        Self {
            purpose,
            request,
            begun,
            deadline,
            phase: Phase::Waiting,
            token: None,
            maybe: false,
            sent: 0,
            last: None,
            entries: Vec::new(),
        }
    }

    /// Whether sending it twice does what sending it once does.
    pub(crate) const fn is_repeatable(&self) -> bool {
        match &self.request {
            Request::ClientAdd(_) | Request::ClientRevoke(_) | Request::Enrol(_) => false,
            request => !request.is_mutation() || self.token.is_some(),
        }
    }

    pub(crate) const fn has_effect(&self) -> bool {
        has_effect(&self.request)
    }

    /// An error of this call says whether it may have taken effect.
    pub(crate) fn qualify(&self, error: Error) -> Error {
        if self.maybe && self.has_effect() { error.maybe_applied() } else { error }
    }

    /// Joins the frames of one reply.
    pub(crate) fn join(&mut self, reply: Reply) -> Reply {
        match reply {
            Reply::Range(mut range) if !self.entries.is_empty() => {
                let mut entries = std::mem::take(&mut self.entries);
                entries.append(&mut range.entries);
                range.entries = entries;
                Reply::Range(range)
            }
            other => other,
        }
    }
}

/// Whether a request changes anything, so that not knowing what became of it matters.
#[must_use]
pub const fn has_effect(request: &Request) -> bool {
    request.is_mutation()
        || matches!(
            request,
            Request::ClientAdd(_)
                | Request::ClientRevoke(_)
                | Request::Enrol(_)
                | Request::RenewIdentity(_)
                | Request::SessionClose(_)
        )
}

/// All calls, by number, which is their request number on the wire too.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Boxed: a tree moves what it holds as neighbours come and go.
    calls: BTreeMap<u64, Box<Call>>,
    deadlines: BTreeSet<(Moment, u64)>,
    delayed: BTreeSet<(Moment, u64)>,
    /// Those that can be sent as they are.
    ready: VecDeque<u64>,
    /// Those that need a session.
    mutations: VecDeque<u64>,
    /// Calls that wait. The queues may hold as many again that ended there.
    waiting: usize,
}

impl Calls {
    pub(crate) fn insert(&mut self, id: u64, call: Call) {
        self.deadlines.insert((call.deadline, id));
        self.enqueue(id, &call);
        self.calls.insert(id, Box::new(call));
    }

    fn enqueue(&mut self, id: u64, call: &Call) {
        self.waiting += 1;
        if call.request.is_mutation() { self.mutations.push_back(id) } else { self.ready.push_back(id) }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Call> {
        self.calls.get(&id).map(|call| &**call)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Call> {
        self.calls.get_mut(&id).map(|call| &mut **call)
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Calls in the queue.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.calls.keys().copied().collect()
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.deadlines.remove(&(call.deadline, id));
        match call.phase {
            Phase::Waiting => {
                self.waiting -= 1;
                self.compact();
            }
            Phase::Delayed(until) => {
                self.delayed.remove(&(until, id));
            }
            Phase::Sent(..) => {}
        }
        Some(*call)
    }

    /// Forgets in the queues what ended there, once that is more than what waits: without a server nothing comes up.
    fn compact(&mut self) {
        if self.ready.len() + self.mutations.len() > 2 * self.waiting {
            let calls = &self.calls;
            let waits = |id: &u64| calls.get(id).is_some_and(|call| call.phase == Phase::Waiting);
            self.ready.retain(waits);
            self.mutations.retain(waits);
        }
    }

    /// Goes on with a call after its deadline, for another purpose.
    pub(crate) fn postpone(&mut self, id: u64, deadline: Moment, purpose: Purpose) {
        if let Some(call) = self.calls.get_mut(&id) {
            self.deadlines.remove(&(call.deadline, id));
            self.deadlines.insert((deadline, id));
            (call.deadline, call.purpose) = (deadline, purpose);
        }
    }

    /// Puts calls back at the front of the queue, in the order given.
    pub(crate) fn requeue(&mut self, ids: &[u64]) {
        for id in ids.iter().rev() {
            let Some(call) = self.calls.get_mut(id) else { continue };
            match call.phase {
                Phase::Waiting => continue,
                Phase::Delayed(until) => {
                    self.delayed.remove(&(until, *id));
                }
                Phase::Sent(..) => {}
            }
            call.phase = Phase::Waiting;
            call.entries.clear();
            self.waiting += 1;
            if call.request.is_mutation() { self.mutations.push_front(*id) } else { self.ready.push_front(*id) }
        }
    }

    /// It was taken off its queue and is on its way.
    pub(crate) fn sent(&mut self, id: u64, link: LinkId, now: Moment) {
        if let Some(call) = self.calls.get_mut(&id)
            && call.phase == Phase::Waiting
        {
            call.phase = Phase::Sent(link, now);
            call.sent += 1;
            self.waiting -= 1;
        }
    }

    /// Sends what was sent again, but not before `until`.
    pub(crate) fn delay(&mut self, id: u64, until: Moment) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.phase = Phase::Delayed(until);
            call.entries.clear();
            self.delayed.insert((until, id));
        }
    }

    /// The first call of a queue that still waits; it stays there.
    pub(crate) fn front(&mut self, mutations: bool) -> Option<u64> {
        let queue = if mutations { &mut self.mutations } else { &mut self.ready };
        while let Some(id) = queue.front().copied() {
            if self.calls.get(&id).is_some_and(|call| call.phase == Phase::Waiting) {
                return Some(id);
            }
            queue.pop_front();
        }
        None
    }

    /// Takes a call off a queue, if it is still the first there.
    pub(crate) fn pop(&mut self, mutations: bool, id: u64) {
        let queue = if mutations { &mut self.mutations } else { &mut self.ready };
        if queue.front() == Some(&id) {
            queue.pop_front();
        }
    }

    /// Those whose deadline has passed.
    pub(crate) fn expired(&self, now: Moment) -> Vec<u64> {
        self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect()
    }

    /// Those that waited long enough to be sent again.
    pub(crate) fn due(&self, now: Moment) -> Vec<u64> {
        self.delayed.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let first = |set: &BTreeSet<(Moment, u64)>| set.first().map(|(moment, _)| *moment);
        first(&self.deadlines).into_iter().chain(first(&self.delayed)).min()
    }
}
