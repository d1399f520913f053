//! What is read when somebody asks, not counted as it happens.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::engine::Engine;
use crate::session::{OWN_WATCHES, Registry};

pub(super) struct Collect {
    engine: Engine,
    registry: Arc<Registry>,
}

impl Collect {
    pub(super) fn new(engine: Engine, registry: Arc<Registry>) -> Self {
        Self { engine, registry }
    }

    /// Numbers that go up and down: name, help, value.
    fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        let stats = self.engine.stats();
        let machine = self.engine.machine();
        let leadership = self.engine.leadership();
        let mut gauges = vec![
            ("connections", "Client connections", self.registry.len() as u64),
            ("requests_in_flight", "Requests being worked on", self.registry.requests_in_flight() as u64),
            ("leader", "Whether this node leads", u64::from(leadership.is_leader)),
            ("term", "Raft's term", leadership.term),
            ("log_index", "The last log entry here", stats.log_index),
            ("applied_index", "The last entry applied", stats.applied_index),
            ("persisted_index", "The last entry in the state on disk", stats.persisted_index),
            ("proposals_waiting", "Proposals that wait for a log entry", stats.proposals_waiting),
            ("entries_in_flight", "Log entries proposed and not yet applied", stats.entries_in_flight),
            ("unpersisted_bytes", "Changes not yet in the state on disk", stats.unpersisted_bytes),
            ("no_space", "Whether puts are refused for want of disk space", u64::from(stats.no_space)),
        ];
        {
            let state = machine.state.read();
            gauges.extend([
                ("revision", "The newest revision", state.revision().0),
                ("floor", "The oldest revision that a watch can resume after", state.floor().0),
                ("keys", "Keys in all namespaces", state.keys()),
                ("state_bytes", "Bytes of keys and values", state.state_bytes()),
                ("state_bytes_max", "The most that they may be", state.limits().state_bytes_max),
                ("leases", "Leases, the sessions' own among them", state.leases_len() as u64),
                ("sessions", "Sessions", state.sessions_len() as u64),
            ]);
        }
        {
            let hub = machine.hub.lock();
            let lag = hub.lag();
            gauges.extend([
                ("watches", "Open watches of clients", hub.watches().saturating_sub(OWN_WATCHES) as u64),
                ("watch_topics", "Sets of watches that see the same events", hub.topics() as u64),
                ("watch_lag_revisions", "How far the slowest watch is behind", lag.revisions),
                ("watch_lag_bytes", "Bytes of history that the slowest watch is behind", lag.bytes as u64),
                ("watch_history_bytes", "Bytes of history", hub.history_bytes() as u64),
            ]);
        }
        gauges
    }
}

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in self.gauges() {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let stats = self.engine.stats();
        encoder
            .encode_descriptor("commands_applied", "Commands applied since the start", None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&stats.commands_applied, None)?;
        // The engine counts up to each bound; the encoder adds up what falls between them.
        let mut below = 0;
        let buckets: Vec<(f64, u64)> = stats
            .sync_seconds
            .iter()
            .map(|&(bound, up_to)| {
                let between = up_to.saturating_sub(below);
                below = up_to;
                (bound, between)
            })
            .collect();
        encoder
            .encode_descriptor("log_sync_seconds", "Synced writes of the log", None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(stats.sync_seconds_sum, below, &buckets, None)
    }
}

impl fmt::Debug for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collect")
    }
}
