//! Whether a client that holds leases is heard of.
//!
//! A client says that it is alive three times a second, but anything else that it sends says so too: an acknowledgement
//! from a client whose keep-alives are held up behind other work keeps its leases from becoming suspect.

use std::time::Duration;

use hither_protocol::SessionId;
use tokio::time::Instant;

use super::connection::Connection;

/// Between two looks: a quarter of the silence after which leases become suspect.
const LOOK: Duration = Duration::from_millis(250);

/// Looks whether packets came.
pub(super) struct Liveness {
    datagrams: u64,
    next: Instant,
}

impl Liveness {
    pub(super) fn new() -> Self {
        Self { datagrams: 0, next: Instant::now() }
    }

    /// When to look again; never, without a session to lose.
    pub(super) fn next_look(&self, connection: &Connection) -> Option<Instant> {
        connection.session().map(|_| self.next)
    }

    /// The session whose client was heard of since the last look, if it is time for one.
    pub(super) fn look(&mut self, connection: &Connection) -> Option<SessionId> {
        let session = connection.session()?;
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        self.next = now + LOOK;
        let datagrams = connection.quic.stats().udp_rx.datagrams;
        let heard = datagrams != self.datagrams;
        self.datagrams = datagrams;
        heard.then_some(session)
    }
}
