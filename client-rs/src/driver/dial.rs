//! Sockets, connecting, and what QUIC's errors mean to a person.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use hither_client_core::{Endpoint, Error};
use hither_protocol::ErrorCode;
use hither_protocol::error::CloseCode;
use quinn::{ConnectionError, TransportErrorCode};

use super::socket::bind;
use super::transport::Transports;

/// How long one address of a server has before the next is tried beside it.
const HEAD_START: Duration = Duration::from_millis(200);
/// TLS alerts, which QUIC carries as errors from 0x100.
const CRYPTO_ERROR: u64 = 0x100;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;

/// One UDP socket for each family of addresses, bound when first needed and shared by all connections of a client.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    v4: Mutex<Option<quinn::Endpoint>>,
    v6: Mutex<Option<quinn::Endpoint>>,
}

impl Sockets {
    /// Resolves an endpoint, and connects to that of its addresses that answers first.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        transports: &Transports,
        name: &str,
    ) -> Result<quinn::Connection, Error> {
        let host = endpoint.host.as_str();
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, endpoint.port))
            .await
            .map_err(|error| {
                let detail = format!("the name of {endpoint} does not resolve: {error}");
                Error::caused_by(ErrorCode::Unavailable, detail, error)
            })?
            .collect();
        if addresses.is_empty() {
            return Err(Error::new(ErrorCode::Unavailable, format!("the name of {endpoint} has no address")));
        }
        // One after the other, but none waits for the silence of the one before: `localhost` is often two addresses of
        // which a server has one.
        let mut attempts = FuturesUnordered::new();
        for (number, address) in (0..).zip(addresses) {
            attempts.push(async move {
                tokio::time::sleep(HEAD_START * number).await;
                self.connect_to(address, endpoint, transports.to(address.ip()), name).await
            });
        }
        let mut first = None;
        while let Some(connected) = attempts.next().await {
            match connected {
                Ok(connection) => return Ok(connection),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorCode::Unavailable, format!("{endpoint} has no address"))))
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        endpoint: &Endpoint,
        config: quinn::ClientConfig,
        name: &str,
    ) -> Result<quinn::Connection, Error> {
        let connecting = self
            .socket(address)?
            .connect_with(config, address, name)
            .map_err(|error| Error::caused_by(ErrorCode::Unavailable, format!("{endpoint}: {error}"), error))?;
        connecting.await.map_err(|error| lost(endpoint, &error))
    }

    fn socket(&self, address: SocketAddr) -> Result<quinn::Endpoint, Error> {
        let (slot, local) = match address {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        // Nothing under the lock panics half-way.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &*slot {
            return Ok(socket.clone());
        }
        let socket = bind(local)
            .map_err(|error| Error::caused_by(ErrorCode::Unavailable, "no UDP socket could be opened", error))?;
        Ok(slot.insert(socket).clone())
    }

    /// Waits until the peers were told of every connection that was closed.
    pub(crate) async fn wait_idle(&self) {
        let taken = |slot: &Mutex<Option<quinn::Endpoint>>| slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for socket in [taken(&self.v4), taken(&self.v6)].into_iter().flatten() {
            socket.wait_idle().await;
        }
    }
}

/// What the end of a connection means.
pub(crate) fn lost(endpoint: &Endpoint, error: &ConnectionError) -> Error {
    let caused = |code, detail: String| Error::caused_by(code, detail, error.clone());
    match error {
        ConnectionError::TimedOut => caused(
            ErrorCode::Unavailable,
            format!(
                "no answer over UDP from {endpoint}: does a Hither server listen there, and does the network let UDP through?"
            ),
        ),
        ConnectionError::ApplicationClosed(close) => {
            let code = CloseCode::from_number(close.error_code.into_inner());
            let reason = String::from_utf8_lossy(&close.reason);
            let said = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            match code {
                Some(code) => caused(code.error(), format!("{endpoint} closed the connection ({code:?}){said}")),
                None => caused(
                    ErrorCode::Unavailable,
                    format!("{endpoint} closed the connection with code {}{said}", close.error_code),
                ),
            }
        }
        ConnectionError::VersionMismatch => {
            caused(ErrorCode::ProtocolMismatch, format!("{endpoint} does not speak QUIC version 1"))
        }
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            caused(
                ErrorCode::ServerBusy,
                format!("{endpoint} takes in no more clients now: too many are at its door, or it is going down"),
            )
        }
        // Said by the peer.
        ConnectionError::ConnectionClosed(close) => match tls_alert(close.error_code.into()) {
            Some(ALERT_NO_APPLICATION_PROTOCOL) => caused(
                ErrorCode::ProtocolMismatch,
                format!("{endpoint} is no client port of a Hither server of this version"),
            ),
            Some(_) => caused(
                ErrorCode::Unauthenticated,
                format!(
                    "{endpoint} refused the client's certificate ({}): run `hither client add NAME` on the server for another",
                    String::from_utf8_lossy(&close.reason)
                ),
            ),
            None => caused(ErrorCode::Unavailable, format!("{endpoint} ended the connection: {close}")),
        },
        // Found here.
        ConnectionError::TransportError(found) => match tls_alert(found.code.into()) {
            Some(ALERT_NO_APPLICATION_PROTOCOL) => caused(
                ErrorCode::ProtocolMismatch,
                format!("{endpoint} is no client port of a Hither server of this version"),
            ),
            Some(_) => caused(
                ErrorCode::ClusterMismatch,
                format!(
                    "{endpoint} is no server of the cluster that this identity belongs to ({}): check the address and the context",
                    found.reason
                ),
            ),
            None => caused(ErrorCode::Unavailable, format!("{endpoint} could not be understood: {found}")),
        },
        ConnectionError::Reset | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            caused(ErrorCode::Unavailable, format!("the connection to {endpoint} ended: {error}"))
        }
    }
}

/// The TLS alert in a QUIC error code.
const fn tls_alert(code: u64) -> Option<u64> {
    if code >= CRYPTO_ERROR && code < CRYPTO_ERROR + 0x100 { Some(code - CRYPTO_ERROR) } else { None }
}
