//! What the tasks of one connection share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hither_protocol::error::CloseCode;
use hither_protocol::{Refusal, SessionId, WatchId};
use hither_state::door::Caller;
use hither_state::watch::ConnectionId;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::Plane;
use super::accept::close;
use super::in_flight::InFlight;
use crate::engine::Tray;
use crate::identity::Principal;
use crate::telemetry::ConnectionMeters;

/// Refused frames and abandoned streams of one connection before it is closed: a client in good order has none.
const ERRORS_MAX: u32 = 100;
/// Large bodies of one connection in memory at once, coming or going.
const BULK_MAX: usize = 8;

/// How a shutdown sees to it that the last answers arrive: closing a connection drops what was not yet received.
#[derive(Debug, Default)]
pub(super) struct LaneEnd {
    pub(super) is_open: AtomicBool,
    /// The lane is to be ended once everything on it is answered.
    pub(super) wanted: Notify,
    /// The client has all that was written.
    pub(super) reached: Notify,
}

/// A connection that was welcomed.
pub(crate) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) quic: quinn::Connection,
    pub(super) principal: Principal,
    pub(super) caller: Caller,
    pub(super) in_flight: InFlight,
    /// Where the answers to the commands of the request lane come.
    pub(super) tray: Arc<Tray>,
    /// The request lane, as a shutdown sees it.
    pub(super) lane: LaneEnd,
    /// Some of its watches have something to send.
    pub(super) wake: Notify,
    pub(super) bulk: Arc<Semaphore>,
    pub(super) meters: ConnectionMeters,
    /// The client's numbers of its open watches.
    pub(super) watches: Mutex<BTreeSet<WatchId>>,
    session: Mutex<Option<SessionId>>,
    errors: AtomicU32,
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        quic: quinn::Connection,
        principal: Principal,
        caller: Caller,
        meters: ConnectionMeters,
    ) -> Self {
        Self {
            id,
            quic,
            principal,
            caller,
            in_flight: InFlight::default(),
            tray: Arc::default(),
            lane: LaneEnd::default(),
            wake: Notify::new(),
            bulk: Arc::new(Semaphore::new(BULK_MAX)),
            meters,
            watches: Mutex::default(),
            session: Mutex::new(None),
            errors: AtomicU32::new(0),
        }
    }

    /// The session whose client is at the other end.
    pub(super) fn session(&self) -> Option<SessionId> {
        *self.session.lock()
    }

    /// A session was opened or resumed here: what comes on this connection shows that its client is alive.
    pub(super) fn adopt(&self, session: SessionId) {
        *self.session.lock() = Some(session);
    }

    /// A session was closed here.
    pub(super) fn release(&self, session: SessionId) {
        self.session.lock().take_if(|own| *own == session);
    }

    pub(super) fn close(&self, code: CloseCode) {
        close(&self.quic, code);
    }

    /// Counts input that broke the rules, says so in the log, and closes the connection when it is too much.
    pub(super) fn count_error(&self, plane: &Plane, refusal: &Refusal) {
        plane.complaints.log(self.quic.remote_address(), &format_args!("`{}` sent {refusal}", self.caller.name));
        if self.errors.fetch_add(1, Ordering::Relaxed) + 1 > ERRORS_MAX {
            self.close(CloseCode::ExcessiveErrors);
        }
    }
}
