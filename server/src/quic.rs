//! The client plane's door: one QUIC endpoint, bounded on every side, with mutual TLS.

mod quiet;
mod socket;
mod tickets;
mod tls;
mod transport;

use std::io;
use std::sync::Arc;

use quinn::{Connecting, ConnectionError, Incoming, ServerConfig};
use rustls::crypto::CryptoProvider;

use crate::config::{ClientsConfig, NodeConfig};
use crate::identity::Identity;

/// Where clients come in.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) endpoint: quinn::Endpoint,
    near: Arc<ServerConfig>,
}

/// Opens the door, on the runtime that is to serve it.
pub(crate) fn bind(node: &NodeConfig, clients: &ClientsConfig, identity: &Identity) -> io::Result<Door> {
    let tls = tls::server_config(identity).map_err(io::Error::other)?;
    let [far, near] = transport::server_configs(clients, tls)?;
    let socket = socket::bind(node.listen)?;
    let endpoint = transport::endpoint_config(identity.endpoint_keys())?;
    let endpoint = quinn::Endpoint::new(endpoint, Some(far), socket, Arc::new(quinn::TokioRuntime))?;
    Ok(Door { endpoint, near: Arc::new(near) })
}

impl Door {
    /// Takes up a handshake.
    pub(crate) fn let_in(&self, incoming: Incoming) -> Result<Connecting, ConnectionError> {
        if incoming.remote_address().ip().to_canonical().is_loopback() {
            incoming.accept_with(Arc::clone(&self.near))
        } else {
            incoming.accept()
        }
    }
}

/// The one place that chooses who does the cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
