//! A watch tells each change once, in order, whole revisions at a time, whatever happens between it and the server.

use std::time::Duration;

use bytes::Bytes;
use hither::{Client, Delete, KeyRange, Put, SessionState, TxnOp};
use hither_tests::node::Node;
use hither_tests::relay::{Relay, Way};
use hither_tests::wait::until;

use crate::watcher::{CAUGHT_UP, PATIENT, Watcher, Written, assert_same, promptly};

/// Short, so that a silent network is noticed in a second rather than in three.
const BEAT: Duration = Duration::from_millis(250);

/// The faults, each in the middle of writing.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Loss,
    Disorder,
    Cut,
    CutUp,
    CutDown,
    Rebind,
    KillServer,
    RestartServer,
    PauseServer,
}

impl Fault {
    /// The network says nothing, and the client has to notice.
    fn is_silent(self) -> bool {
        matches!(self, Self::Cut | Self::CutUp | Self::CutDown)
    }

    fn needs_a_reconnect(self) -> bool {
        self.is_silent() || matches!(self, Self::KillServer | Self::RestartServer)
    }
}

/// Attempts after which something is wrong with the fault.
const ATTEMPTS_MAX: u32 = 20;

const FAULTS: [Fault; 9] = [
    Fault::Loss,
    Fault::Disorder,
    Fault::Cut,
    Fault::Rebind,
    Fault::CutDown,
    Fault::KillServer,
    Fault::CutUp,
    Fault::RestartServer,
    Fault::PauseServer,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_arrives_once_in_order_through_every_fault() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let relay = Relay::start(node.addr(), 11)?;
    let writer = node.client().request_timeout(PATIENT).connect().await?;
    let far = node.client_at(relay.addr()).beat_interval(BEAT).connect().await?;
    let watcher = Watcher::open(&far, "w/").await?;

    let mut written = Written::default();
    let mut round = 0;
    for fault in FAULTS {
        let reconnects = far.metrics().reconnects;
        for attempt in 1.. {
            write(&writer, &mut written, &mut round, 20).await?;
            let ((), wrote) =
                tokio::join!(begin(fault, &relay, &mut node), write(&writer, &mut written, &mut round, 20));
            wrote?;
            if fault.is_silent() {
                until("the client notices the silence", CAUGHT_UP, async || {
                    (far.state() == SessionState::Suspended).then_some(())
                })
                .await;
            }
            relay.heal();
            write(&writer, &mut written, &mut round, 20).await?;
            watcher.reach(written.last()).await;
            // A connection that comes back to life in time is kept, and that was no reconnect.
            if !fault.needs_a_reconnect() || far.metrics().reconnects > reconnects {
                break;
            }
            assert!(attempt < ATTEMPTS_MAX, "{fault:?} never made the client reconnect");
        }
    }

    assert_same(&watcher.told().await, &written.as_told());
    let (counts, metrics) = (relay.counts(), far.metrics());
    assert!(counts.lost > 0 && counts.swallowed > 0 && counts.duplicated > 0 && counts.reordered > 0, "{counts:?}");
    assert!(counts.rebound > 0, "{counts:?}");
    assert!(metrics.watch_resumes >= 5, "{metrics:?}");
    assert_eq!((metrics.watch_gaps, metrics.watch_resets), (0, 0), "{metrics:?}");
    Ok(())
}

async fn begin(fault: Fault, relay: &Relay, node: &mut Node) {
    match fault {
        Fault::Loss => relay.rules_both(|rules| rules.loss = 0.1),
        Fault::Disorder => relay.rules_both(|rules| {
            rules.duplicates = 0.1;
            rules.reordered = 0.2;
            rules.jitter = Duration::from_millis(2);
        }),
        Fault::Cut => relay.cut(),
        Fault::CutUp => relay.cut_way(Way::Up),
        Fault::CutDown => relay.cut_way(Way::Down),
        Fault::Rebind => relay.rebind(),
        Fault::KillServer => {
            node.kill().await;
            node.restart().await;
        }
        Fault::RestartServer => {
            let status = node.terminate().await;
            assert!(status.success(), "a server that is asked to stop stops cleanly, not with {status}");
            node.restart().await;
        }
        Fault::PauseServer => {
            node.pause();
            // The time is what is tested: a stall shorter than the connection's idle time.
            tokio::time::sleep(Duration::from_secs(2)).await;
            node.resume();
        }
    }
}

/// Writes `count` transactions of three operations each, and single puts between them.
async fn write(client: &Client, written: &mut Written, round: &mut u32, count: u32) -> anyhow::Result<()> {
    for _ in 0..count {
        *round += 1;
        let value = format!("{round}");
        let (a, b) = (format!("w/a{}", *round % 7), format!("w/b{}", *round % 5));
        let put = |key: &str| {
            TxnOp::Put(Put { key: key.into(), value: Bytes::from(value.clone()), lease: None, previous: false })
        };
        // A key to delete, which the round before wrote.
        let gone = format!("w/gone{}", *round - 1);
        let delete = TxnOp::Delete(Delete { range: KeyRange::One(gone.as_str().into()), previous: false });
        let reply = client.txn().then(put(&a)).then(put(&b)).then(delete).await?;
        let mut writes = vec![(a, Some(value.clone())), (b, Some(value.clone()))];
        if *round > 1 {
            writes.push((gone, None));
        }
        written.add(reply.revision, writes);
        let key = format!("w/gone{round}");
        let reply = client.put(key.as_str(), value.as_str()).await?;
        written.add(reply.revision, vec![(key, Some(value))]);
    }
    Ok(())
}

/// The promise of the demonstration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_was_cut_off_learns_of_exactly_the_thousand_changes_it_missed() -> anyhow::Result<()> {
    let mut node = Node::start().await;
    let relay = Relay::start(node.addr(), 12)?;
    let writer = node.client().request_timeout(PATIENT).connect().await?;
    let far = node.client_at(relay.addr()).connect().await?;
    let watcher = Watcher::open(&far, "m/").await?;
    let mut written = Written::default();
    let first = writer.put("m/before", "the cut").await?;
    written.add(first.revision, vec![("m/before".into(), Some("the cut".into()))]);
    watcher.reach(first.revision).await;

    relay.cut();
    for change in 0..1_000 {
        let (key, value) = (format!("m/{}", change % 10), change.to_string());
        let reply = writer.put(key.as_str(), value.as_str()).await?;
        written.add(reply.revision, vec![(key, Some(value))]);
    }
    node.kill().await;
    node.restart().await;
    assert_eq!(watcher.count().await, 1, "nothing passes a cut");
    relay.heal();

    promptly("the watch catches up", watcher.reach(written.last())).await;
    assert_same(&watcher.told().await, &written.as_told());
    assert!(relay.counts().swallowed > 0, "{:?}", relay.counts());
    Ok(())
}
