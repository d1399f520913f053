//! What there is too much or too little of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hither_protocol::message::Consistency;
use hither_protocol::{Applied, ErrorCode, Namespace};
use hither_server::engine::{DiskReserve, EngineConfig};
use hither_state::{Action, Command, StateLimits};

use super::disks::Disks;
use super::{command, config, delete, get, put, until};

#[tokio::test]
async fn puts_stop_before_the_disk_is_full_and_deletes_go_on() {
    let free = Arc::new(AtomicU64::new(1000));
    let reserve = DiskReserve {
        free: {
            let free = free.clone();
            Arc::new(move || Ok(free.load(Ordering::Relaxed)))
        },
        bytes_min: 500,
    };
    let engine = Disks::default().start(EngineConfig { disk_reserve: Some(reserve), ..config() }).await;
    engine.propose(put("a", "1")).await.expect("is put");
    free.store(499, Ordering::Relaxed);
    until("the alarm", || engine.stats().no_space).await;
    let refusal = engine.propose(put("a", "2")).await.expect_err("there is no space");
    assert_eq!((refusal.code, refusal.applied), (ErrorCode::NoSpace, Applied::No));
    engine.propose(delete("a")).await.expect("is deleted");
    let session = command(Action::SessionOpen { ttl_ms: 60_000, nonce: [7; 16] });
    engine.propose(session).await.expect("who comes now can delete");
    let record = Command { namespace: Namespace::system(), ..put("revoked", "1") };
    engine.propose(record).await.expect("somebody can be turned out");
    engine.barrier(Consistency::Linearizable).await.expect("is read");
    free.store(500, Ordering::Relaxed);
    until("the all-clear", || !engine.stats().no_space).await;
    engine.propose(put("a", "3")).await.expect("is put");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_disk_that_hangs_costs_patience_and_says_what_is_unknown() {
    let disks = Disks::default();
    let patience = Duration::from_millis(200);
    let engine = disks.start(EngineConfig { queue_max: 2, in_flight_max: 1, patience, ..config() }).await;
    disks.stall_log();
    let taken = tokio::spawn({
        let engine = engine.clone();
        async move { engine.propose(put("taken", "1")).await }
    });
    until("the entry", || engine.stats().entries_in_flight == 1).await;
    let (first, second, third) =
        tokio::join!(engine.propose(put("b", "1")), engine.propose(put("c", "1")), engine.propose(put("d", "1")));
    // Both that wait were not written, and whoever finds the queue full is told at once.
    for refusal in [first, second].map(|answer| answer.expect_err("nobody takes it")) {
        assert_eq!((refusal.code, refusal.applied), (ErrorCode::Timeout, Applied::No));
    }
    assert_eq!(third.expect_err("the queue is full").code, ErrorCode::ServerBusy);
    let refusal = taken.await.expect("no panic").expect_err("the disk hangs");
    assert_eq!((refusal.code, refusal.applied), (ErrorCode::Timeout, Applied::Unknown));
    disks.resume_log();
    // What was unknown happened after all; what was refused did not, and will not.
    until("the put", || get(&engine, "taken").is_some()).await;
    // Those that gave up leave the queue when the next entry is gathered.
    while let Err(refusal) = engine.propose(put("e", "1")).await {
        assert_eq!(refusal.code, ErrorCode::ServerBusy);
        tokio::task::yield_now().await;
    }
    assert_eq!((get(&engine, "b"), get(&engine, "c"), get(&engine, "d")), (None, None, None));
    engine.shutdown().await;
}

#[tokio::test]
async fn the_limits_of_the_configuration_are_the_logs() {
    let disks = Disks::default();
    let limits = StateLimits { state_bytes_max: 2_000, ..StateLimits::default() };
    let engine = disks.start(EngineConfig { limits, ..config() }).await;
    until("the command", || engine.machine().state.read().limits() == limits).await;
    let refusal = engine.propose(put("a", &"x".repeat(2_000))).await.expect_err("is too much");
    assert_eq!(refusal.code, ErrorCode::QuotaExceeded);
    engine.shutdown().await;
    // They are in the state, not in the configuration of whoever replays it.
    let engine = disks.start(EngineConfig { limits, ..config() }).await;
    assert_eq!(engine.machine().state.read().limits(), limits);
    engine.shutdown().await;
}
