//! Raft, and everything that its types show in: above this room nobody knows how the log is agreed on.

mod applier;
mod compaction;
mod links;
mod log;
mod message;
mod network;
pub(crate) mod record;
mod ring;
mod runtime;
mod serve;
mod types;
mod writer;

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

pub(crate) use applier::Applier;
pub use compaction::LogLimits;
pub(crate) use compaction::run as compact;
pub use links::{Lane, Links, NoLinks, PIPE_MESSAGES_MAX, Pending, Pipe};
pub(crate) use log::Log;
pub(crate) use network::Peers;
pub use runtime::{Runtime, Tokio};
pub(crate) use serve::{Heard, Server};
pub(crate) use types::{Answer, Commands, Entry, LeaderId, LogId, Outcome, Payload, StoredMembership, TypeConfig};

use crate::engine::Profile;

/// Raft with Hither's types.
pub(crate) type Raft<R> = openraft::Raft<TypeConfig<R>, Applier>;

/// The longest that an election is put off; a leader that has not heard from a majority for so long is none.
pub(crate) fn election_timeout_max(profile: Profile) -> Duration {
    match profile {
        Profile::Lan => Duration::from_millis(100),
        Profile::Slow => Duration::from_millis(2_500),
    }
}

/// Has what Raft's library computes once in a process computed now, on a thread that ends with it: tables of 24 MiB, for
/// some 25 ms. Whoever is about to open a node's data does it meanwhile; without this, the first engine waits for it.
pub fn prepare() {
    let compute = || drop(base2histogram::Histogram::<()>::new());
    let thread = std::thread::Builder::new().name("hither-prepare".to_owned());
    if let Err(error) = thread.spawn(compute) {
        tracing::debug!(%error, "no thread to prepare raft: its tables are computed when they are needed");
    }
}

/// Raft's settings.
pub(crate) fn config(profile: Profile) -> Config {
    let (heartbeat_interval, election_timeout_min) = match profile {
        Profile::Lan => (25, 75),
        Profile::Slow => (250, 1_500),
    };
    let election_timeout_max = u64::try_from(election_timeout_max(profile).as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "hither".to_owned(),
        heartbeat_interval,
        election_timeout_min,
        election_timeout_max,
        heartbeat_min_interval: Some(0),
        max_payload_entries: 1024,
        max_append_entries: Some(4096),
        // Snapshots and purges follow the bytes of the log, which raft does not count.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 100_000,
        purge_batch_size: 4096,
        // Allocated at once, and touched slot by slot: the default keeps 25 MiB for what the batcher never sends.
        api_channel_size: Some(1024),
        notification_channel_size: Some(4096),
        enable_pre_vote: Some(true),
        // What is in memory after a restart may be older than what was acknowledged: a leader must commit first.
        enable_leader_restore: Some(false),
        // Otherwise a leader that reaches no majority, but some nodes, keeps these from electing another.
        quorum_loss_probe_interval: Some(election_timeout_max * 5 / 2),
        backoff: "10ms 20ms ...200ms".to_owned(),
        ..Config::default()
    }
}
