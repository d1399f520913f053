//! The client plane's door: one QUIC endpoint, bounded on every side, with mutual TLS.

mod quiet;
mod socket;
mod tls;
mod transport;

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::config::{ClientsConfig, NodeConfig};
use crate::identity::Identity;

/// Opens the endpoint, on the runtime that is to serve it.
pub(crate) fn bind(node: &NodeConfig, clients: &ClientsConfig, identity: &Identity) -> io::Result<quinn::Endpoint> {
    let tls = tls::server_config(identity).map_err(io::Error::other)?;
    let server = transport::server_config(clients, tls)?;
    let socket = socket::bind(node.listen)?;
    let endpoint = transport::endpoint_config(identity.endpoint_keys())?;
    quinn::Endpoint::new(endpoint, Some(server), socket, Arc::new(quinn::TokioRuntime))
}

/// The one place that chooses who does the cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
