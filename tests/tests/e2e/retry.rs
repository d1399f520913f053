//! A write whose answer was lost is retried under its number and takes effect once.

use std::time::Duration;

use bytes::Bytes;
use hither::{Client, Compare, Put, Relation, Revision, TxnOp};
use hither_tests::node::Node;
use hither_tests::relay::{Relay, Way};
use hither_tests::wait::until;

use crate::watcher::{PATIENT, promptly};

const BEAT: Duration = Duration::from_millis(250);
/// Answers that must be lost for good. A connection that comes back to life delivers its own late: that round does
/// not count.
const LOST: u64 = 3;
/// Rounds after which something is wrong with the fault.
const ROUNDS_MAX: u64 = 30;

/// What happens between the write and its answer.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    KillServer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_takes_effect_once() -> anyhow::Result<()> {
    lose_answers(Meanwhile::Nothing).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_died_with_the_server_takes_effect_once() -> anyhow::Result<()> {
    lose_answers(Meanwhile::KillServer).await
}

async fn lose_answers(meanwhile: Meanwhile) -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let relay = Relay::start(node.addr(), 21)?;
    let near = node.client().connect().await?;
    let far = node.client_at(relay.addr()).beat_interval(BEAT).request_timeout(PATIENT).connect().await?;
    let mut at = far.put("counter", "0").await?.revision;
    let mut rounds = 0;
    while far.metrics().retries < LOST {
        rounds += 1;
        assert!(rounds <= ROUNDS_MAX, "answers are never lost: {:?}", far.metrics());
        relay.cut_way(Way::Down);
        let increment = tokio::spawn(increment(far.clone(), at, rounds));
        until("the server has applied it", PATIENT, async || {
            let entry = near.get("counter").await.ok()??;
            (entry.value == rounds.to_string()).then_some(())
        })
        .await;
        assert!(!increment.is_finished(), "the answer was lost");
        if meanwhile == Meanwhile::KillServer {
            node.kill().await;
            node.restart().await;
        } else {
            until("the client gives the connection up", PATIENT, async || {
                (far.state() == hither::SessionState::Suspended).then_some(())
            })
            .await;
        }
        relay.heal();
        at = promptly("the retry is answered", increment).await??;
    }
    let entry = near.get("counter").await?.expect("it was written");
    // One for the creation. The comparison of a second application would not have held, and its version would show.
    assert_eq!(entry.version.0, rounds + 1);
    assert_eq!(entry.mod_revision, at, "the first outcome was returned, with its revision");
    assert!(relay.counts().swallowed > 0);
    Ok(())
}

/// If the counter is as it was, raises it: without memory of the first attempt, a second one would fail.
async fn increment(client: Client, at: Revision, to: u64) -> anyhow::Result<Revision> {
    let same = Compare::ModRevision("counter".into(), Relation::Equal, at);
    let put = Put { key: "counter".into(), value: Bytes::from(to.to_string()), lease: None, previous: false };
    let reply = client.txn().when(same).then(TxnOp::Put(put)).await?;
    anyhow::ensure!(reply.succeeded, "it was applied twice: the second time the counter had moved");
    Ok(reply.revision)
}
