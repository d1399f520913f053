//! Redeeming an enrolment string: a secret becomes an identity, once.

use std::time::Duration;

use bytes::BytesMut;
use hither_client_core::{Endpoint, Enrolment, Error, no_answer, to_hex};
use hither_protocol::codec::Decoder;
use hither_protocol::message::{Context as RequestContext, Enrol, EnrolReply, Reply, Request};
use hither_protocol::{ErrorCode, RequestNumber, SERVER_NAME};

use crate::context::{Context, Contexts};
use crate::driver::dial;
use crate::driver::transport::Transports;
use crate::identity::Identity;
use crate::tls;

/// The context that an enrolment string stands for: the one that was made with it, or a new one.
pub(crate) async fn redeem(
    enrolment: &Enrolment,
    contexts: &Contexts,
    timeout: Duration,
) -> Result<(String, Context), Error> {
    let hash = to_hex(&tls::sha256(&enrolment.secret));
    if let Some(known) = contexts.enrolled_with(&hash)? {
        return Ok(known);
    }
    let (key, csr) = signing_request()?;
    let answered = tokio::time::timeout(timeout, ask_any(enrolment, csr)).await;
    let reply = answered.unwrap_or_else(|_| Err(silent(&enrolment.endpoints, timeout)))?;
    if reply.cluster != enrolment.cluster || tls::sha256(&reply.ca) != enrolment.pin {
        return Err(Error::new(ErrorCode::ClusterMismatch, "the server that answered is of another cluster"));
    }
    let identity = Identity::from_der(reply.ca.to_vec(), reply.certificate.to_vec(), key)?;
    let told: Result<Vec<Endpoint>, _> = reply.endpoints.iter().map(|endpoint| endpoint.parse()).collect();
    // The addresses that just worked come first: those that the server knows may not be reachable from here.
    let mut servers = enrolment.endpoints.clone();
    servers.extend(told.unwrap_or_default().into_iter().filter(|server| !enrolment.endpoints.contains(server)));
    let context = Context { servers, namespace: None, identity, origin: None, enrolment: Some(hash) };
    let name = keep(contexts, &enrolment.name, &context)?;
    Ok((name, context))
}

/// Keeps the context under the identity's name, or a free one beside it. It becomes the current one if there is none.
fn keep(contexts: &Contexts, name: &str, context: &Context) -> Result<String, Error> {
    let taken = contexts.list()?;
    let mut free = name.to_owned();
    let mut number = 2;
    while taken.contains(&free) {
        free = format!("{name}-{number}");
        number += 1;
    }
    contexts.save(&free, context)?;
    if contexts.current()?.is_none() {
        contexts.set_current(&free)?;
    }
    Ok(free)
}

/// A new private key, PKCS #8 DER, and the request to certify it.
pub(crate) fn signing_request() -> Result<(Vec<u8>, Vec<u8>), Error> {
    let failed = |error: rcgen::Error| Error::caused_by(ErrorCode::Internal, "no key could be made", error);
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let request = rcgen::CertificateParams::default().serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_der(), request.der().to_vec()))
}

async fn ask_any(enrolment: &Enrolment, csr: Vec<u8>) -> Result<EnrolReply, Error> {
    let transports = Transports::new(tls::enrolment(enrolment.pin)?)?;
    let mut last = None;
    for endpoint in &enrolment.endpoints {
        match ask(endpoint, &transports, enrolment, &csr).await {
            Ok(reply) => return Ok(reply),
            // The secret may be used up by what was asked: only a server that was not reached leads to the next.
            Err(error) if error.code() != ErrorCode::Unavailable => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorCode::InvalidArgument, "the enrolment string names no server")))
}

async fn ask(
    endpoint: &Endpoint,
    transports: &Transports,
    enrolment: &Enrolment,
    csr: &[u8],
) -> Result<EnrolReply, Error> {
    let sockets = dial::Sockets::default();
    let connection = sockets.connect(endpoint, transports, SERVER_NAME).await?;
    let lost = |error: quinn::ConnectionError| dial::lost(endpoint, &error);
    let (mut send, mut receive) = connection.open_bi().await.map_err(lost)?;
    let request = Request::Enrol(Enrol { secret: enrolment.secret.clone(), csr: csr.to_vec().into() });
    let mut out = BytesMut::new();
    request.encode(&mut out, RequestNumber(1), &RequestContext::default());
    let broken = |_| connection.close_reason().map_or_else(|| cut(endpoint), |error| dial::lost(endpoint, &error));
    send.write_all(&out).await.map_err(|_| broken(()))?;
    // Finishing a stream that is closed already changes nothing.
    let _ = send.finish();
    let mut decoder = Decoder::default();
    loop {
        let chunk = receive.read_chunk(64 * 1024, true).await.map_err(|_| broken(()))?;
        let Some(chunk) = chunk else { return Err(broken(())) };
        decoder.push(&chunk.bytes);
        let frame = decoder
            .next_frame()
            .map_err(|error| Error::caused_by(ErrorCode::InvalidFrame, "the server's answer is no frame", error))?;
        if let Some(frame) = frame {
            connection.close(quinn::VarInt::from_u32(0), b"");
            let (_, reply) = Reply::decode(&frame)??;
            return EnrolReply::try_from(reply)
                .map_err(|_| Error::unknown(ErrorCode::InvalidFrame, "the server answered another question"));
        }
    }
}

fn cut(endpoint: &Endpoint) -> Error {
    Error::new(ErrorCode::ConnectionLost, format!("{endpoint} ended the connection before it answered"))
}

fn silent(endpoints: &[Endpoint], timeout: Duration) -> Error {
    let listed: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    no_answer(&listed.join(", "), timeout)
}
