//! The greeting: who is it, may they come in, and what became of their session.

use std::sync::Arc;

use bytes::BytesMut;
use hither_protocol::codec::{Decoder, decode, encode};
use hither_protocol::error::CloseCode;
use hither_protocol::message::{Consistency, Hello, Resumed, SessionReply, Welcome, op};
use hither_protocol::{ErrorCode, Namespace, Refusal, RequestNumber, SessionId};
use hither_state::door::Caller;
use quinn::{RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::accept::close;
use super::connection::Connection;
use super::refusals::refuse_and_close;
use super::registry::Present;
use super::{Plane, control, priority};
use crate::identity::{Denied, Kind, Principal};

/// Longest name of a client's software that is kept.
const AGENT_BYTES_MAX: usize = 64;

/// The control lane, after the greeting.
pub(super) struct ControlLane {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    /// What came after Hello.
    pub(super) decoder: Decoder,
}

/// Why there was no greeting.
enum Refused {
    /// The connection is gone, or there is nothing to say on.
    Close(CloseCode),
    /// Say why on the control lane first.
    Say(SendStream, RequestNumber, Refusal, CloseCode),
}

/// Serves a client's connection until it ends.
pub(super) async fn serve(plane: Arc<Plane>, quic: quinn::Connection) {
    let remote = quic.remote_address();
    let principal = match identify(&quic) {
        Ok(principal) => principal,
        Err(code) => {
            plane.complaints.log(remote, &code.reason());
            return close(&quic, code);
        }
    };
    let greeted = timeout(plane.clients.hello_timeout, greet(&plane, &quic, &principal)).await;
    match greeted.unwrap_or(Err(Refused::Close(CloseCode::HelloTimeout))) {
        Ok((present, lane)) => control::run(plane, present, lane).await,
        Err(Refused::Close(code)) => {
            plane.complaints.log(remote, &format_args!("`{}`: {}", principal.name, code.reason()));
            close(&quic, code);
        }
        Err(Refused::Say(send, number, refusal, code)) => {
            plane.complaints.log(remote, &format_args!("`{}` was not let in: {refusal}", principal.name));
            refuse_and_close(&quic, send, number, &refusal, code).await;
        }
    }
}

/// The identity that TLS has verified.
fn identify(quic: &quinn::Connection) -> Result<Principal, CloseCode> {
    let chain = quic.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_ref().and_then(|chain| chain.first()).ok_or(CloseCode::Unauthenticated)?;
    let principal = Principal::of(certificate).map_err(|_| CloseCode::IdentityInvalid)?;
    if principal.kind == Kind::Node { Err(CloseCode::IdentityInvalid) } else { Ok(principal) }
}

async fn greet(
    plane: &Arc<Plane>,
    quic: &quinn::Connection,
    principal: &Principal,
) -> Result<(Present, ControlLane), Refused> {
    let (send, mut recv) = quic.accept_bi().await.map_err(|_| Refused::Close(CloseCode::HelloTimeout))?;
    let _ = send.set_priority(priority::CONTROL);
    let mut decoder = Decoder::default();
    let frame = loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => break frame,
            Ok(None) => {}
            Err(error) => {
                let refusal = Refusal::new(ErrorCode::FrameTooLarge, error.to_string());
                return Err(Refused::Say(send, RequestNumber(0), refusal, CloseCode::FrameTooLarge));
            }
        }
        match recv.read_chunk(16 * 1024, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            _ => return Err(Refused::Close(CloseCode::MalformedFrame)),
        }
    };
    let number = RequestNumber(frame.header.id);
    if frame.header.op != op::HELLO {
        let refusal = Refusal::new(ErrorCode::ProtocolMismatch, "the first message of a connection is Hello");
        return Err(Refused::Say(send, number, refusal, CloseCode::ProtocolViolation));
    }
    match answer(plane, quic, principal, decode(&frame)).await {
        Ok((present, welcome)) => {
            let mut lane = ControlLane { send, recv, decoder };
            let mut out = BytesMut::new();
            encode(&mut out, number.0, &welcome);
            if lane.send.write_all(&out).await.is_err() {
                return Err(Refused::Close(CloseCode::Goodbye));
            }
            Ok((present, lane))
        }
        Err((refusal, code)) => Err(Refused::Say(send, number, refusal, code)),
    }
}

async fn answer(
    plane: &Arc<Plane>,
    quic: &quinn::Connection,
    principal: &Principal,
    hello: Result<Hello, Refusal>,
) -> Result<(Present, Welcome), (Refusal, CloseCode)> {
    let service = &plane.service;
    let hello = hello.map_err(|refusal| match refusal.code {
        ErrorCode::UnsupportedVersion => (refusal, CloseCode::VersionUnsupported),
        _ => (refusal, CloseCode::MalformedFrame),
    })?;
    if plane.is_draining() {
        return Err((Refusal::new(ErrorCode::ShuttingDown, "the server is going down"), CloseCode::ShuttingDown));
    }
    if hello.cluster.is_some_and(|cluster| cluster != principal.cluster || cluster != service.identity.cluster()) {
        let refusal = Refusal::new(ErrorCode::ClusterMismatch, "this server belongs to another cluster");
        return Err((refusal, CloseCode::ClusterMismatch));
    }
    let namespace: Namespace = hello.namespace.parse().map_err(|refusal| (refusal, CloseCode::ProtocolViolation))?;
    let role = service.book.check(principal).map_err(denied)?;
    let caller = Caller { namespace, name: principal.name.as_str().into(), role };
    let session = match hello.session {
        Some(session) => Some(resume(plane, &caller, session).await?),
        None => None,
    };
    let id = plane.registry.next_id();
    let meters = plane.telemetry.connection(&agent(&hello.agent), &caller.name);
    let connection = Arc::new(Connection::new(id, quic.clone(), principal.clone(), caller, meters));
    let present = plane.registry.insert(Arc::clone(&connection));
    // Again, now that a revocation would find the connection.
    service.book.check(principal).map_err(denied)?;
    if let (Some(session), Some(SessionReply::Resumed(_))) = (hello.session, &session) {
        connection.adopt(session);
    }
    welcome(plane, &connection, session).map(|welcome| (present, welcome))
}

fn welcome(
    plane: &Plane,
    connection: &Connection,
    session: Option<SessionReply>,
) -> Result<Welcome, (Refusal, CloseCode)> {
    let service = &plane.service;
    let (lineage, revision) = {
        let state = service.engine.machine().state.read();
        (state.lineage(), state.revision())
    };
    let Some(lineage) = lineage else {
        return Err((
            Refusal::new(ErrorCode::NotReady, "this node is not part of a cluster yet"),
            CloseCode::ShuttingDown,
        ));
    };
    Ok(Welcome {
        lineage,
        node: service.node(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: connection.caller.name.to_string(),
        role: connection.caller.role,
        term: service.engine.leadership().term,
        revision,
        leader: service.leader(),
        session,
        beat_ms: u64::try_from(plane.clients.beat_interval.as_millis()).unwrap_or(u64::MAX),
        endpoints: service.endpoints(),
    })
}

/// What became of a session. That it is over must be known, not guessed from a state that is behind.
async fn resume(plane: &Plane, caller: &Caller, session: SessionId) -> Result<SessionReply, (Refusal, CloseCode)> {
    if let Some(resumed) = look_up(plane, caller, session) {
        return Ok(SessionReply::Resumed(resumed));
    }
    let fresh = plane.service.engine.barrier(Consistency::Linearizable).await;
    fresh.map_err(|refusal| (refusal, CloseCode::ShuttingDown))?;
    Ok(look_up(plane, caller, session).map_or(SessionReply::Expired, SessionReply::Resumed))
}

fn look_up(plane: &Plane, caller: &Caller, session: SessionId) -> Option<Resumed> {
    let state = plane.service.engine.machine().state.read();
    let record = state.session(session)?.record;
    // Another identity is told the same as if there were no such session.
    if record.principal != caller.name || record.namespace != caller.namespace {
        return None;
    }
    let lease = state.lease(session.lease())?.record;
    Some(Resumed { ttl_ms: lease.ttl_ms, epoch: lease.epoch })
}

fn denied(denial: Denied) -> (Refusal, CloseCode) {
    match denial {
        Denied::Revoked => {
            let refusal = Refusal::new(
                ErrorCode::IdentityRevoked,
                "the identity was revoked; ask for another with `hither client add NAME`",
            );
            (refusal, CloseCode::IdentityRevoked)
        }
        Denied::Invalid => {
            let refusal = Refusal::new(ErrorCode::IdentityInvalid, "the certificate names no identity of this cluster");
            (refusal, CloseCode::IdentityInvalid)
        }
    }
}

/// The client's software as it is fit for logs and labels.
fn agent(text: &str) -> String {
    text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(AGENT_BYTES_MAX).collect()
}
