//! What an engine is told when it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_state::StateLimits;
use hither_state::watch::HubConfig;

use crate::raft::LogLimits;
use serde::{Deserialize, Serialize};

/// How often a leader is heard of and how long its silence is borne. The same on all nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// Heartbeat 25 ms, election 75-100 ms: nodes in one place, with disks that sync in a few milliseconds.
    #[default]
    Lan,
    /// Heartbeat 250 ms, election 1.5-2.5 s: far apart, or disks whose slow syncs take longer than 75 ms. A heartbeat is
    /// answered only after what was accepted before it is synced.
    Slow,
}

/// A node, as the log's membership entries keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where other nodes reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
}

/// The cluster that an empty node begins.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Its id, drawn at random.
    pub cluster: ClusterId,
    /// Its first voters, this node among them. The first of them begins it.
    pub members: BTreeMap<NodeId, Member>,
}

/// Watches the disk of the state: puts are refused while less than the reserve is free.
#[derive(Clone)]
pub struct DiskReserve {
    /// Bytes free on the disk now.
    pub free: Arc<dyn Fn() -> io::Result<u64> + Send + Sync>,
    /// Bytes that must stay free.
    pub bytes_min: u64,
}

/// Reads the wall clock.
pub type WallClock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// What an engine is told when it starts.
#[derive(Clone)]
pub struct EngineConfig {
    /// This node. Never another one on the same devices, and never the same one on other devices.
    pub node: NodeId,
    /// What to begin if the devices are empty; without it, an empty node waits to be joined to a cluster.
    pub birth: Option<Birth>,
    /// Election times.
    pub profile: Profile,
    /// What the state may grow to: the cluster's, once a leader with this configuration has said so in the log.
    pub limits: StateLimits,
    /// How much history the watches of this node may resume from.
    pub hub: HubConfig,
    /// Proposals that may wait before a log entry takes them: beyond it callers get `ServerBusy`.
    pub queue_max: usize,
    /// Log entries of commands under way at once.
    pub in_flight_max: usize,
    /// How long a caller of [`Engine::propose`](super::Engine::propose) and of
    /// [`Engine::barrier`](super::Engine::barrier) waits.
    pub patience: Duration,
    /// When the log is too long.
    pub log_limits: LogLimits,
    /// How often the state on disk catches up with the one in memory.
    pub persist_interval: Duration,
    /// Longest time that what it was written stays volatile, and a restart takes it from the log again.
    pub flush_interval: Duration,
    /// How often it is looked whether history is to be trimmed.
    pub trim_interval: Duration,
    /// When the disk is full.
    pub disk_reserve: Option<DiskReserve>,
    /// The wall clock, for what is recorded and never compared.
    pub wall_clock: WallClock,
}

impl EngineConfig {
    /// A node with the defaults.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            birth: None,
            profile: Profile::default(),
            limits: StateLimits::default(),
            hub: HubConfig::default(),
            queue_max: 16 * 1024,
            in_flight_max: 16,
            patience: Duration::from_secs(5),
            log_limits: LogLimits::default(),
            persist_interval: Duration::from_millis(250),
            flush_interval: Duration::from_secs(60),
            trim_interval: Duration::from_secs(1),
            disk_reserve: None,
            wall_clock: Arc::new(system_clock),
        }
    }

    /// One that begins a cluster of itself alone if its devices are empty.
    #[must_use]
    pub fn single(node: NodeId, cluster: ClusterId) -> Self {
        let members = BTreeMap::from([(node, Member::default())]);
        Self { birth: Some(Birth { cluster, members }), ..Self::new(node) }
    }
}

impl fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConfig")
            .field("node", &self.node)
            .field("birth", &self.birth)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

fn system_clock() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
