//! What a client promises about sessions and leases, with the server played by hand on one clock.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hither_client_core::OnLoss;
use hither_client_core::{Options, SessionState, Signal};
use hither_protocol::error::Refusal;
use hither_protocol::message::{
    GoAway, KeepAliveReply, LeaseCheckReply, LeaseGrantReply, Reply, Request, SessionReply,
};
use hither_protocol::{Applied, ErrorCode, LeaseId};
use support::{Said, World, answered, get, options, resumed};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn keep_alives_come_often_only_while_something_depends_on_them() {
    let count = |said: Vec<Said>| said.iter().filter(|said| matches!(said, Said::KeepAlive(_))).count();
    let (mut world, link) = World::connected(options(1));
    world.sleep(2_900 * MS);
    assert_eq!(count(world.said(link)), 0);
    world.sleep(200 * MS);
    assert_eq!(count(world.said(link)), 1);

    let (mut world, link) = World::with_session(options(1));
    world.sleep(2_900 * MS);
    assert!((9..=10).contains(&count(world.said(link))));
}

#[test]
fn a_lease_is_reported_lost_before_it_can_end_and_is_revoked_if_the_session_lives_on() {
    let (mut world, link) = World::with_session(options(1));
    world.core.handle_lease(world.now, 5, 2 * SECOND, OnLoss::Revoke);
    world.pump();
    let granted_at = world.now;
    let (number, _, _) = world.request(link);
    world.sleep(300 * MS);
    world.reply(link, number, 2, &Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: 2_000, epoch: 1 }));
    assert!(matches!(world.signal(), Some(Signal::Leased { id: 5, outcome: Ok(_) })));
    // One keep-alive is acknowledged late: what counts is when it was sent.
    let sent_at = world.now;
    let Some(Said::KeepAlive(number)) = world.said(link).into_iter().rfind(|said| matches!(said, Said::KeepAlive(_)))
    else {
        panic!("no keep-alive");
    };
    world.sleep(900 * MS);
    world.acknowledge(link, number);
    world.lose(link);
    let safe = 1_500 * MS;
    assert!(granted_at + safe < sent_at + safe);
    let left = (sent_at + safe).since(world.now);
    world.sleep(left - 300 * MS);
    assert!(!world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { .. })));
    world.sleep(300 * MS);
    assert!(world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { lease: LeaseId(9) })));
    let (link, _) = world.accept_again();
    world.welcome(link, resumed());
    let revoked = world
        .requests(link)
        .into_iter()
        .any(|(_, _, request)| matches!(request, Request::LeaseRevoke(revoke) if revoke.lease == LeaseId(9)));
    assert!(revoked, "the server must not keep alive what the application was told is lost");
}

#[test]
fn a_lease_that_was_granted_after_its_deadline_is_revoked() {
    let (mut world, link) = World::with_session(Options { request_timeout: SECOND, ..options(1) });
    world.core.handle_lease(world.now, 5, 60 * SECOND, OnLoss::Revoke);
    world.pump();
    let (number, context, _) = world.request(link);
    world.sleep(SECOND);
    assert!(matches!(
        world.signal(),
        Some(Signal::Leased { id: 5, outcome: Err(error) }) if error.applied() == Applied::Unknown
    ));
    // The answer was lost with its connection: only the same number brings it back.
    world.lose(link);
    let (link, _) = world.accept_again();
    world.welcome(link, resumed());
    let (again, retried, _) = world.request(link);
    assert_eq!(again, number);
    assert_eq!(retried.retry.map(|token| token.sequence), context.retry.map(|token| token.sequence));
    world.reply(link, again, 2, &Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: 60_000, epoch: 1 }));
    let (_, _, request) = world.request(link);
    assert!(matches!(request, Request::LeaseRevoke(revoke) if revoke.lease == LeaseId(9)), "nobody has it");
    assert!(!world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { .. } | Signal::Leased { .. })));
}

#[test]
fn after_a_freeze_the_loss_of_a_lease_is_the_first_thing_told() {
    let (mut world, link) = World::with_session(options(1));
    world.core.handle_lease(world.now, 5, 5 * SECOND, OnLoss::Revoke);
    world.pump();
    let (number, _, _) = world.request(link);
    world.reply(link, number, 2, &Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: 5_000, epoch: 1 }));
    world.core.handle_call(world.now, 6, get("a"), None);
    world.pump();
    world.signals.clear();
    world.freeze(60 * SECOND);
    let first = world.signals.iter().position(|signal| matches!(signal, Signal::LeaseLost { .. })).expect("lost");
    let answered = world.signals.iter().position(|signal| matches!(signal, Signal::Answered { .. })).expect("late");
    assert!(first < answered);
}

#[test]
fn acknowledged_keep_alives_keep_session_and_lease_for_ever() {
    let (mut world, link) = World::with_session(options(1));
    world.core.handle_lease(world.now, 5, 2 * SECOND, OnLoss::Revoke);
    world.pump();
    let (number, _, _) = world.request(link);
    world.reply(link, number, 2, &Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: 2_000, epoch: 1 }));
    let mut asked = 0;
    for _ in 0..300 {
        world.sleep(100 * MS);
        for said in world.said(link) {
            match said {
                Said::KeepAlive(number) => world.acknowledge(link, number),
                Said::Request(number, _, Request::LeaseCheck(check)) => {
                    asked += 1;
                    assert_eq!(check.leases, [LeaseId(9)]);
                    world.reply(link, number, 2, &Reply::LeaseCheck(LeaseCheckReply { gone: vec![] }));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(!world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { .. } | Signal::State(_))));
    assert!((10..=15).contains(&asked), "once in a TTL it is asked whether somebody revoked it: {asked}");
}

#[test]
fn a_lease_that_somebody_revoked_is_reported_lost() {
    let (mut world, link) = World::with_session(options(1));
    world.core.handle_lease(world.now, 5, 2 * SECOND, OnLoss::Revoke);
    world.pump();
    let (number, _, _) = world.request(link);
    world.reply(link, number, 2, &Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: 2_000, epoch: 1 }));
    for _ in 0..25 {
        world.sleep(100 * MS);
        for said in world.said(link) {
            match said {
                Said::KeepAlive(number) => world.acknowledge(link, number),
                Said::Request(number, _, Request::LeaseCheck(check)) => {
                    world.reply(link, number, 2, &Reply::LeaseCheck(LeaseCheckReply { gone: check.leases }));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { lease: LeaseId(9) })));
}

#[test]
fn many_leases_are_asked_after_together_and_each_once_in_its_time() {
    const LEASES: u64 = 2_500;
    let (mut world, link) = World::with_session(options(1));
    let mut asked: BTreeMap<LeaseId, u64> = BTreeMap::new();
    let mut questions = 0;
    let mut lost = BTreeSet::new();
    for round in 0..600 {
        // Granted over ten seconds, so that their times are spread.
        for id in round * 25..((round + 1) * 25).min(LEASES) {
            world.core.handle_lease(world.now, 100 + id, 10 * SECOND, OnLoss::Revoke);
        }
        world.sleep(100 * MS);
        for said in world.said(link) {
            match said {
                Said::KeepAlive(number) => world.acknowledge(link, number),
                Said::Request(number, _, Request::LeaseGrant(_)) => {
                    let granted = LeaseGrantReply { lease: LeaseId(number), ttl_ms: 10_000, epoch: 1 };
                    world.reply(link, number, 2, &Reply::LeaseGrant(granted));
                    asked.insert(LeaseId(number), 0);
                }
                Said::Request(number, _, Request::LeaseCheck(check)) => {
                    questions += 1;
                    check.leases.iter().for_each(|lease| *asked.get_mut(lease).expect("a lease of ours") += 1);
                    // Somebody revoked every hundredth meanwhile.
                    let gone: Vec<LeaseId> = check.leases.into_iter().filter(|lease| lease.0 % 100 == 0).collect();
                    lost.extend(gone.iter().copied());
                    world.reply(link, number, 2, &Reply::LeaseCheck(LeaseCheckReply { gone }));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let kept = asked.iter().filter(|(lease, _)| !lost.contains(lease));
    assert!(kept.clone().count() as u64 > LEASES * 9 / 10);
    for (lease, times) in kept {
        assert!((4..=7).contains(times), "{lease:?} was asked after {times} times in a minute");
    }
    assert!(questions <= 60, "{questions} questions for the leases of one client in a minute");
    let told: BTreeSet<LeaseId> = world
        .signals
        .iter()
        .filter_map(|signal| if let Signal::LeaseLost { lease } = signal { Some(*lease) } else { None })
        .collect();
    assert!(!told.is_empty());
    assert_eq!(told, lost);
}

#[test]
fn a_session_that_is_over_takes_its_leases_along_and_the_next_mutation_opens_another() {
    let (mut world, link) = World::with_session(options(1));
    world.core.handle_lease(world.now, 5, 3_600 * SECOND, OnLoss::Revoke);
    world.pump();
    let (number, _, _) = world.request(link);
    world.reply(
        link,
        number,
        2,
        &Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: 3_600_000, epoch: 1 }),
    );
    world.signals.clear();
    // The first keep-alive came before the session.
    world.say(link, 0, &KeepAliveReply { number: 2, session_alive: Some(false) });
    let states: Vec<SessionState> = world
        .signals
        .iter()
        .filter_map(|signal| if let Signal::State(state) = signal { Some(*state) } else { None })
        .collect();
    assert_eq!(states, [SessionState::Lost, SessionState::Connected]);
    assert!(world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { lease: LeaseId(9) })));
    assert_eq!(world.core.metrics().sessions_lost, 1);
    world.said(link);
    world.put(6, "a");
    world.open_session(link, 78);
    let (_, context, _) = world.request(link);
    let token = context.retry.expect("a token");
    assert_eq!((token.session.0, token.sequence.0, token.acknowledged.0), (78, 1, 0));
}

#[test]
fn an_unanswered_mutation_of_an_expired_session_is_unknown_and_an_unsent_one_goes_on() {
    let (mut world, link) = World::with_session(options(1));
    world.put(2, "sent");
    world.request(link);
    world.lose(link);
    world.put(3, "not sent");
    let (link, _) = world.accept_again();
    world.welcome(link, Some(SessionReply::Expired));
    assert_eq!(answered(&mut world), (2, Err((ErrorCode::SessionExpired, Applied::Unknown))));
    world.open_session(link, 78);
    let (number, context, _) = world.request(link);
    assert_eq!(context.retry.map(|token| token.session.0), Some(78));
    world.reply_put(link, number, 5);
    assert_eq!(answered(&mut world), (3, Ok(5)));
}

#[test]
fn a_mutation_that_an_expired_session_certainly_did_not_run_goes_on_under_the_next() {
    let (mut world, link) = World::with_session(options(1));
    world.put(2, "a");
    let (number, _, _) = world.request(link);
    world.refuse(link, number, &Refusal::new(ErrorCode::SessionExpired, "over"));
    world.open_session(link, 78);
    let (number, context, _) = world.request(link);
    assert_eq!(context.retry.map(|token| (token.session.0, token.sequence.0)), Some((78, 1)));
    world.reply_put(link, number, 5);
    assert_eq!(answered(&mut world), (2, Ok(5)));
}

#[test]
fn an_answer_that_is_about_an_earlier_session_does_not_end_the_present_one() {
    let (mut world, link) = World::with_session(options(1));
    world.sleep(400 * MS);
    let said = world.said(link).into_iter().rev();
    let late = said.filter_map(|said| if let Said::KeepAlive(number) = said { Some(number) } else { None }).next();
    let late = late.expect("a keep-alive");
    world.put(2, "a");
    let (number, _, _) = world.request(link);
    world.refuse(link, number, &Refusal::new(ErrorCode::SessionExpired, "over"));
    world.open_session(link, 78);
    world.requests(link);
    world.core.handle_lease(world.now, 5, 60 * SECOND, OnLoss::Revoke);
    world.pump();
    let (number, _, _) = world.request(link);
    world.reply(link, number, 2, &Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: 60_000, epoch: 1 }));
    world.signals.clear();
    world.say(link, 0, &KeepAliveReply { number: late, session_alive: Some(false) });
    assert!(world.signals.is_empty(), "{:?}", world.signals);
    assert_eq!(world.core.metrics().sessions_lost, 1);
    // What was asked after it was opened speaks of it.
    world.say(link, 0, &KeepAliveReply { number: late + 1, session_alive: Some(false) });
    assert!(world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { lease: LeaseId(9) })));
    assert_eq!(world.core.metrics().sessions_lost, 2);
}

#[test]
fn a_server_that_was_greeted_before_the_session_was_opened_elsewhere_is_greeted_anew() {
    for earlier in [false, true] {
        let (mut world, before) = World::connected(options(1));
        if earlier {
            world.put(1, "a");
            world.open_session(before, 77);
        }
        let mut sent = world.requests(before);
        world.say(before, 0, &GoAway { retry_after_ms: 0, reason: "upgrade".to_owned() });
        let link = world.accept();
        // Meanwhile the connection before brings another session.
        match sent.pop() {
            Some((number, _, _)) => world.refuse(before, number, &Refusal::new(ErrorCode::SessionExpired, "over")),
            None => world.put(1, "a"),
        }
        world.open_session(before, 78);
        world.requests(before);
        world.signals.clear();
        world.welcome(link, earlier.then_some(SessionReply::Expired));
        assert!(world.signals.is_empty(), "{:?}", world.signals);
        assert!(world.hung_up.iter().any(|(hung_up, _)| *hung_up == link));
        let (link, hello) = world.accept_again();
        assert_eq!(hello.session.map(|session| session.0), Some(78));
        world.welcome(link, resumed());
        assert_eq!(world.core.state(), SessionState::Connected);
    }
}

#[test]
fn a_session_unheard_of_for_its_ttl_is_lost_and_may_be_found_again() {
    let (mut world, link) = World::with_session(options(1));
    world.lose(link);
    world.sleep(8 * SECOND);
    assert_eq!(world.core.state(), SessionState::Suspended);
    world.sleep(2 * SECOND);
    assert_eq!(world.core.state(), SessionState::Lost);
    let (link, hello) = world.accept_again();
    assert!(hello.session.is_some(), "the server may yet know what became of unanswered requests");
    world.welcome(link, resumed());
    assert_eq!(world.core.state(), SessionState::Connected);
}
