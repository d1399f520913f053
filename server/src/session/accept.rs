//! Taking connections in. A failed one is nobody's concern but its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hither_protocol::ALPN_ENROLL;
use hither_protocol::error::CloseCode;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Endpoint, Incoming};
use tokio::time::timeout;

use super::{Plane, enrol, greeting};

/// Connections beyond the limit that are told why they are closed; further ones are refused without a word.
const TOLD_MAX: usize = 256;
/// Handshakes under way beyond which a client has to show first that it is where it says: a restart's rush is smaller.
const UNVALIDATED_MAX: usize = 256;

/// Takes connections in until the endpoint is closed.
pub(crate) async fn accept(plane: Arc<Plane>, endpoint: Endpoint) {
    let handshakes = Arc::new(AtomicUsize::new(0));
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() >= plane.clients.connections_max + TOLD_MAX {
            incoming.refuse();
        } else if handshakes.load(Ordering::Relaxed) >= UNVALIDATED_MAX && incoming.may_retry() {
            // Costs a round trip, and keeps those who lie about where they are from costing a handshake.
            let _ = incoming.retry();
        } else {
            tokio::spawn(serve(Arc::clone(&plane), incoming, Underway::new(&handshakes)));
        }
    }
}

/// A handshake, counted as long as it takes.
struct Underway(Arc<AtomicUsize>);

impl Underway {
    fn new(handshakes: &Arc<AtomicUsize>) -> Self {
        handshakes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(handshakes))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(plane: Arc<Plane>, incoming: Incoming, underway: Underway) {
    let remote = incoming.remote_address();
    let Ok(connecting) = incoming.accept() else { return };
    let quic = match timeout(plane.clients.handshake_timeout, connecting).await {
        Ok(Ok(quic)) => quic,
        Ok(Err(error)) => return plane.complaints.log(remote, &format_args!("the handshake failed: {error}")),
        Err(_) => return plane.complaints.log(remote, &"the handshake took too long"),
    };
    drop(underway);
    let protocol = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok()?.protocol);
    if plane.registry.len() >= plane.clients.connections_max {
        plane.complaints.log(remote, &"there are too many connections");
        close(&quic, CloseCode::TooManyConnections);
    } else if protocol.as_deref() == Some(ALPN_ENROLL) {
        enrol::serve(&plane, quic).await;
    } else {
        greeting::serve(plane, quic).await;
    }
}

/// Closes a connection. The reason is the code's meaning, which says nothing about this server.
pub(super) fn close(quic: &quinn::Connection, code: CloseCode) {
    quic.close((code as u32).into(), code.reason().as_bytes());
}
