//! One connection to one server, from dialing to its end.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{Message, encode};
use hither_protocol::message::KeepAlive;
use hither_protocol::{Moment, SessionId};

use crate::options::{BEAT_DEFAULT, BEATS_MISSED_MAX};
use crate::url::Endpoint;

/// Names a connection, or an attempt at one. None is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Keep-alives whose answer is awaited: at three a second, twenty seconds of them.
const KEEP_ALIVES_MAX: usize = 64;
/// Streams that a server may open beyond one for each watch: large replies.
const STREAMS_SPARE: u64 = 64;

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    pub(crate) phase: Phase,
    /// Frames for the control lane that were not written yet.
    pub(crate) control: BytesMut,
    /// Frames for the request lane that were not written yet.
    pub(crate) lane: BytesMut,
    /// Requests sent and not answered.
    pub(crate) in_flight: BTreeSet<u64>,
    /// The server asked to be left.
    pub(crate) leaving: bool,
    /// When the server was last heard of.
    pub(crate) heard: Moment,
    /// Since when the server has had something to say.
    owes_since: Option<Moment>,
    pub(crate) beat: Duration,
    pub(crate) keep_alive_at: Moment,
    keep_alive: u64,
    acknowledged: u64,
    /// The session that the server knows this client by, and the first keep-alive whose answer speaks of it.
    session: Option<(SessionId, u64)>,
    sent: VecDeque<(u64, Moment)>,
    /// Watch streams that this side asked for and that have not ended.
    pub(crate) streams: u64,
    allowed: u64,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No answer yet.
    Dialing { until: Moment },
    /// Hello was sent.
    Greeting { until: Moment },
    /// Welcome.
    Open { since: Moment },
}

impl Link {
    pub(crate) fn new(endpoint: Endpoint, now: Moment, until: Moment) -> Self {
        Self {
            endpoint,
            phase: Phase::Dialing { until },
            control: BytesMut::new(),
            lane: BytesMut::new(),
            in_flight: BTreeSet::new(),
            leaving: false,
            heard: now,
            owes_since: None,
            beat: BEAT_DEFAULT,
            keep_alive_at: now,
            keep_alive: 0,
            acknowledged: 0,
            session: None,
            sent: VecDeque::new(),
            streams: 0,
            allowed: 0,
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Writes a frame for the control lane.
    pub(crate) fn tell<M: Message>(&mut self, id: u64, message: &M) {
        encode(&mut self.control, id, message);
    }

    /// What to write to the control lane.
    pub(crate) fn take_control(&mut self) -> Option<Bytes> {
        (!self.control.is_empty()).then(|| self.control.split().freeze())
    }

    /// What to write to the request lane.
    pub(crate) fn take_lane(&mut self) -> Option<Bytes> {
        (!self.lane.is_empty()).then(|| self.lane.split().freeze())
    }

    /// When the server counts as silent: never, while it has nothing to say.
    pub(crate) fn silent_at(&self) -> Option<Moment> {
        Some(self.heard.max(self.owes_since?) + self.beat * BEATS_MISSED_MAX)
    }

    /// Notes whether the server has something to say soon: an answer, or beats, which it gives to those with a watch.
    /// `is_kept`: something depends on what it says to keep-alives.
    pub(crate) fn owe(&mut self, now: Moment, is_kept: bool) {
        let is_asked = self.keep_alive > self.acknowledged || !self.in_flight.is_empty();
        if is_kept || is_asked || self.streams > 0 {
            self.owes_since.get_or_insert(now);
        } else {
            self.owes_since = None;
        }
    }

    /// Whoever waits for an answer asks once in a beat whether the server is there: the answer may take longer.
    pub(crate) fn ask_soon(&mut self, now: Moment) {
        self.keep_alive_at = self.keep_alive_at.min(now + self.beat);
    }

    /// Says that the client is alive.
    pub(crate) fn keep_alive(&mut self, now: Moment, interval: Duration) {
        self.keep_alive += 1;
        self.keep_alive_at = now + interval;
        if !self.in_flight.is_empty() {
            self.ask_soon(now);
        }
        if self.sent.len() == KEEP_ALIVES_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.keep_alive, now));
        let number = self.keep_alive;
        self.tell(0, &KeepAlive { number });
    }

    /// When the keep-alive of this number was sent, once.
    pub(crate) fn acknowledge(&mut self, number: u64) -> Option<Moment> {
        self.acknowledged = self.acknowledged.max(number);
        let mut sent_at = None;
        while let Some((sent, at)) = self.sent.front().copied() {
            if sent > number {
                break;
            }
            sent_at = (sent == number).then_some(at);
            self.sent.pop_front();
        }
        sent_at
    }

    /// What the server says to keep-alives from here on is said of this session: it was named in Hello, or opened here.
    /// Answers to those that are on their way may speak of one before it.
    pub(crate) fn speak_of(&mut self, session: SessionId) {
        self.session = Some((session, self.next_keep_alive()));
    }

    /// The session that the server knows this client by.
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.session.map(|(session, _)| session)
    }

    /// The session that the answer to a keep-alive speaks of.
    pub(crate) fn spoken_of(&self, number: u64) -> Option<SessionId> {
        self.session.filter(|(_, since)| number >= *since).map(|(session, _)| session)
    }

    /// The next keep-alive's number. Control frames arrive in order: once it is acknowledged, the server has handled
    /// all that was written before it.
    pub(crate) const fn next_keep_alive(&self) -> u64 {
        self.keep_alive + 1
    }

    /// The newest keep-alive that was acknowledged.
    pub(crate) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// One more stream is asked for. Returns how many the server may open from now on, if that must be raised.
    pub(crate) fn add_stream(&mut self) -> Option<u64> {
        self.streams += 1;
        let needed = self.streams + STREAMS_SPARE;
        if needed <= self.allowed {
            return None;
        }
        self.allowed = needed.next_power_of_two();
        Some(self.allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let endpoint = Endpoint { host: "a".to_owned(), port: 1 };
        Link::new(endpoint, Moment(0), Moment(1))
    }

    #[test]
    fn an_acknowledged_keep_alive_says_when_it_was_sent() {
        let mut link = link();
        for at in 1..=100 {
            link.keep_alive(Moment(at), Duration::ZERO);
        }
        assert_eq!(link.acknowledge(1), None, "forgotten: only so many are awaited");
        assert_eq!(link.acknowledge(90), Some(Moment(90)));
        assert_eq!(link.acknowledge(90), None);
        assert_eq!(link.acknowledge(80), None);
        assert_eq!(link.next_keep_alive(), 101);
    }

    #[test]
    fn streams_are_allowed_before_they_are_needed_and_in_few_steps() {
        let mut link = link();
        let raised: Vec<u64> = (0..1_000).filter_map(|_| link.add_stream()).collect();
        assert_eq!(raised, [128, 256, 512, 1_024, 2_048]);
    }
}
