//! `hither status`: how the server is doing.

use std::time::Duration;

use hither::{StatusReply, format_duration};
use serde::Serialize;

use crate::exit::Failure;
use crate::session::Global;
use crate::text;

#[derive(Serialize)]
struct Record {
    cluster: String,
    incarnation: u64,
    node: u64,
    version: String,
    term: u64,
    leader: Option<u64>,
    leader_address: Option<String>,
    revision: u64,
    floor: u64,
    log_index: u64,
    applied_index: u64,
    keys: u64,
    state_bytes: u64,
    state_bytes_max: u64,
    leases: u64,
    sessions: u64,
    connections: u64,
    watches: u64,
    uptime_ms: u64,
}

impl Record {
    fn of(status: StatusReply) -> Self {
        let (leader, leader_address) = status.leader.map(|leader| (leader.node.0, leader.address)).unzip();
        Self {
            cluster: status.cluster.to_string(),
            incarnation: status.incarnation,
            node: status.node.0,
            version: status.version,
            term: status.term,
            leader,
            leader_address,
            revision: status.revision.0,
            floor: status.floor.0,
            log_index: status.log_index,
            applied_index: status.applied_index,
            keys: status.keys,
            state_bytes: status.state_bytes,
            state_bytes_max: status.state_bytes_max,
            leases: status.leases,
            sessions: status.sessions,
            connections: status.connections,
            watches: status.watches,
            uptime_ms: status.uptime_ms,
        }
    }

    fn lines(&self) -> String {
        let leader = match (self.leader, &self.leader_address) {
            (Some(node), _) if node == self.node => "this node".to_owned(),
            (Some(node), Some(address)) => format!("node {node} at {address}"),
            _ => "none".to_owned(),
        };
        let uptime = format_duration(Duration::from_secs(self.uptime_ms / 1_000));
        [
            ("cluster", self.cluster.clone()),
            ("node", format!("{}, version {}, up {uptime}", self.node, self.version)),
            ("leader", format!("{leader}, term {}", self.term)),
            ("revision", format!("{}, watches can resume after {}", self.revision, self.floor)),
            ("log", format!("entry {}, applied {}", self.log_index, self.applied_index)),
            ("keys", self.keys.to_string()),
            ("state", format!("{} of {}", text::bytes(self.state_bytes), text::bytes(self.state_bytes_max))),
            ("leases", format!("{}, {} of them sessions", self.leases, self.sessions)),
            ("clients", format!("{} connections, {} watches", self.connections, self.watches)),
        ]
        .map(|(name, value)| format!("{name:<9} {value}"))
        .join("\n")
    }
}

pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let client = global.connect().await?;
    let record = Record::of(client.status().await?);
    let lines = record.lines();
    global.printer().fact(&lines, &record, &lines)?;
    client.close().await;
    Ok(())
}
