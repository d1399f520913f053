//! Taking connections in, no more at once than can be greeted in time. A failed one is nobody's concern but its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::ALPN_ENROLL;
use hither_protocol::error::CloseCode;
use quinn::Incoming;
use quinn::crypto::rustls::HandshakeData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::{Plane, enrol, greeting};
use crate::quic::Door;

/// Connections beyond the limit that are told why they are closed; further ones are refused without a word.
const TOLD_MAX: usize = 256;
/// Handshakes under way with clients that may be anywhere. Beyond it a client has to show first that it is where it says.
const UNVALIDATED_MAX: usize = 128;
/// Handshakes under way with those who have shown it; more of them wait in line. Of thousands of handshakes at once none
/// would end in time, and all would be begun again. Those who lie take no place of theirs.
const VALIDATED_MAX: usize = 128;
/// How long the first in line has waited when nobody else is let into it: who cannot be served in that time is refused,
/// which tells a client to come later, and waits elsewhere at no cost.
const WAIT: Duration = Duration::from_secs(2);
/// How long anybody waits in line. Soon after that a client gives up by itself, and a handshake with it would be in vain.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// Takes connections in until the endpoint is closed.
pub(crate) async fn accept(plane: Arc<Plane>, door: Door) {
    let unvalidated = Arc::new(Semaphore::new(UNVALIDATED_MAX));
    let validated = Arc::new(Semaphore::new(VALIDATED_MAX));
    // As many at most as the endpoint holds for us before it refuses more.
    let mut line: VecDeque<(Instant, Incoming)> = VecDeque::new();
    loop {
        if !line.is_empty() {
            let engine = &plane.service.engine;
            engine.machine().leases.crowded(engine.now());
        }
        let incoming = tokio::select! {
            incoming = door.endpoint.accept() => incoming,
            Ok(underway) = Arc::clone(&validated).acquire_owned(), if !line.is_empty() => {
                while let Some((since, incoming)) = line.pop_front() {
                    if since.elapsed() > WAIT_MAX {
                        refuse(&plane, incoming);
                        continue;
                    }
                    tokio::spawn(serve(Arc::clone(&plane), door.clone(), incoming, underway));
                    break;
                }
                continue;
            }
        };
        let Some(incoming) = incoming else { return };
        if door.endpoint.open_connections() >= plane.clients.connections_max + TOLD_MAX {
            refuse(&plane, incoming);
            continue;
        }
        if line.front().is_some_and(|(since, _)| since.elapsed() > WAIT) {
            refuse(&plane, incoming);
            continue;
        }
        if incoming.may_retry() {
            // Nobody goes past those who wait in line.
            let underway = Arc::clone(&unvalidated).try_acquire_owned().ok().filter(|_| line.is_empty());
            match underway {
                Some(underway) => drop(tokio::spawn(serve(Arc::clone(&plane), door.clone(), incoming, underway))),
                // Costs a round trip, and keeps those who lie about where they are from costing a handshake.
                None => drop(incoming.retry()),
            }
        } else {
            line.push_back((Instant::now(), incoming));
        }
    }
}

fn refuse(plane: &Plane, incoming: Incoming) {
    plane.telemetry.handshake_refused();
    incoming.refuse();
}

/// `underway` is held as long as the handshake takes.
async fn serve(plane: Arc<Plane>, door: Door, incoming: Incoming, underway: OwnedSemaphorePermit) {
    let remote = incoming.remote_address();
    let counted = plane.telemetry.handshake();
    let Ok(connecting) = door.let_in(incoming) else { return };
    drop(door);
    let quic = match timeout(plane.clients.handshake_timeout, connecting).await {
        Ok(Ok(quic)) => quic,
        Ok(Err(error)) => return plane.complaints.log(remote, &format_args!("the handshake failed: {error}")),
        Err(_) => return plane.complaints.log(remote, &"the handshake took too long"),
    };
    drop((underway, counted));
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
