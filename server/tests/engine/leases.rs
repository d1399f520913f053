//! Leases end in time, never early, and afresh after a restart.

use std::time::{Duration, Instant};

use hither_protocol::message::{LeaseKind, Put, Reply};
use hither_protocol::{ErrorCode, LeaseId, LeaseState, SessionId};
use hither_server::engine::Engine;
use hither_state::{Action, Command};

use super::disks::Disks;
use super::{command, config, get, open_session, retryable, until};

fn put_with(key: &str, lease: LeaseId) -> Command {
    command(Action::Put(Put { key: key.into(), value: "v".into(), lease: Some(lease), previous: false }))
}

async fn granted(engine: &Engine, command: Command) -> LeaseId {
    let answer = engine.propose(command).await;
    let (_, Reply::LeaseGrant(granted)) = answer.expect("is granted") else { panic!("answers what was asked") };
    granted.lease
}

async fn grant(engine: &Engine, ttl_ms: u64) -> LeaseId {
    granted(engine, command(Action::LeaseGrant { ttl_ms, kind: LeaseKind::Ttl })).await
}

#[tokio::test]
async fn a_lease_that_nobody_renews_takes_its_keys_along_and_not_early() {
    let engine = Disks::default().start(config()).await;
    let begun = Instant::now();
    let lease = grant(&engine, 400).await;
    engine.propose(put_with("a", lease)).await.expect("is put");
    until("the expiry", || get(&engine, "a").is_none()).await;
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    assert_eq!(engine.renew(lease).await.expect_err("is over").code, ErrorCode::LeaseNotFound);
    assert_eq!(engine.remaining_ms(lease), None);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_renewal_that_was_acknowledged_is_a_full_ttl() {
    let engine = Disks::default().start(config()).await;
    let lease = grant(&engine, 1_000).await;
    engine.propose(put_with("a", lease)).await.expect("is put");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        let renewed = Instant::now();
        match engine.renew(lease).await {
            Ok(reply) => assert_eq!(reply.ttl_ms, 1_000),
            // This process was not run for so long that the lease is over, which is nobody's fault.
            Err(refusal) => panic!("{refusal} after {:?}", renewed.elapsed()),
        }
        assert!(get(&engine, "a").is_some());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_restart_gives_every_lease_its_full_time_again() {
    let disks = Disks::default();
    let engine = disks.start(config()).await;
    let lease = grant(&engine, 2_000).await;
    engine.propose(put_with("a", lease)).await.expect("is put");
    until("half of the time", || engine.remaining_ms(lease).is_some_and(|left| left < 1_000)).await;
    let left = disks.after_crash();
    engine.shutdown().await;
    let restarted = Instant::now();
    let engine = left.start(config()).await;
    let remaining = engine.remaining_ms(lease).expect("is known");
    assert!(
        remaining + u64::try_from(restarted.elapsed().as_millis()).expect("is short") >= 2_000,
        "{remaining} ms left"
    );
    assert!(get(&engine, "a").is_some());
    until("the expiry", || get(&engine, "a").is_none()).await;
    assert!(restarted.elapsed() >= Duration::from_millis(2_000), "{:?}", restarted.elapsed());
    engine.shutdown().await;
}

#[tokio::test]
async fn a_silent_session_is_suspect_and_comes_back_when_it_is_heard() {
    let engine = Disks::default().start(config()).await;
    let session: SessionId = open_session(&engine).await;
    let bound = command(Action::LeaseGrant { ttl_ms: 60_000, kind: LeaseKind::Bound });
    let lease = granted(&engine, retryable(bound, session, 1)).await;
    engine.propose(retryable(put_with("a", lease), session, 2)).await.expect("is put");
    let state = || engine.machine().state.read().lease(lease).map(|lease| (lease.record.state, lease.record.epoch));
    let (_, epoch) = state().expect("is there");
    until("the silence", || state().is_some_and(|(state, _)| state == LeaseState::Suspect)).await;
    assert!(engine.vouch(session).await.expect("leads"));
    until("the return", || state() == Some((LeaseState::Alive, epoch + 1))).await;
    assert!(get(&engine, "a").is_some());
    assert!(!engine.vouch(SessionId(4711)).await.expect("leads"), "there is no such session");
    engine.shutdown().await;
}
