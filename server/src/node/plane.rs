//! The client plane's thread: one runtime for the endpoint and everything that happens on its connections.
//!
//! On one thread a request's packets, its frames and its answer meet without a wake-up in between; on several the same
//! work costs twice the processor time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hither_protocol::error::CloseCode;
use hither_protocol::message::EndReason;
use tokio::sync::{Notify, oneshot, watch};

use super::NodeError;
use crate::config::Config;
use crate::engine::Engine;
use crate::identity::{Book, Identity};
use crate::quic;
use crate::service::Service;
use crate::session::{self, OWN_WATCHES, Plane, Registry, revocations};
use crate::telemetry::Telemetry;

/// Between two looks at whether the last request is answered.
const LOOK: Duration = Duration::from_millis(5);
/// How long the last answers may take to arrive, and the last packets to be sent.
const LAST_PACKETS: Duration = Duration::from_secs(1);

/// What the plane is made of.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) engine: Engine,
    pub(super) book: Book,
    pub(super) registry: Arc<Registry>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) draining: watch::Receiver<bool>,
}

/// The running plane.
pub(super) struct ClientPlane {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl ClientPlane {
    pub(super) async fn start(shared: Shared) -> Result<Self, NodeError> {
        let (started, has_started) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("hither-clients".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(run(shared, started)),
                    Err(error) => drop(started.send(Err(NodeError::Thread(error)))),
                }
            })
            .map_err(NodeError::Thread)?;
        let address = has_started
            .await
            .unwrap_or_else(|_| Err(NodeError::Thread(std::io::Error::other("it ended before it began"))))?;
        Ok(Self { address, thread: Some(thread) })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the plane, which was told to go down, is done.
    pub(super) async fn drain(&mut self) {
        if let Some(thread) = self.thread.take() {
            super::join(thread).await;
        }
    }
}

async fn run(shared: Shared, started: oneshot::Sender<Result<SocketAddr, NodeError>>) {
    let Shared { config, identity, engine, book, registry, telemetry, mut draining } = shared;
    let bound =
        quic::bind(&config.node, &config.clients, &identity).and_then(|door| Ok((door.endpoint.local_addr()?, door)));
    let (address, door) = match bound {
        Ok(bound) => bound,
        Err(source) => {
            let error = NodeError::Listen { what: "clients", address: config.node.listen, source };
            drop(started.send(Err(error)));
            return;
        }
    };
    let advertised = config.advertised(address);
    let service = Service::new(engine.clone(), identity, book.clone(), Arc::clone(&registry), advertised);
    let wake = Arc::clone(&registry);
    engine.on_wake(Arc::new(move |connections| wake.wake(connections)));
    let own = registry.next_id();
    let own_woken = Arc::new(Notify::new());
    tokio::spawn({
        let (registry, own_woken) = (Arc::clone(&registry), Arc::clone(&own_woken));
        async move { registry.hand_out_wakes(own, &own_woken).await }
    });
    tokio::spawn(revocations(engine.clone(), Arc::clone(&registry), book, own, own_woken));
    let drain_timeout = config.clients.drain_timeout;
    let plane = Arc::new(Plane {
        clients: config.clients,
        service,
        registry: Arc::clone(&registry),
        telemetry,
        draining: draining.clone(),
        complaints: session::Complaints::default(),
    });
    tokio::spawn(session::accept(plane, door.clone()));
    drop(started.send(Ok(address)));
    // The sender lives as long as the node; a node that was dropped is going down too.
    let _ = draining.wait_for(|draining| *draining).await;
    drain(&engine, &registry, &door.endpoint, drain_timeout).await;
}

/// Ends every conversation in good order: what is new is refused (the connections see to it themselves), what is under
/// way is answered, watches end with a last word.
async fn drain(engine: &Engine, registry: &Registry, endpoint: &quinn::Endpoint, drain_timeout: Duration) {
    endpoint.set_server_config(None);
    let deadline = Instant::now() + drain_timeout;
    engine.machine().hub.lock().end_all(EndReason::ShuttingDown);
    registry.wake_all();
    tracing::info!(connections = registry.len(), "going down");
    while Instant::now() < deadline
        && (registry.requests_in_flight() > 0 || engine.machine().hub.lock().watches() > OWN_WATCHES)
    {
        tokio::time::sleep(LOOK).await;
    }
    let _ = tokio::time::timeout(LAST_PACKETS, registry.end_lanes()).await;
    let code = CloseCode::ShuttingDown;
    endpoint.close((code as u32).into(), code.reason().as_bytes());
    let _ = tokio::time::timeout(LAST_PACKETS, endpoint.wait_idle()).await;
}
