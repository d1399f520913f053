//! Whether a client that holds leases is heard of.

use std::sync::Arc;
use std::time::Duration;

use hither_protocol::SessionId;
use tokio::time::Instant;

use super::Plane;
use super::connection::Connection;

/// Looks in the longest silence that is borne: how late it can be noticed.
const LOOKS: u32 = 4;

/// Counts silence. Any packet will do: a client whose host is up acknowledges beats.
pub(super) struct Liveness {
    datagrams: u64,
    heard: Instant,
    looked: Instant,
    /// It was said.
    is_silent: bool,
}

impl Liveness {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { datagrams: 0, heard: now, looked: now, is_silent: false }
    }

    /// When to look again; never, without a session to lose.
    pub(super) fn next_look(&self, plane: &Plane, connection: &Connection) -> Option<Instant> {
        connection.session()?;
        Some(self.looked + interval(plane))
    }

    /// Compares what has come with what had.
    pub(super) fn look(&mut self, plane: &Plane, connection: &Connection) {
        let now = Instant::now();
        // After a stall of this thread nothing was counted: whether the client was silent, the next look tells.
        let was_away = now.duration_since(self.looked) > 2 * interval(plane);
        self.looked = now;
        let datagrams = connection.quic.stats().udp_rx.datagrams;
        if datagrams != self.datagrams || was_away {
            self.datagrams = datagrams;
            self.heard = now;
            self.is_silent = false;
        }
        if !self.is_silent && now.duration_since(self.heard) >= plane.clients.silence_max {
            self.report(plane, connection);
        }
    }

    /// The connection is over without a goodbye: the client is silent until it comes back on another one.
    pub(super) fn gone(&mut self, plane: &Arc<Plane>, connection: &Connection) {
        let by_us = matches!(connection.quic.close_reason(), Some(quinn::ConnectionError::LocallyClosed));
        if !by_us && !self.is_silent {
            self.report(plane, connection);
        }
    }

    fn report(&mut self, plane: &Plane, connection: &Connection) {
        let speaks = |session: &SessionId| plane.registry.speaks_for(connection.id, *session);
        if let Some(session) = connection.session().filter(speaks) {
            self.is_silent = true;
            // The leader notices by itself: nobody vouches for the session any more.
            tracing::debug!(name = connection.caller.name, %session, "a client that holds leases is silent");
        }
    }
}

fn interval(plane: &Plane) -> Duration {
    plane.clients.silence_max / LOOKS
}
