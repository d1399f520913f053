//! What an instance leaves behind when it stops in good order.

use std::time::Duration;

use hither_protocol::message::Put;
use hither_protocol::{LeaseId, Moment};

use crate::instance::{Instance, SCHEMA};

/// How long it is kept.
pub const TOMBSTONE_TTL: Duration = Duration::from_secs(600);
/// For so long one lease serves all that stop; each record is kept so much longer at most.
const SHARED: Duration = Duration::from_secs(60);

/// The record that an instance leaves behind: who stopped, and when (UTC, RFC 3339).
#[must_use]
pub fn tombstone(instance: &Instance, stopped_at: &str, lease: LeaseId) -> Put {
    let Instance { service, id, version, started_at, epoch, .. } = instance;
    let record = serde_json::json!({
        "schema": SCHEMA,
        "service": service,
        "id": id,
        "version": version,
        "epoch": epoch.0,
        "started_at": started_at,
        "stopped_at": stopped_at,
    });
    let key = Instance::tombstone_of(service, id);
    Put { key, value: record.to_string().into(), lease: Some(lease), previous: false }
}

/// The lease that tombstones end with, granted when the first one needs it.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    lease: Option<(LeaseId, Moment)>,
    asked: bool,
    /// It could not be granted a moment ago.
    failed_until: Option<Moment>,
}

/// What there is for a tombstone now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lease {
    There(LeaseId),
    Ask(Duration),
    Asked,
    None,
}

impl Tombstones {
    pub(super) fn lease(&mut self, now: Moment) -> Lease {
        match self.lease {
            Some((lease, until)) if now < until => return Lease::There(lease),
            _ if self.asked => return Lease::Asked,
            _ if self.failed_until.is_some_and(|until| now < until) => return Lease::None,
            _ => {}
        }
        self.asked = true;
        Lease::Ask(TOMBSTONE_TTL + SHARED)
    }

    pub(super) fn handle_granted(&mut self, now: Moment, lease: Option<LeaseId>) {
        self.asked = false;
        self.failed_until = lease.is_none().then(|| now + SHARED);
        self.lease = lease.map(|lease| (lease, now + SHARED));
    }
}
