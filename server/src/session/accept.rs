//! Taking connections in. A failed one is nobody's concern but its own.

use std::sync::Arc;

use hither_protocol::ALPN_ENROLL;
use hither_protocol::error::CloseCode;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Endpoint, Incoming};
use tokio::time::timeout;

use super::{Plane, enrol, greeting};

/// Connections beyond the limit that are told why they are closed; further ones are refused without a word.
const TOLD_MAX: usize = 256;

/// Takes connections in until the endpoint is closed.
pub(crate) async fn accept(plane: Arc<Plane>, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() >= plane.clients.connections_max + TOLD_MAX {
            incoming.refuse();
            continue;
        }
        tokio::spawn(serve(Arc::clone(&plane), incoming));
    }
}

async fn serve(plane: Arc<Plane>, incoming: Incoming) {
    let remote = incoming.remote_address();
    let Ok(connecting) = incoming.accept() else { return };
    let quic = match timeout(plane.clients.handshake_timeout, connecting).await {
        Ok(Ok(quic)) => quic,
        Ok(Err(error)) => return plane.complaints.log(remote, &format_args!("the handshake failed: {error}")),
        Err(_) => return plane.complaints.log(remote, &"the handshake took too long"),
    };
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
