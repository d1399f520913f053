//! The table of watches: what the application has, what carries it, and on which stream.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::encode_body;
use hither_protocol::message::Start;
use hither_protocol::{Moment, Revision};
use slab::Slab;

use crate::error::Error;
use crate::link::LinkId;
use crate::spec::WatchSpec;
use crate::stream::Stream;

/// Bits of a stream's number that say which carrier has it; the others count the streams that were ever asked for. No
/// client has more watches than these can name.
const CARRIER_BITS: u32 = 24;
const CARRIER: u64 = (1 << CARRIER_BITS) - 1;

/// All watches. An application's watch is a subscriber of a carrier; identical ones share it.
#[derive(Debug, Default)]
pub(super) struct Watches {
    pub(super) carriers: Slab<Carrier>,
    pub(super) subscribers: BTreeMap<u64, Subscriber>,
    /// The carrier that the next identical watch may join.
    pub(super) shared: BTreeMap<Bytes, usize>,
    /// Streams that were ever asked for.
    asked: u64,
    /// Streams that carry something now.
    wires: usize,
    pub(super) retries: BTreeSet<(Moment, usize)>,
    pub(super) deadlines: BTreeSet<(Moment, u64)>,
    /// The subscribers that are told whether their watch is the present, and what they were told last.
    pub(super) standings: BTreeMap<u64, bool>,
    /// A standing may be another than the one that was told.
    pub(super) moved: bool,
}

/// What one stream at a time carries.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) stream: Stream,
    pub(super) subscribers: Vec<u64>,
    pub(super) wire: Option<Wire>,
    /// The newest revision in an answer when the stream was asked for: what it begins with is no older.
    pub(super) asked_at: Revision,
    /// The application does not keep up: nothing is read until it does.
    pub(super) paused: bool,
    /// It was open before, so that opening it again goes on with it.
    pub(super) begun: bool,
    pub(super) attempts: u32,
    pub(super) retry_at: Option<Moment>,
    pub(super) error: Option<Error>,
}

/// The stream of a carrier on one connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) link: LinkId,
    pub(super) id: u64,
    /// Beats speak of this watch once this keep-alive, which was written after the subscription, was acknowledged:
    /// an older beat that was delayed on its way knows nothing of it.
    pub(super) since: u64,
    /// Frames that have come on it.
    pub(super) received: u64,
    /// Frames that the server had sent on it, as far as beats have told.
    pub(super) sent: u64,
    /// The newest beat that covers it, until as many frames have come as that beat counts.
    pub(super) beat: Option<(Revision, u64)>,
}

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) carrier: usize,
    /// Since when and until when it waits to be opened; none once it is.
    pub(super) opening: Option<(Moment, Moment)>,
}

impl Watches {
    pub(super) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    pub(super) const fn streams(&self) -> usize {
        self.wires
    }

    pub(super) fn next_deadline(&self, connected: bool) -> Option<Moment> {
        let deadline = self.deadlines.first().map(|(moment, _)| *moment);
        let retry = self.retries.first().map(|(moment, _)| *moment);
        deadline.into_iter().chain(retry.filter(|_| connected)).min()
    }

    /// A number for a stream, which no other has or had, and which says where its carrier is.
    pub(super) const fn number(&mut self, carrier: usize) -> u64 {
        self.asked += 1;
        self.asked << CARRIER_BITS | carrier as u64 & CARRIER
    }

    /// A carrier has a stream now.
    pub(super) fn attach(&mut self, key: usize, wire: Wire) {
        if let Some(carrier) = self.carriers.get_mut(key) {
            carrier.wire = Some(wire);
            self.wires += 1;
        }
    }

    /// A carrier has its stream no longer.
    pub(super) fn detach(&mut self, key: usize) -> Option<Wire> {
        let carrier = self.carriers.get_mut(key)?;
        carrier.stream.handle_lost();
        self.moved = true;
        let wire = carrier.wire.take()?;
        self.wires -= 1;
        Some(wire)
    }

    /// The carrier that has this stream.
    pub(super) fn of_wire(&mut self, link: LinkId, wire: u64) -> Option<(usize, &mut Carrier)> {
        let key = usize::try_from(wire & CARRIER).ok()?;
        let carrier = self.carriers.get_mut(key)?;
        let has = carrier.wire.as_ref().is_some_and(|has| has.link == link && has.id == wire);
        has.then_some((key, carrier))
    }

    /// Nobody joins it any more.
    pub(super) fn unshare(&mut self, key: usize) {
        let Some(carrier) = self.carriers.get_mut(key) else { return };
        carrier.stream.keep_to_itself();
        let name = share_key(carrier.stream.spec());
        if self.shared.get(&name) == Some(&key) {
            self.shared.remove(&name);
        }
    }

    pub(super) fn forget_retry(&mut self, key: usize) {
        if let Some(at) = self.carriers.get_mut(key).and_then(|carrier| carrier.retry_at.take()) {
            self.retries.remove(&(at, key));
        }
    }
}

impl Carrier {
    pub(super) const fn new(stream: Stream, subscribers: Vec<u64>) -> Self {
        Self {
            stream,
            subscribers,
            wire: None,
            asked_at: Revision::ZERO,
            paused: false,
            begun: false,
            attempts: 0,
            retry_at: None,
            error: None,
        }
    }

    pub(super) fn count_frame(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.received += 1;
        }
        self.take_beat();
    }

    /// A beat holds once every frame that it counts has come.
    pub(super) fn take_beat(&mut self) {
        if let Some(wire) = &mut self.wire
            && let Some((revision, _)) = wire.beat.take_if(|(_, sent)| wire.received >= *sent)
        {
            self.stream.handle_beat(revision);
        }
    }
}

/// Whether another watch can join one like this: it begins with the state, and its view is all of it, as it is not of
/// the standing of leases.
pub(super) fn is_shareable(spec: &WatchSpec) -> bool {
    spec.start == Start::Snapshot && spec.filter.puts && spec.filter.deletes && !spec.filter.liveness
}

/// Equal for equal specs.
pub(super) fn share_key(spec: &WatchSpec) -> Bytes {
    let mut out = BytesMut::new();
    encode_body(&mut out, &(&spec.range, &spec.start, &spec.mode, &spec.filter, spec.previous, spec.min_interval_ms));
    out.freeze()
}
