//! What is acknowledged stays.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hither_protocol::message::Reply;
use hither_protocol::{ClusterId, Namespace, Revision};
use hither_server::engine::{EngineConfig, StartError};
use hither_server::raft::LogLimits;
use hither_state::device::{LogDevice, Space, StateDevice};
use hither_state::watch::HubConfig;

use super::disks::Disks;
use super::{config, entry, get, open_session, put, retryable, until};

#[tokio::test]
async fn an_acknowledged_put_survives_a_crash() {
    let mut disks = Disks::default();
    let mut acknowledged: BTreeMap<String, Revision> = BTreeMap::new();
    for round in 0..8 {
        // Written and flushed at other moments in each round, so that crashes fall between all of them.
        let persist_interval = Duration::from_millis([1, 1000][round % 2]);
        let engine = disks.start(EngineConfig { persist_interval, ..config() }).await;
        for (key, &revision) in &acknowledged {
            let entry = entry(&engine, key).unwrap_or_else(|| panic!("{key} is lost in round {round}"));
            assert_eq!((entry.version.0, entry.mod_revision), (1, revision), "{key}");
        }
        let newest = acknowledged.values().max().copied().unwrap_or_default();
        assert!(engine.machine().state.read().revision() >= newest, "the clock went back");
        let keys = (0..50).map(|number| format!("{round}/{number}"));
        let puts = join_all(keys.map(|key| {
            let put = put(&key, "v");
            let engine = &engine;
            async move { (key, engine.propose(put).await.expect("is put").0.revision) }.boxed()
        }));
        acknowledged.extend(puts.await);
        let left = disks.after_crash();
        engine.shutdown().await;
        disks = left;
    }
    assert_eq!(acknowledged.values().collect::<std::collections::BTreeSet<_>>().len(), acknowledged.len());
}

#[tokio::test]
async fn a_node_that_was_shut_down_starts_from_its_state_alone() {
    let disks = Disks::default();
    let engine = disks.start(config()).await;
    engine.propose(put("a", "1")).await.expect("is put");
    let before = engine.machine().fingerprint();
    engine.shutdown().await;
    // The disk of the state goes through a crash: a shutdown leaves nothing unflushed.
    let disks = disks.after_crash();
    let engine = disks.start(config()).await;
    let (_, revision, hash) = engine.machine().fingerprint();
    assert_eq!((revision, hash), (before.1, before.2));
    let (stamp, _) = engine.propose(put("a", "2")).await.expect("is put");
    assert_eq!(stamp.revision, revision.next());
    engine.shutdown().await;
}

#[tokio::test]
async fn a_retry_after_a_crash_gets_the_first_answer() {
    let disks = Disks::default();
    let engine = disks.start(config()).await;
    let session = open_session(&engine).await;
    let (_, first) = engine.propose(retryable(put("a", "1"), session, 1)).await.expect("is put");
    let (_, again) = engine.propose(retryable(put("a", "1"), session, 1)).await.expect("is known");
    assert_eq!(first, again);
    let left = disks.after_crash();
    engine.shutdown().await;
    let engine = left.start(config()).await;
    let (_, again) = engine.propose(retryable(put("a", "1"), session, 1)).await.expect("is known");
    assert_eq!(first, again);
    assert_eq!(entry(&engine, "a").expect("is there").version.0, 1);
    let (_, second) = engine.propose(retryable(put("a", "2"), session, 2)).await.expect("is put");
    let (Reply::Put(first), Reply::Put(second)) = (first, second) else { panic!("answers what was asked") };
    assert_eq!(second.revision, first.revision.next());
    engine.shutdown().await;
}

#[tokio::test]
async fn a_log_that_grows_is_cut_and_what_it_said_stays() {
    let limits = LogLimits { grown_bytes: u64::MAX, grown_entries: 50, kept_bytes: u64::MAX, kept_entries: 10 };
    let config = EngineConfig { log_limits: limits, ..config() };
    let mut disks = Disks::default();
    let engine = disks.start(config.clone()).await;
    let begins = |disks: &Disks| disks.log.clone().recover().expect("reads").range.map_or(0, |(first, _)| first);
    for number in 0..100 {
        engine.propose(put(&format!("k{number}"), "v")).await.expect("is put");
    }
    until("the purge", || begins(&disks) > 50).await;
    let left = disks.after_crash();
    engine.shutdown().await;
    disks = left;
    let engine = disks.start(config).await;
    assert!((0..100).all(|number| get(&engine, &format!("k{number}")).is_some()));
    engine.propose(put("more", "v")).await.expect("is put");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_broken_log_ends_the_engine_and_acknowledges_nothing() {
    let disks = Disks::default();
    let engine = disks.start(config()).await;
    engine.propose(put("a", "1")).await.expect("is put");
    disks.break_log();
    let refusal = engine.propose(put("a", "2")).await.expect_err("cannot be durable");
    assert_eq!(refusal.applied, hither_protocol::Applied::Unknown, "{refusal:?}");
    let failure = engine.failed().await;
    assert!(failure.to_string().contains("the disk is broken"), "{failure}");
    assert_eq!(get(&engine, "a").as_deref(), Some("1"), "what may not be on disk is told to nobody");
    let refusal = engine.propose(put("a", "3")).await.expect_err("is broken");
    assert_eq!(refusal.applied, hither_protocol::Applied::No, "{refusal:?}");
    engine.shutdown().await;
}

#[tokio::test]
async fn disks_of_different_times_or_clusters_are_refused() {
    let limits = LogLimits { grown_bytes: u64::MAX, grown_entries: 20, kept_bytes: u64::MAX, kept_entries: 5 };
    let small = EngineConfig { log_limits: limits, ..config() };
    let disks = Disks::default();
    let engine = disks.start(small).await;
    for number in 0..50 {
        engine.propose(put(&format!("k{number}"), "v")).await.expect("is put");
    }
    until("the purge", || disks.log.clone().recover().expect("reads").purged.is_some()).await;
    engine.shutdown().await;

    let other = EngineConfig::single(super::NODE, ClusterId(*b"another cluster."));
    let error = disks.try_start(other).await.expect_err("is another cluster's");
    assert!(matches!(error, StartError::Mismatch(_)), "{error}");

    let rolled_back = disks.without_state();
    let error = rolled_back.try_start(config()).await.expect_err("the state is missing");
    assert!(matches!(error, StartError::Mismatch(_)), "{error}");

    let engine = disks.start(config()).await;
    assert_eq!(engine.machine().state.read().get(&Namespace::default(), b"k1").map(|entry| entry.version.0), Some(1));
    engine.shutdown().await;
}

#[tokio::test]
async fn the_state_on_disk_catches_up_in_its_time() {
    let persist_interval = Duration::from_millis(20);
    let engine = Disks::default().start(EngineConfig { persist_interval, ..config() }).await;
    for number in 0..3 {
        engine.propose(put(&format!("a{number}"), "1")).await.expect("is put");
        engine.propose(put(&format!("b{number}"), "1")).await.expect("is put");
        until("the write", || engine.stats().persisted_index == engine.stats().applied_index).await;
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn the_state_on_disk_catches_up_sooner_if_there_is_much() {
    let persist_interval = Duration::from_secs(1_000);
    let engine = Disks::default().start(EngineConfig { persist_interval, ..config() }).await;
    let value = "v".repeat(64 << 10);
    for number in 0..100 {
        engine.propose(put(&format!("k{number}"), &value)).await.expect("is put");
    }
    until("the write", || engine.stats().persisted_index > 50).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn what_a_burst_wrote_is_durable_soon_after_it_is_over() {
    let disks = Disks::default();
    let persist_interval = Duration::from_millis(1);
    let engine = disks.start(EngineConfig { persist_interval, ..config() }).await;
    let value = "v".repeat(64 << 10);
    // Worth it, and far from what is flushed for being much.
    for number in 0..20 {
        engine.propose(put(&format!("k{number}"), &value)).await.expect("is put");
    }
    until("the flush", || {
        let mut rows = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(())
        };
        disks.after_crash().state.scan(Space::Kv, &mut count).expect("is read");
        rows == 20
    })
    .await;
    engine.shutdown().await;
}

#[tokio::test]
async fn a_put_that_is_alone_is_applied_once_whatever_the_leader_has_to_do_meanwhile() {
    let hub = HubConfig { history_bytes_max: 2_000, ..HubConfig::default() };
    let busy = EngineConfig {
        hub,
        trim_interval: Duration::from_micros(200),
        persist_interval: Duration::from_millis(1),
        ..config()
    };
    let disks = Disks::default();
    let engine = disks.start(busy).await;
    let session = open_session(&engine).await;
    for number in 1..=3_000 {
        let (plain, token) = (put("plain", "v"), retryable(put("token", "v"), session, number));
        for (key, command) in [("plain", plain), ("token", token)] {
            engine.propose(command).await.expect("is put");
            assert_eq!(entry(&engine, key).map(|entry| entry.version.0), Some(number), "{key}");
        }
    }
    assert!(engine.machine().state.read().floor() > Revision(1_000), "history is trimmed beside the puts");
    assert!(engine.stats().entries_applied_ahead > 1_000, "{:?}", engine.stats());
    let left = disks.after_crash();
    let (_, revision, hash) = engine.machine().fingerprint();
    engine.shutdown().await;
    for disks in [left, disks] {
        // What the leader does as it begins changes neither keys nor sessions.
        let engine = disks.start(config()).await;
        let versions = ["plain", "token"].map(|key| entry(&engine, key).map(|entry| entry.version.0));
        assert_eq!(versions, [Some(3_000), Some(3_000)]);
        assert_eq!((engine.machine().fingerprint().1, engine.machine().fingerprint().2), (revision, hash));
        engine.shutdown().await;
    }
}
