//! A client's connection, from its first packet to its last: greeting, lanes, watches, liveness.
//!
//! A connection is one task for its control lane, one for its request lane, one for all of its watches, and one for each
//! request on a stream of its own. They share a [`Connection`]; all connections of the plane share a [`Plane`]. Everything
//! here runs on the plane's one thread: what takes agreement or a disk is awaited, what takes a lock holds it for a page.

mod accept;
mod answer;
mod commands;
mod connection;
mod control;
mod enrol;
mod greeting;
mod in_flight;
mod lane;
mod liveness;
mod refusals;
mod registry;
mod revocations;
mod single;
mod watching;
mod work;

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::ClientsConfig;
use crate::service::Service;
use crate::telemetry::Telemetry;

pub(crate) use accept::accept;
pub(crate) use refusals::Complaints;
pub(crate) use registry::Registry;
pub(crate) use revocations::{OWN_WATCHES, revocations};

/// What all connections share.
pub(crate) struct Plane {
    pub(crate) clients: ClientsConfig,
    pub(crate) service: Service,
    pub(crate) registry: Arc<Registry>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Becomes true when the node is going down.
    pub(crate) draining: watch::Receiver<bool>,
    pub(crate) complaints: Complaints,
}

impl Plane {
    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}

/// Stream priorities: what is small and urgent first.
mod priority {
    pub(super) const CONTROL: i32 = 3;
    pub(super) const REQUESTS: i32 = 2;
    pub(super) const EVENTS: i32 = 1;
    pub(super) const BULK: i32 = 0;
}
