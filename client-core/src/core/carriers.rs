//! The table of watches: what the application has, what carries it, and on which stream.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::encode_body;
use hither_protocol::message::Start;
use hither_protocol::{Moment, Revision};

use crate::error::Error;
use crate::link::LinkId;
use crate::spec::WatchSpec;
use crate::stream::Stream;

/// All watches. An application's watch is a subscriber of a carrier; identical ones share it.
#[derive(Debug, Default)]
pub(super) struct Watches {
    pub(super) carriers: BTreeMap<u64, Carrier>,
    pub(super) subscribers: BTreeMap<u64, Subscriber>,
    /// The carrier that the next identical watch may join.
    pub(super) shared: BTreeMap<Bytes, u64>,
    pub(super) wires: BTreeMap<(LinkId, u64), u64>,
    pub(super) next_carrier: u64,
    pub(super) next_wire: u64,
    pub(super) retries: BTreeSet<(Moment, u64)>,
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
    pub(super) carrier: u64,
    /// Since when and until when it waits to be opened; none once it is.
    pub(super) opening: Option<(Moment, Moment)>,
}

impl Watches {
    pub(super) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    pub(super) fn streams(&self) -> usize {
        self.wires.len()
    }

    pub(super) fn next_deadline(&self, connected: bool) -> Option<Moment> {
        let first = |set: &BTreeSet<(Moment, u64)>| set.first().map(|(moment, _)| *moment);
        first(&self.deadlines).into_iter().chain(first(&self.retries).filter(|_| connected)).min()
    }

    pub(super) fn of_wire(&mut self, link: LinkId, wire: u64) -> Option<(u64, &mut Carrier)> {
        let key = *self.wires.get(&(link, wire))?;
        self.carriers.get_mut(&key).map(|carrier| (key, carrier))
    }

    /// Nobody joins it any more.
    pub(super) fn unshare(&mut self, key: u64) {
        let Some(carrier) = self.carriers.get_mut(&key) else { return };
        carrier.stream.keep_to_itself();
        let name = share_key(carrier.stream.spec());
        if self.shared.get(&name) == Some(&key) {
            self.shared.remove(&name);
        }
    }

    pub(super) fn forget_retry(&mut self, key: u64) {
        if let Some(at) = self.carriers.get_mut(&key).and_then(|carrier| carrier.retry_at.take()) {
            self.retries.remove(&(at, key));
        }
    }
}

impl Carrier {
    pub(super) const fn new(stream: Stream, subscribers: Vec<u64>) -> Self {
        Self { stream, subscribers, wire: None, paused: false, begun: false, attempts: 0, retry_at: None, error: None }
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
