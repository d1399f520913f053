//! Watches over restarts.

use std::sync::Arc;
use std::time::Duration;

use hither_protocol::codec::decode_body;
use hither_protocol::message::{Batch, Start, op};
use hither_protocol::{Event, KeyRange, Namespace, Revision, WatchId};
use hither_server::engine::{Engine, EngineConfig};
use hither_state::watch::{ConnectionId, Frames, SubscriberId, WatchSpec};
use parking_lot::Mutex;

use super::disks::Disks;
use super::{config, entry, put, until};

const CONNECTION: ConnectionId = ConnectionId(5);

fn subscribe(engine: &Engine, start: Start) -> SubscriberId {
    let state = engine.machine().state.read();
    let spec = WatchSpec {
        watch: WatchId(1),
        namespace: Namespace::default(),
        range: KeyRange::prefix("k"),
        start,
        lineage: state.lineage(),
        mode: hither_protocol::message::Mode::Every,
        filter: hither_protocol::message::Filter::default(),
        previous: false,
        min_interval: Duration::ZERO,
    };
    engine.machine().hub.lock().subscribe(&state, CONNECTION, spec, engine.now()).expect("is opened").0
}

/// The revisions of the events that the watch has to send.
fn events(engine: &Engine, watch: SubscriberId) -> Vec<Revision> {
    let state = engine.machine().state.read();
    let mut revisions = Vec::new();
    while let Frames::Frames { frames, .. } =
        engine.machine().hub.lock().poll_frames(&state, watch, usize::MAX, engine.now())
    {
        for frame in frames {
            assert_eq!(frame.op, op::BATCH, "history goes back far enough");
            let batch: Batch = decode_body(&frame.body).expect("decodes");
            revisions.extend(batch.events.iter().map(Event::revision));
        }
    }
    revisions
}

#[tokio::test]
async fn a_watch_resumes_where_it_left_off_after_a_crash() {
    // Some of the history comes from the disk of the state, some from the log.
    for persist_interval in [Duration::from_millis(1), Duration::from_secs(100)] {
        let disks = Disks::default();
        let engine = disks.start(EngineConfig { persist_interval, ..config() }).await;
        let mut revisions = Vec::new();
        for number in 0..20 {
            let (stamp, _) = engine.propose(put(&format!("k{number}"), "v")).await.expect("is put");
            revisions.push(stamp.revision);
        }
        let left = disks.after_crash();
        engine.shutdown().await;
        let engine = left.start(config()).await;
        let watch = subscribe(&engine, Start::After(revisions[4]));
        assert_eq!(events(&engine, watch), revisions[5..]);
        engine.shutdown().await;
        // And once more, from what the shutdown left.
        let engine = left.start(config()).await;
        let watch = subscribe(&engine, Start::After(revisions[9]));
        assert_eq!(events(&engine, watch), revisions[10..]);
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn who_watches_is_woken_when_there_is_something() {
    let engine = Disks::default().start(config()).await;
    let woken = Arc::new(Mutex::new(Vec::new()));
    engine.on_wake({
        let woken = woken.clone();
        Arc::new(move |connections: &[ConnectionId]| woken.lock().extend_from_slice(connections))
    });
    let watch = subscribe(&engine, Start::Now);
    assert_eq!(events(&engine, watch), []);
    let (stamp, _) = engine.propose(put("k", "v")).await.expect("is put");
    until("the wake", || woken.lock().contains(&CONNECTION)).await;
    assert_eq!(events(&engine, watch), [stamp.revision]);
    engine.shutdown().await;
}

#[tokio::test]
async fn of_what_watchers_are_told_nothing_is_lost_by_a_crash_at_that_moment() {
    let disks = Disks::default();
    let engine = disks.start(config()).await;
    let left = Arc::new(Mutex::new(Vec::new()));
    engine.on_wake({
        let left = left.clone();
        Arc::new(move |_: &[ConnectionId]| left.lock().push(disks.after_crash()))
    });
    let watch = subscribe(&engine, Start::Now);
    let mut revisions = Vec::new();
    // One at a time: nothing else is under way when it is written.
    for number in 0..5 {
        let (stamp, _) = engine.propose(put(&format!("k{number}"), "v")).await.expect("is put");
        revisions.push(stamp.revision);
        assert_eq!(events(&engine, watch), [stamp.revision]);
        // As a connection does that was woken: from now on it is woken again.
        engine.machine().hub.lock().poll_ready(CONNECTION, &mut Vec::new());
    }
    assert!(engine.stats().entries_applied_ahead >= 1, "raft was waited for");
    engine.shutdown().await;
    let left = std::mem::take(&mut *left.lock());
    assert_eq!(left.len(), revisions.len());
    for (number, disks) in left.into_iter().enumerate() {
        let engine = disks.start(config()).await;
        let found = entry(&engine, &format!("k{number}")).map(|entry| (entry.mod_revision, entry.version.0));
        assert_eq!(found, Some((revisions[number], 1)), "{number}");
        engine.shutdown().await;
    }
}
