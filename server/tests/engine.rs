//! The engine on one node, with disks in memory that a test can crash, stall and break.

#[path = "engine/disks.rs"]
mod disks;
#[path = "engine/durability.rs"]
mod durability;
#[path = "engine/leases.rs"]
mod leases;
#[path = "engine/limits.rs"]
mod limits;
#[path = "engine/watches.rs"]
mod watches;

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use hither_protocol::message::{Consistency, Delete, Put, Reply, RetryToken};
use hither_protocol::{
    ClusterId, Entry, ErrorCode, KeyRange, Namespace, NodeId, Revision, SequenceNumber, SessionId, UnixMillis,
};
use hither_server::engine::{Engine, EngineConfig};
use hither_state::{Action, Command};

use disks::Disks;

const NODE: NodeId = NodeId(1);
const CLUSTER: ClusterId = ClusterId(*b"engine test clus");

fn config() -> EngineConfig {
    EngineConfig::single(NODE, CLUSTER)
}

fn command(action: Action) -> Command {
    Command { namespace: Namespace::default(), principal: "tester".into(), retry: None, at: UnixMillis(1), action }
}

fn put(key: &str, value: &str) -> Command {
    let value = value.to_owned().into();
    command(Action::Put(Put { key: key.into(), value, lease: None, previous: false }))
}

fn delete(key: &str) -> Command {
    command(Action::Delete(Delete { range: KeyRange::One(key.into()), previous: false }))
}

fn entry(engine: &Engine, key: &str) -> Option<Entry> {
    engine.machine().state.read().get(&Namespace::default(), key.as_bytes())
}

fn get(engine: &Engine, key: &str) -> Option<String> {
    Some(String::from_utf8(entry(engine, key)?.value.to_vec()).expect("text"))
}

async fn open_session(engine: &Engine) -> SessionId {
    let opened = engine.propose(command(Action::SessionOpen { ttl_ms: 60_000, nonce: [7; 16] })).await;
    let (_, Reply::SessionOpen(opened)) = opened.expect("is opened") else { panic!("answers what was asked") };
    opened.session
}

fn retryable(mut command: Command, session: SessionId, sequence: u64) -> Command {
    let acknowledged = SequenceNumber(sequence - 1);
    command.retry = Some(RetryToken { session, sequence: SequenceNumber(sequence), acknowledged });
    command
}

/// Waits for a condition that needs no event of its own.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Who holds the state and asks for it again, behind a writer that waits for them, would wait for ever, and so would everybody.
#[tokio::test]
async fn which_node_this_is_and_who_leads_is_known_without_the_state() {
    let engine = Disks::default().start(config()).await;
    let _held = engine.machine().state.write();
    let (told, answer) = std::sync::mpsc::channel();
    let asked = engine.clone();
    std::thread::spawn(move || told.send((asked.node(), asked.leadership().leader)));
    let answer = answer.recv_timeout(Duration::from_secs(10)).expect("an answer while the state is held");
    assert_eq!(answer, (NODE, Some(NODE)));
}

#[tokio::test]
async fn what_is_put_is_read_back() {
    let engine = Disks::default().start(config()).await;
    let (stamp, reply) = engine.propose(put("a", "1")).await.expect("is put");
    let Reply::Put(reply) = reply else { panic!("{reply:?}") };
    assert_eq!((stamp.node, stamp.revision), (NODE, reply.revision));
    let read = engine.barrier(Consistency::Linearizable).await.expect("leads");
    assert!(read.revision >= stamp.revision);
    assert_eq!((read.age_ms, read.term), (0, stamp.term));
    assert_eq!(get(&engine, "a").as_deref(), Some("1"));
    assert_eq!(engine.identity(), (Some(CLUSTER), NODE));
    assert!(engine.leadership().is_leader);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_node_alone_takes_its_first_put_at_once() {
    let mut best = Duration::MAX;
    // The best of a few, since the machine may be busy with something else.
    for _ in 0..10 {
        let begun = Instant::now();
        let engine = Disks::default().start(config()).await;
        engine.propose(put("a", "1")).await.expect("is put");
        best = best.min(begun.elapsed());
        engine.shutdown().await;
    }
    // An election that waited for its timeout would take 75 ms.
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[tokio::test]
async fn commands_that_wait_share_an_entry_and_a_sync() {
    let disks = Disks::default();
    let engine = disks.start(config()).await;
    let (syncs, entries) = (disks.log.syncs(), engine.stats().log_index);
    let puts = (0..1000).map(|number| engine.propose(put(&format!("k{number}"), "v")).boxed());
    let answers = futures_util::future::join_all(puts).await;
    assert!(answers.iter().all(Result::is_ok));
    let (syncs, entries) = (disks.log.syncs() - syncs, engine.stats().log_index - entries);
    assert!(entries < 100, "{entries} entries");
    assert!(syncs <= entries, "{syncs} syncs of {entries} entries");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_refusal_of_the_state_is_an_answer_like_any_other() {
    let engine = Disks::default().start(config()).await;
    let lease = command(Action::LeaseRevoke { lease: hither_protocol::LeaseId(77) });
    let refusal = engine.propose(lease).await.expect_err("there is no such lease");
    assert_eq!(refusal.code, ErrorCode::LeaseNotFound);
    engine.propose(put("a", "1")).await.expect("goes on");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_read_at_a_revision_waits_for_it() {
    let engine = Disks::default().start(EngineConfig { patience: Duration::from_secs(2), ..config() }).await;
    let now = engine.barrier(Consistency::Linearizable).await.expect("leads").revision;
    let next = engine.barrier(Consistency::AtLeast(now.next()));
    let (read, written) = tokio::join!(next, engine.propose(put("a", "1")));
    assert_eq!(read.expect("comes").revision, written.expect("is put").0.revision);
    let refusal = engine.barrier(Consistency::AtLeast(Revision(1_000_000))).await.expect_err("never comes");
    assert_eq!((refusal.code, refusal.revision), (ErrorCode::FutureRevision, Some(now.next())));
    let stale = engine.barrier(Consistency::Stale { max_age_ms: 0 }).await.expect("a leader alone is current");
    assert_eq!(stale.age_ms, 0);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_node_that_goes_down_refuses_and_lets_go_of_its_disks() {
    let disks = Disks::default();
    let engine = disks.start(config()).await;
    engine.propose(put("a", "1")).await.expect("is put");
    engine.shutdown().await;
    let refusal = engine.propose(put("a", "2")).await.expect_err("is down");
    assert_eq!(refusal.code, ErrorCode::ShuttingDown);
    let refusal = engine.barrier(Consistency::Linearizable).await.expect_err("is down");
    assert_eq!(refusal.code, ErrorCode::ShuttingDown);
    engine.shutdown().await;
    assert_eq!(disks.handles(), 1, "a thread still holds a disk");
}
