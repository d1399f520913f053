//! What the leader promises to those who hold leases.

#![expect(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod model;
mod world;

use hither_protocol::{ErrorCode, LeaseState};
use hither_state::{Action, LEASES_PER_PROPOSAL_MAX, Lessor, PROPOSALS_IN_FLIGHT_MAX};

use crate::world::{CONFIG, TICK, World, ms};

#[test]
fn a_lease_ends_a_full_ttl_after_its_last_renewal_and_a_tick_later_at_most() {
    let mut world = World::new();
    let lease = world.grant(10_000);
    assert_eq!(world.live(ms(9_000)), []);
    world.lessor.handle_renew(lease, world.now).unwrap();
    let renewed = world.now;
    let expired = world.live(ms(20_000));
    assert_eq!(expired.len(), 1);
    let late = expired[0].0.since(renewed + ms(10_000));
    assert!(expired[0].0 >= renewed + ms(10_000) && late <= TICK, "{late:?} late");
    assert_eq!(world.standing(lease), None);
}

#[test]
fn a_lease_of_a_day_lives_for_a_day() {
    let mut world = World::new();
    let day = 24 * 60 * 60 * 1_000;
    let lease = world.grant(day);
    assert_eq!(world.live(ms(day - 1)), []);
    let expired = world.live(TICK + ms(1));
    assert_eq!(expired.into_iter().map(|(_, lease)| lease).collect::<Vec<_>>(), [lease]);
}

#[test]
fn a_renewal_once_the_expiry_is_proposed_comes_too_late() {
    let mut world = World::new();
    let lease = world.grant(1_000);
    assert_eq!(world.poll_expired_after(ms(1_100)), [(lease, 1)]);
    assert_eq!(world.lessor.handle_renew(lease, world.now).unwrap_err().code, ErrorCode::LeaseNotFound);
    assert_eq!(world.lessor.remaining(lease, world.now), Some(ms(0)));
    // It is proposed once, however long the log takes.
    assert_eq!(world.poll_expired_after(ms(60_000)), []);
    world.apply(None, Action::Expire { leases: vec![(lease, 1)] });
    assert_eq!(world.lessor.handle_renew(lease, world.now).unwrap_err().code, ErrorCode::LeaseNotFound);
    assert_eq!(world.lessor.remaining(lease, world.now), None);
}

#[test]
fn a_renewal_before_the_expiry_is_proposed_counts_even_if_it_is_late() {
    let mut world = World::new();
    let lease = world.grant(1_000);
    world.live(ms(900));
    world.pass(ms(500));
    let reply = world.lessor.handle_renew(lease, world.now).unwrap();
    assert_eq!((reply.ttl_ms, reply.epoch), (1_000, 1));
    assert_eq!(world.lessor.remaining(lease, world.now), Some(ms(1_000)));
    assert_eq!(world.poll_expired_after(ms(999)), []);
    assert_eq!(world.poll_expired_after(ms(101)), [(lease, 1)]);
}

#[test]
fn an_expiry_that_raft_refused_is_due_again_unless_the_lease_is_renewed_first() {
    let mut world = World::new();
    let lease = world.grant(1_000);
    let other = world.grant(1_000);
    let polled = world.poll_expired_after(ms(1_100));
    assert_eq!(polled, [(lease, 1), (other, 1)]);
    world.lessor.handle_refused(&polled);
    world.lessor.handle_renew(other, world.now).unwrap();
    assert_eq!(world.lessor.poll_expired(world.now), [(lease, 1)]);
    assert_eq!(world.poll_expired_after(ms(1_100)), [(other, 1)]);
}

#[test]
fn a_bound_lease_lives_by_its_session_and_is_not_renewed() {
    let mut world = World::new();
    let session = world.open(10_000);
    let lease = world.bind(session, 5_000);
    for lease in [lease, session.lease()] {
        let refusal = world.lessor.handle_renew(lease, world.now).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidArgument);
        assert!(refusal.detail.contains("bound to a session"), "{}", refusal.detail);
    }
    for _ in 0..100 {
        assert_eq!(world.live(ms(300)), []);
        assert!(world.lessor.handle_vouch(session, world.now));
        assert_eq!(world.lessor.remaining(lease, world.now), Some(ms(5_000)));
        assert_eq!(world.lessor.remaining(session.lease(), world.now), Some(ms(10_000)));
    }
    assert_eq!(world.standing(lease), Some((LeaseState::Alive, 1)));
    let expired: Vec<_> = world.live(ms(11_000)).into_iter().map(|(_, lease)| lease).collect();
    assert_eq!(expired, [lease, session.lease()]);
    assert!(!world.lessor.handle_vouch(session, world.now));
}

#[test]
fn a_lease_that_is_granted_late_in_a_silence_still_gets_its_ttl() {
    let mut world = World::new();
    let session = world.open(60_000);
    world.live(ms(2_000));
    let lease = world.bind(session, 1_000);
    assert_eq!(world.live(ms(999)), []);
    assert_eq!(world.live(ms(100))[0].1, lease);
}

#[test]
fn a_session_is_over_for_its_client_once_its_expiry_is_proposed() {
    let mut world = World::new();
    let session = world.open(1_000);
    assert_eq!(world.poll_expired_after(ms(1_100)), [(session.lease(), 1)]);
    assert!(!world.lessor.handle_vouch(session, world.now));
    world.lessor.handle_refused(&[(session.lease(), 1)]);
    assert!(world.lessor.handle_vouch(session, world.now), "it was not proposed in the end");
    assert_eq!(world.poll_expired_after(ms(900)), []);
}

#[test]
fn a_silent_session_is_suspect_until_it_is_heard_again() {
    let mut world = World::new();
    let session = world.open(10_000);
    let lease = world.bind(session, 10_000);
    world.put("key", Some(lease));
    world.live(ms(500));
    assert!(world.lessor.handle_vouch(session, world.now));
    world.live(ms(999));
    assert_eq!(world.standing(lease), Some((LeaseState::Alive, 1)));
    world.live(ms(1) + TICK);
    assert_eq!(world.standing(lease), Some((LeaseState::Suspect, 1)));
    assert_eq!(world.standing(session.lease()), Some((LeaseState::Suspect, 1)));
    assert!(world.lessor.handle_vouch(session, world.now));
    assert_eq!(world.lessor.poll_timeout().map(|at| at <= world.now), Some(true), "at once");
    world.live(ms(1));
    assert_eq!(world.standing(lease), Some((LeaseState::Alive, 2)));
    assert_eq!(world.standing(session.lease()), Some((LeaseState::Alive, 2)));
}

#[test]
fn a_mark_is_proposed_once_and_again_only_if_it_was_refused() {
    let mut world = World::new();
    let session = world.open(600_000);
    let lease = world.bind(session, 600_000);
    let both = vec![(session.lease(), 1), (lease, 1)];
    let lessor_polls = |world: &mut World, count: usize| {
        (0..count)
            .flat_map(|_| {
                world.pass(ms(100));
                world.lessor.poll_suspect(world.now)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(lessor_polls(&mut world, 20), both);
    assert_eq!(lessor_polls(&mut world, 20), []);
    world.lessor.handle_refused(&both);
    assert_eq!(lessor_polls(&mut world, 20), both);
    assert!(world.lessor.handle_vouch(session, world.now));
    assert_eq!(world.lessor.poll_alive(world.now), [], "whether they are suspect is not decided yet");
    world.apply(None, Action::MarkSuspect { leases: both.clone() });
    assert_eq!(world.lessor.poll_alive(world.now), both);
    assert_eq!(world.lessor.poll_alive(world.now), []);
    world.apply(None, Action::MarkAlive { leases: both });
    assert_eq!(world.lessor.poll_alive(world.now), []);
}

#[test]
fn a_session_that_holds_nothing_is_not_worth_a_mark() {
    let mut world = World::new();
    let session = world.open(60_000);
    world.live(ms(5_000));
    assert_eq!(world.standing(session.lease()), Some((LeaseState::Alive, 1)));
    world.put("key", Some(session.lease()));
    world.put("key", Some(session.lease()));
    world.delete("key");
    world.live(ms(100));
    assert_eq!(world.standing(session.lease()), Some((LeaseState::Alive, 1)));
    world.put("key", Some(session.lease()));
    world.live(ms(100));
    assert_eq!(world.standing(session.lease()), Some((LeaseState::Suspect, 1)));
}

#[test]
fn a_new_leader_gives_every_lease_a_full_ttl() {
    let mut world = World::new();
    let lease = world.grant(3_000);
    let session = world.open(3_000);
    let bound = world.bind(session, 3_000);
    world.live(ms(2_900));
    assert_eq!(world.standing(bound), Some((LeaseState::Suspect, 1)));
    world.lessor = Lessor::new(CONFIG);
    world.lessor.take_up(&world.state, world.now);
    assert_eq!(world.live(ms(2_999)), []);
    assert_eq!(world.standing(bound), Some((LeaseState::Suspect, 1)), "the new leader has not heard of it either");
    let mut expired: Vec<_> = world.live(TICK + ms(1)).into_iter().map(|(_, lease)| lease).collect();
    expired.sort_unstable();
    assert_eq!(expired, [lease, session.lease(), bound]);
}

#[test]
fn a_suspect_of_the_leader_before_is_alive_when_its_client_is_heard() {
    let mut world = World::new();
    let session = world.open(30_000);
    let lease = world.bind(session, 30_000);
    world.live(ms(1_200));
    world.lessor.take_up(&world.state, world.now);
    world.live(ms(100));
    assert_eq!(world.standing(lease), Some((LeaseState::Suspect, 1)));
    assert!(world.lessor.handle_vouch(session, world.now));
    world.live(ms(1));
    assert_eq!(world.standing(lease), Some((LeaseState::Alive, 2)));
}

#[test]
fn a_new_leader_sees_the_keys_of_sessions_that_were_there_before() {
    let mut world = World::new();
    let session = world.open(30_000);
    world.put("key", Some(session.lease()));
    world.lessor.take_up(&world.state, world.now);
    world.live(ms(1_200));
    assert_eq!(world.standing(session.lease()), Some((LeaseState::Suspect, 1)));
}

#[test]
fn a_leader_that_was_stopped_begins_afresh() {
    let mut world = World::new();
    let lease = world.grant(3_000);
    let session = world.open(3_000);
    let bound = world.bind(session, 3_000);
    world.live(ms(100));
    world.pass(ms(60_000));
    assert_eq!(world.lessor.poll_expired(world.now), []);
    assert_eq!(world.lessor.poll_suspect(world.now), [], "nobody could be heard");
    assert_eq!(world.lessor.stalls(), 1);
    for lease in [lease, session.lease(), bound] {
        assert_eq!(world.lessor.remaining(lease, world.now), Some(ms(3_000)));
    }
    assert_eq!(world.live(ms(2_999)), []);
    assert_eq!(world.live(TICK + ms(1)).len(), 3);
    assert_eq!(world.lessor.stalls(), 1, "whoever polls in time was not stopped");
}

#[test]
fn waiting_without_leases_is_no_stall() {
    let mut world = World::new();
    assert_eq!(world.lessor.poll_timeout(), None);
    world.pass(ms(60_000));
    world.grant(1_000);
    world.live(ms(500));
    assert_eq!(world.lessor.stalls(), 0);
}

#[test]
fn a_node_that_does_not_lead_says_so_rather_than_that_a_lease_is_gone() {
    let mut world = World::new();
    let lease = world.grant(1_000);
    world.lessor.resign();
    assert!(!world.lessor.is_leading());
    assert_eq!(world.lessor.handle_renew(lease, world.now).unwrap_err().code, ErrorCode::NotLeader);
    world.grant(1_000);
    assert_eq!((world.lessor.poll_timeout(), world.lessor.remaining(lease, world.now)), (None, None));
    assert_eq!(world.poll_expired_after(ms(5_000)), []);
}

#[test]
fn a_mass_expiry_comes_in_few_bounded_proposals() {
    let mut world = World::new();
    let count = LEASES_PER_PROPOSAL_MAX * PROPOSALS_IN_FLIGHT_MAX + 100;
    for _ in 0..count {
        world.grant(1_000);
    }
    world.poll_expired_after(ms(999));
    world.pass(TICK + ms(1));
    let mut batches: Vec<_> =
        std::iter::from_fn(|| Some(world.lessor.poll_expired(world.now)).filter(|batch| !batch.is_empty())).collect();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [LEASES_PER_PROPOSAL_MAX; PROPOSALS_IN_FLIGHT_MAX]);
    // The rest waits until one of them is through, not for some of its leases.
    assert!(world.lessor.poll_timeout().is_some_and(|at| at > world.now), "it is not polled in vain");
    let mut first = batches.remove(0);
    let last = first.pop().unwrap();
    world.apply(None, Action::Expire { leases: first });
    assert_eq!(world.lessor.poll_expired(world.now), []);
    world.apply(None, Action::Expire { leases: vec![last] });
    assert!(world.lessor.poll_timeout().is_some_and(|at| at <= world.now));
    assert_eq!(world.lessor.poll_expired(world.now).len(), 100);
}

#[test]
fn a_lease_that_was_revoked_is_not_waited_for() {
    let mut world = World::new();
    for _ in 0..=PROPOSALS_IN_FLIGHT_MAX {
        let lease = world.grant(1_000);
        assert_eq!(world.poll_expired_after(ms(1_100)), [(lease, 1)]);
        world.apply(None, Action::LeaseRevoke { lease });
        // The expiry that comes behind it changes nothing, and is over all the same.
        world.apply(None, Action::Expire { leases: vec![(lease, 1)] });
    }
}

#[test]
fn a_mark_from_elsewhere_does_not_call_an_expiry_back() {
    let mut world = World::new();
    let session = world.open(1_000);
    let lease = world.bind(session, 1_000);
    assert_eq!(world.poll_expired_after(ms(1_100)).len(), 2);
    world.apply(None, Action::MarkSuspect { leases: vec![(lease, 1), (session.lease(), 1)] });
    assert!(!world.lessor.handle_vouch(session, world.now), "the expiry would still end it");
    world.apply(None, Action::MarkAlive { leases: vec![(lease, 1), (session.lease(), 1)] });
    assert!(world.lessor.handle_vouch(session, world.now), "the expiry can not take effect any more");
    world.apply(None, Action::Expire { leases: vec![(lease, 1), (session.lease(), 1)] });
    assert_eq!(world.live(ms(900)), []);
    assert_eq!(world.standing(session.lease()), Some((LeaseState::Alive, 2)));
}

#[test]
fn a_lease_whose_expiry_is_proposed_is_in_no_other_proposal() {
    let mut world = World::new();
    let session = world.open(10_000);
    let lease = world.bind(session, 3_000);
    world.live(ms(1_200));
    assert!(world.lessor.handle_vouch(session, world.now));
    // Both are due to be marked alive, but nobody asks for that.
    let mut expired = Vec::new();
    for _ in 0..40 {
        world.pass(ms(100));
        expired.extend(world.lessor.poll_expired(world.now));
    }
    assert_eq!(expired, [(lease, 1)]);
    assert!(world.lessor.handle_vouch(session, world.now));
    assert_eq!(world.lessor.poll_alive(world.now), [(session.lease(), 1)]);
}
