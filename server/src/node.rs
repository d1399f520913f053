//! A running node: the client plane, the admin port and the duties between them, around an engine.

mod duties;
mod plane;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin;
use crate::config::Config;
use crate::engine::Engine;
use crate::identity::{Book, Identity, IdentityError};
use crate::session::Registry;
use crate::telemetry::Telemetry;

use plane::ClientPlane;

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
    /// The record of the first admin could not be written.
    #[error("the first admin could not be written down: {0}")]
    Book(hither_protocol::Refusal),
    /// A thread cannot be started.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

/// A running node. It serves until [`shutdown`](Self::shutdown). One that is dropped goes down in the same way on threads of its
/// own, and the process may end meanwhile: what was acknowledged is on disk.
pub struct Node {
    client_addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    engine: Engine,
    plane: ClientPlane,
    draining: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    admin: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts to listen and to serve. When this returns, clients can connect.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: Config, identity: Identity, engine: Engine) -> Result<Self, NodeError> {
        // Both addresses are taken before anything runs, so that what is in the way shows at once.
        let admin = match config.admin.listen {
            Some(address) => Some(listen(address)?),
            None => None,
        };
        let admin_addr = admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let (draining, is_draining) = watch::channel(false);
        let (stopped, is_stopped) = watch::channel(false);
        let registry = Arc::new(Registry::default());
        let telemetry = Arc::new(Telemetry::new(engine.clone(), Arc::clone(&registry)));
        let book = Book::new(engine.clone(), identity.clone());
        book.open().await.map_err(NodeError::Book)?;
        let shared = plane::Shared {
            config,
            identity: identity.clone(),
            engine: engine.clone(),
            book,
            registry,
            telemetry: Arc::clone(&telemetry),
            draining: is_draining.clone(),
        };
        let plane = ClientPlane::start(shared).await?;
        let pages = admin::Pages { engine: engine.clone(), telemetry, draining: is_draining };
        let admin = duties::start(identity, admin.map(|listener| (listener, admin::router(pages))), is_stopped)?;
        Ok(Self { client_addr: plane.address(), admin_addr, engine, plane, draining, stopped, admin: Some(admin) })
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
    pub async fn shutdown(mut self) {
        self.draining.send_replace(true);
        self.plane.drain().await;
        self.engine.shutdown().await;
        self.stopped.send_replace(true);
        if let Some(thread) = self.admin.take() {
            join(thread).await;
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("client_addr", &self.client_addr)
            .field("admin_addr", &self.admin_addr)
            .finish_non_exhaustive()
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, NodeError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| NodeError::Listen { what: "admin requests", address, source })
}

/// Waits for a thread that was told to end, without holding up the runtime that waits.
async fn join(thread: JoinHandle<()>) {
    const LOOK: Duration = Duration::from_millis(2);
    while !thread.is_finished() {
        tokio::time::sleep(LOOK).await;
    }
    if thread.join().is_err() {
        tracing::error!("a thread of this node panicked");
    }
}
