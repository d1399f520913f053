//! How the node is doing.

use hither_protocol::ClusterId;
use hither_protocol::message::{Reply, Stamp, StatusReply};

use super::Service;
use crate::session::OWN_WATCHES;

impl Service {
    pub(super) async fn status(&self) -> (Stamp, Reply) {
        let mut stamp = self.stamp_of_now().await;
        let stats = self.engine.stats();
        let (cluster, node) = self.engine.identity();
        let (term, leader) = (self.engine.leadership().term, self.leader());
        let machine = self.engine.machine();
        let watches = machine.hub.lock().watches().saturating_sub(OWN_WATCHES) as u64;
        let state = machine.state.read();
        stamp.revision = state.revision();
        let reply = StatusReply {
            cluster: cluster.unwrap_or(ClusterId([0; 16])),
            incarnation: state.lineage().map_or(0, |lineage| lineage.incarnation),
            node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            term,
            leader,
            revision: state.revision(),
            floor: state.floor(),
            log_index: stats.log_index,
            applied_index: stats.applied_index,
            keys: state.keys(),
            state_bytes: state.state_bytes(),
            state_bytes_max: state.limits().state_bytes_max,
            leases: state.leases_len() as u64,
            sessions: state.sessions_len() as u64,
            connections: self.registry.len() as u64,
            watches,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (stamp, Reply::Status(reply))
    }
}
