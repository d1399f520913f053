//! The engine on one node, with disks in memory that a test can crash.

use std::time::{Duration, Instant};

use hither_protocol::message::{Consistency, Put, Reply};
use hither_protocol::{ClusterId, Namespace, NodeId, UnixMillis};
use hither_server::engine::{Engine, EngineConfig};
use hither_state::device::{MemoryLog, MemoryState};
use hither_state::{Action, Command};

const NODE: NodeId = NodeId(1);
const CLUSTER: ClusterId = ClusterId(*b"engine test clus");

/// A node's disks, which outlive it.
#[derive(Clone, Default)]
struct Disks {
    log: MemoryLog,
    state: MemoryState,
}

impl Disks {
    async fn start(&self) -> Engine {
        self.start_with(EngineConfig::single(NODE, CLUSTER)).await
    }

    async fn start_with(&self, config: EngineConfig) -> Engine {
        Engine::start(config, self.log.clone(), self.state.clone()).await.expect("starts")
    }
}

fn command(action: Action) -> Command {
    Command { namespace: Namespace::default(), principal: "tester".to_owned(), retry: None, at: UnixMillis(1), action }
}

fn put(key: &str, value: &str) -> Command {
    let value = value.to_owned().into();
    command(Action::Put(Put { key: key.into(), value, lease: None, previous: false }))
}

fn get(engine: &Engine, key: &str) -> Option<String> {
    let entry = engine.machine().state.read().get(&Namespace::default(), key.as_bytes())?;
    Some(String::from_utf8(entry.value.to_vec()).expect("text"))
}

#[tokio::test]
async fn what_is_put_is_read_back() {
    let engine = Disks::default().start().await;
    let (stamp, reply) = engine.propose(put("a", "1")).await.expect("is put");
    assert!(matches!(reply, Reply::Put(_)), "{reply:?}");
    assert_eq!(stamp.node, NODE);
    let read = engine.barrier(Consistency::Linearizable).await.expect("leads");
    assert!(read.revision >= stamp.revision);
    assert_eq!(get(&engine, "a").as_deref(), Some("1"));
    engine.shutdown().await;
}

#[tokio::test]
async fn a_node_alone_takes_its_first_put_at_once() {
    let mut best = Duration::MAX;
    // The best of a few, since the machine may be busy with something else.
    for _ in 0..10 {
        let begun = Instant::now();
        let engine = Disks::default().start().await;
        engine.propose(put("a", "1")).await.expect("is put");
        best = best.min(begun.elapsed());
        engine.shutdown().await;
    }
    // An election that waited for its timeout would take 75 ms.
    assert!(best < Duration::from_millis(50), "{best:?}");
}
