//! The client's standing at the cluster: numbers for its mutations, and until when it may count on its leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hither_protocol::message::{LeaseGrantReply, RetryToken, SessionOpenReply};
use hither_protocol::{LeaseId, Moment, SequenceNumber, SessionId};

/// Taken off every TTL at least: for what a scheduler, a network and a clock may add unseen.
const MARGIN_MIN: Duration = Duration::from_millis(500);

/// Until when a holder may count on a lease of `ttl` that was alive at `confirmed`. The server counts the TTL from
/// when it heard, which is later than when the client spoke; so this moment comes before the server's.
pub(crate) fn safe_until(confirmed: Moment, ttl: Duration) -> Moment {
    confirmed + ttl.saturating_sub(MARGIN_MIN.max(ttl / 10))
}

/// An open session and the leases bound to it that the client keeps.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    ttl: Duration,
    safe_until: Moment,
    /// It was reported lost. The server may yet go on with it; leases that were reported lost stay so.
    lost: bool,
    next_number: u64,
    waiting: BTreeSet<u64>,
    leases: BTreeMap<LeaseId, Held>,
    /// When something here must be looked at; kept, since it is asked for at every turn.
    next: Option<Moment>,
}

#[derive(Debug)]
struct Held {
    ttl: Duration,
    safe_until: Moment,
    /// When to ask whether it still is: it may have been revoked by others.
    ask_at: Moment,
    on_loss: OnLoss,
}

/// What becomes at the server of a lease that was reported lost, if the server goes on with it after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// It is revoked: it must not go on unseen.
    Revoke,
    /// Its holder ends it, once it has moved what hangs on it.
    Leave,
}

impl Session {
    /// `asked_at`: when the request that opened it was sent.
    pub(crate) fn new(reply: &SessionOpenReply, asked_at: Moment) -> Self {
        let ttl = Duration::from_millis(reply.ttl_ms);
        Self {
            id: reply.session,
            ttl,
            safe_until: safe_until(asked_at, ttl),
            lost: false,
            next_number: 1,
            waiting: BTreeSet::new(),
            leases: BTreeMap::new(),
            next: Some(safe_until(asked_at, ttl)),
        }
    }

    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// The number of the next mutation, unless so many are unanswered that the session could forget one.
    pub(crate) fn take_number(&mut self, spread_max: u64) -> Option<SequenceNumber> {
        if self.next_number - self.acknowledged() > spread_max {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert(number);
        Some(SequenceNumber(number))
    }

    /// The mutation was answered, or given up for good.
    pub(crate) fn settle(&mut self, number: SequenceNumber) {
        self.waiting.remove(&number.0);
    }

    pub(crate) fn token(&self, sequence: SequenceNumber) -> RetryToken {
        RetryToken { session: self.id, sequence, acknowledged: SequenceNumber(self.acknowledged()) }
    }

    /// Every number up to this one was settled.
    fn acknowledged(&self) -> u64 {
        self.waiting.first().map_or(self.next_number, |first| *first) - 1
    }

    /// The server had heard of the client when it sent something at `sent`, and the session is alive.
    pub(crate) fn confirm(&mut self, sent: Moment) {
        let until = safe_until(sent, self.ttl);
        self.safe_until = self.safe_until.max(until);
        for held in self.leases.values_mut() {
            held.safe_until = held.safe_until.max(safe_until(sent, held.ttl));
        }
        self.look();
    }

    /// The server goes on with it after it was reported lost.
    pub(crate) fn revive(&mut self, sent: Moment) {
        self.lost = false;
        self.confirm(sent);
    }

    /// A lease to keep, granted by a request sent at `asked_at`.
    pub(crate) fn hold(&mut self, reply: &LeaseGrantReply, asked_at: Moment, on_loss: OnLoss) {
        let ttl = Duration::from_millis(reply.ttl_ms);
        let held = Held { ttl, safe_until: safe_until(asked_at, ttl), ask_at: asked_at + ttl, on_loss };
        self.leases.insert(reply.lease, held);
        self.look();
    }

    /// Keeps these leases no longer. Returns those that it kept.
    pub(crate) fn release(&mut self, leases: Vec<LeaseId>) -> Vec<LeaseId> {
        // What is to be looked at next may have gone with them. It is found out then: finding out looks at all that are left.
        leases.into_iter().filter(|lease| self.leases.remove(lease).is_some()).collect()
    }

    /// When something here must be looked at.
    pub(crate) const fn next_deadline(&self) -> Option<Moment> {
        self.next
    }

    fn look(&mut self) {
        let own = (!self.lost).then_some(self.safe_until);
        let leases = self.leases.values().map(|held| held.safe_until.min(held.ask_at)).min();
        self.next = own.into_iter().chain(leases).min();
    }

    /// The leases that must be taken as lost by now; they are kept no longer. All of them, if the session must be.
    pub(crate) fn take_lost(&mut self, now: Moment) -> Vec<(LeaseId, OnLoss)> {
        if !self.lost && now >= self.safe_until {
            self.lost = true;
        }
        let over = |held: &Held| self.lost || now >= held.safe_until;
        let lost = self.leases.iter().filter(|(_, held)| over(held)).map(|(lease, held)| (*lease, held.on_loss));
        let lost: Vec<(LeaseId, OnLoss)> = lost.collect();
        for (lease, _) in &lost {
            self.leases.remove(lease);
        }
        self.look();
        lost
    }

    /// The leases whose holder should ask whether they still are. Each is due once in its TTL; with the first that is, all
    /// go that soon will be, so that they are due together from then on and many cost no more questions than one.
    pub(crate) fn take_due(&mut self, now: Moment) -> Vec<LeaseId> {
        let mut due = Vec::new();
        if self.leases.values().any(|held| now >= held.ask_at) {
            for (lease, held) in &mut self.leases {
                if now + held.ttl / 4 >= held.ask_at {
                    held.ask_at = now + held.ttl;
                    due.push(*lease);
                }
            }
        }
        self.look();
        due
    }

    /// The session is over: the leases that were kept.
    pub(crate) fn into_leases(self) -> Vec<LeaseId> {
        self.leases.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Moment {
        Moment(0) + SECOND * u32::try_from(seconds).expect("small")
    }

    fn session() -> Session {
        Session::new(&SessionOpenReply { session: SessionId(7), ttl_ms: 10_000, epoch: 1 }, at(0))
    }

    #[test]
    fn the_watermark_follows_the_oldest_unanswered_mutation() {
        let mut session = session();
        let numbers: Vec<SequenceNumber> = (0..3).filter_map(|_| session.take_number(1_000)).collect();
        assert_eq!(session.token(numbers[2]).acknowledged, SequenceNumber(0));
        session.settle(numbers[1]);
        assert_eq!(session.token(numbers[2]).acknowledged, SequenceNumber(0));
        session.settle(numbers[0]);
        assert_eq!(session.token(numbers[2]).acknowledged, SequenceNumber(2));
        session.settle(numbers[2]);
        assert_eq!(session.token(SequenceNumber(4)).acknowledged, SequenceNumber(3));
    }

    #[test]
    fn one_that_is_unanswered_bounds_how_far_the_others_may_go() {
        let mut session = session();
        let first = session.take_number(10).expect("the first");
        (0..9).for_each(|_| {
            let number = session.take_number(10).expect("within the bound");
            session.settle(number);
        });
        assert_eq!(session.take_number(10), None);
        session.settle(first);
        assert_eq!(session.take_number(10), Some(SequenceNumber(11)));
    }

    #[test]
    fn a_lease_is_lost_before_the_server_could_let_it_expire() {
        assert_eq!(safe_until(at(0), SECOND * 10), at(9));
        assert_eq!(safe_until(at(0), SECOND), Moment(500_000_000));
        assert_eq!(safe_until(at(0), SECOND * 100), at(90));

        let mut session = session();
        session.hold(&LeaseGrantReply { lease: LeaseId(1), ttl_ms: 2_000, epoch: 1 }, at(1), OnLoss::Revoke);
        assert_eq!(session.take_lost(Moment(2_499_999_999)), []);
        session.confirm(at(2));
        assert_eq!(session.take_lost(at(3)), []);
        assert_eq!(session.take_lost(Moment(3_500_000_000)), [(LeaseId(1), OnLoss::Revoke)]);
        assert!(!session.is_lost());
    }

    #[test]
    fn every_lease_is_lost_with_its_session() {
        let mut session = session();
        session.hold(&LeaseGrantReply { lease: LeaseId(1), ttl_ms: 3_600_000, epoch: 1 }, at(0), OnLoss::Revoke);
        assert_eq!(session.take_lost(at(8)), []);
        assert_eq!(session.take_lost(at(9)), [(LeaseId(1), OnLoss::Revoke)]);
        assert!(session.is_lost());
        session.revive(at(20));
        assert_eq!(session.take_lost(at(20)), []);
        assert!(session.into_leases().is_empty(), "a lost lease never comes back");
    }
}
