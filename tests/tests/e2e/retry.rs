//! A write whose answer was lost is retried under its number and takes effect once.

use std::time::Duration;

use bytes::Bytes;
use hither::{Client, Compare, Put, Relation, Revision, TxnOp};
use hither_tests::node::Node;
use hither_tests::relay::{Relay, Way};
use hither_tests::wait::until;

use crate::watcher::{PATIENT, promptly};

const BEAT: Duration = Duration::from_millis(250);
/// Answers that must be lost.
const LOST: u64 = 3;

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
    // One way at a time is open: over the other one, a connection that comes back to life would deliver its own answer.
    let ways = [Relay::start(node.addr(), 21)?, Relay::start(node.addr(), 22)?];
    ways[1].cut_way(Way::Down);
    let near = node.client().connect().await?;
    let url = format!("hither://{},{}", ways[0].addr(), ways[1].addr());
    let far = node.client().url(url).beat_interval(BEAT).request_timeout(PATIENT).connect().await?;
    let mut at = far.put("counter", "0").await?.revision;
    for (round, used) in (1..=LOST).zip([0, 1].into_iter().cycle()) {
        let [used, other] = [&ways[used], &ways[1 - used]];
        used.cut_way(Way::Down);
        let increment = tokio::spawn(increment(far.clone(), at, round));
        until("the server has applied it", PATIENT, async || {
            let entry = near.get("counter").await.ok()??;
            (entry.value == round.to_string()).then_some(())
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
        other.heal();
        at = promptly("the retry is answered", increment).await??;
        assert_eq!(far.metrics().retries, round, "it was not asked again");
    }
    let entry = near.get("counter").await?.expect("it was written");
    // One for the creation. The comparison of a second application would not have held, and its version would show.
    assert_eq!(entry.version.0, LOST + 1);
    assert_eq!(entry.mod_revision, at, "the first outcome was returned, with its revision");
    assert!(ways.iter().all(|way| way.counts().swallowed > 0));
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
