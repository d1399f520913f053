//! What went on, in numbers: counted where it happens, read from the engine when asked.

mod collect;
mod known;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::ErrorCode;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry as Metrics;

use crate::engine::Engine;
use crate::session::Registry;

use known::Known;

/// Kinds of client software that are told apart; an agent is the client's own word.
const AGENTS_MAX: usize = 64;
/// Identities that are told apart.
const CLIENTS_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    op: &'static str,
    code: &'static str,
    agent: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    client: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabels {
    op: &'static str,
}

/// The metrics of a node.
pub(crate) struct Telemetry {
    metrics: Metrics,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<OpLabels, Histogram, fn() -> Histogram>,
    client_requests: Family<ClientLabels, Counter>,
    client_watches: Family<ClientLabels, Gauge>,
    watch_frames: Counter,
    handshakes: Gauge,
    handshakes_refused: Counter,
    agents: Known,
    clients: Known,
}

/// 50 µs to 1.6 s: from a read in memory to a write that waits for an election.
fn request_seconds() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 16))
}

impl Telemetry {
    pub(crate) fn new(engine: Engine, registry: Arc<Registry>) -> Self {
        let mut metrics = Metrics::with_prefix("hither");
        let requests = Family::default();
        let seconds = Family::new_with_constructor(request_seconds as fn() -> Histogram);
        let client_requests = Family::default();
        let client_watches = Family::default();
        let watch_frames = Counter::default();
        let handshakes = Gauge::default();
        let handshakes_refused = Counter::default();
        metrics.register(
            "requests",
            "Requests, by what they asked, how they ended and the client's software",
            requests.clone(),
        );
        metrics.register("request_seconds", "From a request's arrival to its answer", seconds.clone());
        metrics.register("client_requests", "Requests, by identity", client_requests.clone());
        metrics.register("client_watches", "Open watches, by identity", client_watches.clone());
        metrics.register("watch_frames", "Frames sent on watches", watch_frames.clone());
        metrics.register("handshakes", "Handshakes under way", handshakes.clone());
        metrics.register(
            "handshakes_refused",
            "Clients sent away before a handshake, to come later",
            handshakes_refused.clone(),
        );
        metrics.register_collector(Box::new(collect::Collect::new(engine, registry)));
        Self {
            metrics,
            requests,
            seconds,
            client_requests,
            client_watches,
            watch_frames,
            handshakes,
            handshakes_refused,
            agents: Known::new(AGENTS_MAX),
            clients: Known::new(CLIENTS_MAX),
        }
    }

    /// The meters of a connection, so that counting needs no look-up by text.
    pub(crate) fn connection(self: &Arc<Self>, agent: &str, client: &str) -> ConnectionMeters {
        let client = ClientLabels { client: self.clients.label(client) };
        ConnectionMeters {
            requests: self.client_requests.get_or_create_owned(&client),
            watches: self.client_watches.get_or_create_owned(&client),
            frames: self.watch_frames.clone(),
            agent: self.agents.label(agent),
            by_outcome: Mutex::default(),
            telemetry: Arc::clone(self),
        }
    }

    /// A handshake is under way as long as this lives.
    pub(crate) fn handshake(&self) -> HandshakeUnderway {
        self.handshakes.inc();
        HandshakeUnderway(self.handshakes.clone())
    }

    /// Somebody was sent away before a handshake.
    pub(crate) fn handshake_refused(&self) {
        self.handshakes_refused.inc();
    }

    /// Everything, as OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics)?;
        Ok(text)
    }
}

/// Counts one handshake.
pub(crate) struct HandshakeUnderway(Gauge);

impl Drop for HandshakeUnderway {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The meters of one op that ended one way.
type Outcomes = HashMap<(&'static str, Option<ErrorCode>), (Counter, Histogram)>;

/// Counts what one connection does.
pub(crate) struct ConnectionMeters {
    requests: Counter,
    watches: Gauge,
    frames: Counter,
    agent: Arc<str>,
    by_outcome: Mutex<Outcomes>,
    telemetry: Arc<Telemetry>,
}

impl ConnectionMeters {
    /// A request was answered.
    pub(crate) fn observe(&self, op: &'static str, took: Duration, refused: Option<ErrorCode>) {
        let mut by_outcome = self.by_outcome.lock();
        let (count, seconds) = by_outcome.entry((op, refused)).or_insert_with(|| self.meters(op, refused));
        count.inc();
        seconds.observe(took.as_secs_f64());
        self.requests.inc();
    }

    /// A request was refused before it was worked on, or dropped.
    pub(crate) fn count(&self, op: &'static str, code: ErrorCode) {
        self.by_outcome.lock().entry((op, Some(code))).or_insert_with(|| self.meters(op, Some(code))).0.inc();
        self.requests.inc();
    }

    pub(crate) fn watch_opened(&self) {
        self.watches.inc();
    }

    pub(crate) fn watches_closed(&self, number: usize) {
        self.watches.dec_by(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(crate) fn frames_sent(&self, number: usize) {
        self.frames.inc_by(number as u64);
    }

    fn meters(&self, op: &'static str, code: Option<ErrorCode>) -> (Counter, Histogram) {
        let code = code.map_or("Ok", ErrorCode::name);
        let labels = RequestLabels { op, code, agent: Arc::clone(&self.agent) };
        let telemetry = &self.telemetry;
        (telemetry.requests.get_or_create_owned(&labels), telemetry.seconds.get_or_create_owned(&OpLabels { op }))
    }
}
