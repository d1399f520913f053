use std::net::SocketAddr;

use hither_server::config::Config;
use hither_server::engine::{Engine, EngineConfig};
use hither_server::identity::{self, Credentials, Identity};
use hither_server::node::Node;
use hither_state::device::{MemoryLog, MemoryState};
use tempfile::TempDir;

use super::client::Client;

/// A node of a cluster of one.
pub struct Server {
    pub node: Node,
    pub engine: Engine,
    pub identity: Identity,
    _data: TempDir,
    _stop: Stop,
}

/// Stops the engine of a test that is over: dozens of nodes that go on would slow down the tests after it.
struct Stop(Engine);

impl Drop for Stop {
    fn drop(&mut self) {
        let engine = self.0.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(engine.shutdown());
        });
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let identity = identity::initialise(data.path()).expect("an identity");
        let engine_config = EngineConfig::single(identity.node(), identity.cluster());
        let engine = Engine::start(engine_config, MemoryLog::default(), MemoryState::default()).await.expect("starts");
        let mut config = Config::default();
        config.node.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        change(&mut config);
        let node = Node::start(config, identity.clone(), engine.clone()).await.expect("starts");
        Self { node, _stop: Stop(engine.clone()), engine, identity, _data: data }
    }

    pub fn admin(&self) -> Credentials {
        self.identity.admin().expect("reads")
    }

    /// A client with the first admin's identity, in the default namespace.
    pub async fn client(&self) -> Client {
        Client::connect(self.node.client_addr(), &self.admin()).await
    }

    pub fn watches(&self) -> usize {
        // The node watches identities itself.
        self.engine.machine().hub.lock().watches() - 1
    }
}
