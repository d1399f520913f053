//! What a client promises about requests, sessions and leases, with the server played by hand on one clock.

mod support;

use std::time::Duration;

use hither_client_core::OnLoss;
use hither_client_core::{Options, SessionState, Signal};
use hither_protocol::error::{CloseCode, LeaderHint, Refusal};
use hither_protocol::message::{
    ClientAdd, Consistency, Get, GetReply, GoAway, KeepAliveReply, LeaseGrantReply, LeaseInfoReply, Range, RangeReply,
    Reply, Request, Resumed, Role, SessionReply,
};
use hither_protocol::{Applied, ErrorCode, KeyRange, LeaseId, NodeId, SequenceNumber};
use support::{Said, World, options};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn get(key: &str) -> Request {
    Get { key: key.into(), consistency: Consistency::default() }.into()
}

fn resumed() -> Option<SessionReply> {
    Some(SessionReply::Resumed(Resumed { ttl_ms: 10_000, epoch: 1 }))
}

fn answered(world: &mut World) -> (u64, Result<u64, (ErrorCode, Applied)>) {
    while let Some(signal) = world.signal() {
        if let Signal::Answered { id, outcome } = signal {
            let outcome = outcome.map(|(stamp, _)| stamp.revision.0);
            return (id, outcome.map_err(|error| (error.code(), error.applied())));
        }
    }
    panic!("nothing was answered");
}

#[test]
fn nothing_but_hello_is_sent_before_the_greeting() {
    let mut world = World::new(options(1));
    world.core.handle_call(world.now, 1, get("a"), None);
    world.put(2, "a");
    let link = world.accept();
    assert_eq!(world.said(link), []);
    world.welcome(link, None);
    assert_eq!(world.core.state(), SessionState::Connected);
    let requests: Vec<&str> = world.requests(link).iter().map(|(_, _, request)| request.name()).collect();
    assert_eq!(requests, ["Get", "SessionOpen"]);
}

#[test]
fn silence_while_connecting_ends_with_host_and_port() {
    let mut world = World::new(Options { connect_timeout: 2 * SECOND, ..options(1) });
    world.sleep(3 * SECOND);
    let Some(Signal::Connected(Err(error))) = world.signal() else { panic!("no outcome") };
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.detail().contains("s:1") && error.detail().contains("UDP"), "{error}");
}

#[test]
fn a_server_that_turns_the_client_away_is_believed_at_once() {
    let mut world = World::new(options(1));
    let link = world.accept();
    let refusal = Refusal::new(ErrorCode::IdentityRevoked, "revoked");
    world.refuse(link, 0, &refusal);
    let Some(Signal::Connected(Err(error))) = world.signal() else { panic!("no outcome") };
    assert_eq!(error.code(), ErrorCode::IdentityRevoked);
}

#[test]
fn a_server_of_another_cluster_is_left() {
    let cluster = Some(hither_protocol::ClusterId([9; 16]));
    let mut world = World::new(Options { cluster, ..options(1) });
    let link = world.accept();
    world.welcome(link, None);
    let Some(Signal::Connected(Err(error))) = world.signal() else { panic!("no outcome") };
    assert_eq!(error.code(), ErrorCode::ClusterMismatch);
    assert_eq!(world.hung_up, [(link, CloseCode::ClusterMismatch)]);
}

#[test]
fn servers_are_tried_beside_each_other_and_the_first_that_greets_is_kept() {
    let mut world = World::new(options(3));
    world.sleep(700 * MS);
    assert_eq!(world.dialed.len(), 3);
    let others: Vec<_> = world.dialed.iter().skip(1).map(|(link, _)| *link).collect();
    let link = world.accept();
    world.welcome(link, None);
    let hung_up: Vec<_> = world.hung_up.iter().map(|(link, _)| *link).collect();
    assert_eq!(hung_up, others);
}

#[test]
fn a_mutation_whose_answer_was_lost_is_sent_again_under_the_same_number() {
    let (mut world, link) = World::with_session(options(1));
    world.put(2, "b");
    let (number, context, _) = world.request(link);
    let token = context.retry.expect("a token");
    world.lose(link);
    assert_eq!(world.core.state(), SessionState::Suspended);
    let (link, hello) = world.accept_again();
    assert_eq!(hello.session, Some(token.session));
    world.welcome(link, resumed());
    let (again, context, _) = world.request(link);
    assert_eq!((again, context.retry), (number, Some(token)));
    world.reply_put(link, number, 2);
    assert_eq!(answered(&mut world), (2, Ok(2)));
    assert_eq!(world.core.metrics().retries, 1);
}

#[test]
fn mutations_are_sent_again_in_their_order_and_before_later_ones() {
    let (mut world, link) = World::with_session(options(1));
    (2..=4).for_each(|id| world.put(id, "b"));
    assert_eq!(world.requests(link).len(), 3);
    world.lose(link);
    world.put(5, "c");
    let (link, _) = world.accept_again();
    world.welcome(link, resumed());
    let sequences: Vec<u64> =
        world.requests(link).iter().filter_map(|(_, context, _)| context.retry).map(|token| token.sequence.0).collect();
    assert_eq!(sequences, [2, 3, 4, 5]);
}

#[test]
fn what_cannot_be_sent_twice_is_unknown_after_a_lost_connection() {
    let (mut world, link) = World::connected(options(1));
    let add = ClientAdd { name: "x".to_owned(), role: Role::Client, valid_ms: 1 };
    world.core.handle_call(world.now, 1, add.into(), None);
    world.pump();
    world.request(link);
    world.lose(link);
    assert_eq!(answered(&mut world), (1, Err((ErrorCode::ConnectionLost, Applied::Unknown))));
}

#[test]
fn a_busy_server_is_asked_again_within_the_deadline_only() {
    let (mut world, link) = World::connected(options(1));
    world.core.handle_call(world.now, 1, get("a"), Some(SECOND));
    world.pump();
    let mut asked = 0;
    let outcome = loop {
        for (number, _, _) in world.requests(link) {
            asked += 1;
            world.refuse(link, number, &Refusal::new(ErrorCode::ServerBusy, "busy"));
        }
        if world.signals.iter().any(|signal| matches!(signal, Signal::Answered { .. })) {
            break answered(&mut world);
        }
        world.sleep(10 * MS);
        world.acknowledge(link, 0);
    };
    assert_eq!(outcome, (1, Err((ErrorCode::ServerBusy, Applied::No))));
    assert!((3..100).contains(&asked), "asked {asked} times");
}

#[test]
fn an_error_that_another_attempt_would_meet_again_is_told_at_once() {
    let (mut world, link) = World::connected(options(1));
    world.core.handle_call(world.now, 1, get("a"), None);
    world.pump();
    let (number, _, _) = world.request(link);
    world.refuse(link, number, &Refusal::new(ErrorCode::PermissionDenied, "no"));
    assert_eq!(answered(&mut world), (1, Err((ErrorCode::PermissionDenied, Applied::No))));
}

#[test]
fn a_deadline_is_kept_whatever_the_call_waits_for() {
    // For a connection.
    let mut world = World::new(options(1));
    world.core.handle_call(world.now, 1, get("a"), Some(SECOND));
    world.sleep(SECOND);
    assert_eq!(answered(&mut world), (1, Err((ErrorCode::Unavailable, Applied::No))));

    // For an answer: of a read nothing is in doubt, of a write everything.
    let (mut world, link) = World::with_session(options(1));
    world.core.handle_call(world.now, 2, get("a"), Some(SECOND));
    world.put(3, "a");
    let numbers: Vec<u64> = world.requests(link).iter().map(|(number, _, _)| *number).collect();
    world.sleep(SECOND);
    assert_eq!(answered(&mut world), (2, Err((ErrorCode::Timeout, Applied::No))));
    assert!(world.said(link).contains(&Said::CancelRequest(numbers[0])), "the server is told");
    world.sleep(5 * SECOND);
    assert_eq!(answered(&mut world), (3, Err((ErrorCode::Timeout, Applied::Unknown))));
}

#[test]
fn an_unreachable_cluster_is_reported_with_the_time_waited_and_why_the_last_connection_ended() {
    let (mut world, link) = World::connected(options(1));
    world.lose(link);
    world.core.handle_call(world.now, 1, get("a"), Some(400 * MS));
    world.sleep(SECOND);
    let error = world.signals.iter().find_map(|signal| match signal {
        Signal::Answered { id: 1, outcome: Err(error) } => Some(error.clone()),
        _ => None,
    });
    let error = error.expect("an error");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.detail().contains("s:1 within 400ms") && error.detail().contains("cut"), "{error}");
}

#[test]
fn the_server_learns_how_long_the_caller_still_waits() {
    let mut world = World::new(options(1));
    world.core.handle_call(world.now, 1, get("a"), Some(3 * SECOND));
    world.sleep(SECOND);
    let link = world.accept();
    world.welcome(link, None);
    let (_, context, _) = world.request(link);
    assert_eq!(context.deadline_ms, Some(2_000));
}

#[test]
fn a_call_taken_back_is_taken_back_at_the_server_and_never_answered() {
    let (mut world, link) = World::with_session(options(1));
    world.put(2, "a");
    let (number, _, _) = world.request(link);
    world.core.handle_cancel(world.now, 2);
    world.pump();
    assert_eq!(world.said(link), [Said::CancelRequest(number)]);
    world.reply_put(link, number, 2);
    assert!(!world.signals.iter().any(|signal| matches!(signal, Signal::Answered { .. })));
    // Its number is settled: the session may forget it.
    world.put(3, "a");
    let (_, context, _) = world.request(link);
    assert_eq!(context.retry.map(|token| token.acknowledged), Some(SequenceNumber(2)));
}

#[test]
fn what_a_session_remembers_is_never_outrun() {
    let (mut world, link) = World::with_session(options(1));
    (2..2_000).for_each(|id| world.put(id, "a"));
    let sent = world.requests(link);
    assert_eq!(sent.len(), 1_000);
    // The second is answered, the first is not: the window does not move.
    world.reply_put(link, sent[1].0, 3);
    let requests = world.requests(link);
    assert!(requests.is_empty(), "{} more were sent", requests.len());
    world.reply_put(link, sent[0].0, 2);
    assert_eq!(world.requests(link).len(), 2);
}

#[test]
fn too_many_waiting_calls_are_refused_and_not_kept() {
    let mut world = World::new(Options { waiting_max: 10, ..options(1) });
    (1..=11).for_each(|id| world.put(id, "a"));
    assert_eq!(answered(&mut world), (11, Err((ErrorCode::ServerBusy, Applied::No))));
}

#[test]
fn a_leader_elsewhere_is_gone_to_and_the_call_goes_along() {
    let (mut world, link) = World::with_session(options(1));
    world.put(2, "a");
    let (number, context, _) = world.request(link);
    let leader = LeaderHint { node: NodeId(2), address: "leader:9".to_owned() };
    world.refuse(link, number, &Refusal::new(ErrorCode::NotLeader, "not here").led_by(Some(leader)));
    let dialed: Vec<String> = world.dialed.iter().map(|(_, endpoint)| endpoint.to_string()).collect();
    assert_eq!(dialed, ["leader:9"]);
    assert_eq!(world.core.state(), SessionState::Connected, "make before break");
    let (new, _) = world.accept_again();
    world.said(link);
    world.welcome(new, resumed());
    assert!(world.hung_up.contains(&(link, CloseCode::Moved)));
    world.sleep(SECOND);
    let requests = world.requests(new);
    let again = requests.iter().find(|(_, _, request)| matches!(request, Request::Put(_))).expect("the put");
    assert_eq!(again.1.retry, context.retry);
}

#[test]
fn a_server_that_goes_away_answers_what_it_has_while_another_is_found() {
    let (mut world, link) = World::connected(options(2));
    let add = ClientAdd { name: "x".to_owned(), role: Role::Client, valid_ms: 1 };
    world.core.handle_call(world.now, 1, add.into(), None);
    world.pump();
    let (number, _, _) = world.request(link);
    world.say(link, 0, &GoAway { retry_after_ms: 1_000, reason: "restart".to_owned() });
    let (new, _) = world.accept_again();
    world.welcome(new, None);
    assert!(world.hung_up.iter().all(|(hung_up, _)| *hung_up != link), "it still has a request");
    world.refuse(link, number, &Refusal::new(ErrorCode::AlreadyExists, "x"));
    assert_eq!(answered(&mut world), (1, Err((ErrorCode::AlreadyExists, Applied::No))));
    assert!(world.hung_up.contains(&(link, CloseCode::Moved)));
}

#[test]
fn a_silent_server_is_noticed_after_three_beats_and_replaced_before_it_is_left() {
    let (mut world, link) = World::connected(options(2));
    world.sleep(2_900 * MS);
    assert_eq!(world.core.state(), SessionState::Connected);
    world.sleep(200 * MS);
    assert_eq!(world.core.state(), SessionState::Suspended);
    assert_eq!(world.dialed.len(), 1);
    assert!(world.hung_up.is_empty());
    // It comes back before another is found: nothing was lost.
    world.acknowledge(link, 1);
    assert_eq!(world.core.state(), SessionState::Connected);
    world.sleep(3_100 * MS);
    let (new, _) = world.accept_again();
    world.welcome(new, None);
    assert_eq!(world.core.state(), SessionState::Connected);
    assert!(world.hung_up.contains(&(link, CloseCode::Moved)));
}

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
                Said::Request(number, _, Request::LeaseInfo(_)) => {
                    asked += 1;
                    let status = hither_protocol::message::LeaseStatus {
                        lease: LeaseId(9),
                        ttl_ms: 2_000,
                        remaining_ms: None,
                        kind: hither_protocol::message::LeaseKind::Bound,
                        state: hither_protocol::LeaseState::Alive,
                        epoch: 1,
                        session: None,
                        keys: 0,
                        owner: String::new(),
                        granted_at: hither_protocol::UnixMillis(0),
                    };
                    let reply = Reply::LeaseInfo(LeaseInfoReply { lease: status, keys: vec![] });
                    world.reply(link, number, 2, &reply);
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
                Said::Request(number, _, _) => {
                    world.refuse(link, number, &Refusal::new(ErrorCode::LeaseNotFound, "gone"));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(world.signals.iter().any(|signal| matches!(signal, Signal::LeaseLost { lease: LeaseId(9) })));
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
    world.say(link, 0, &KeepAliveReply { number: 1, session_alive: Some(false) });
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

#[test]
fn large_requests_go_on_streams_of_their_own() {
    let (mut world, link) = World::with_session(options(1));
    let value = vec![b'x'; 70 * 1024];
    let put = hither_protocol::message::Put { key: "a".into(), value: value.into(), lease: None, previous: false };
    world.core.handle_call(world.now, 2, put.into(), None);
    world.pump();
    assert!(world.requests(link).is_empty());
    let exchanged = world.others.iter().any(|action| matches!(action, hither_client_core::Action::Exchange { .. }));
    assert!(exchanged);
    world.reply_put(link, 2, 2);
    assert_eq!(answered(&mut world), (2, Ok(2)));
}

#[test]
fn a_reply_in_several_frames_is_one_answer() {
    let (mut world, link) = World::connected(options(1));
    let range = Range {
        range: KeyRange::All,
        limit: 0,
        reverse: false,
        projection: hither_protocol::message::Projection::Entries,
        consistency: Consistency::default(),
    };
    world.core.handle_call(world.now, 1, range.into(), None);
    world.pump();
    let (number, _, _) = world.request(link);
    let page = |key, count| Reply::Range(RangeReply { entries: vec![support::entry(key, 1)], count, more: false });
    let stamp = hither_protocol::message::Stamp::default();
    for (reply, more) in [(page("a", 0), true), (page("b", 0), true), (page("c", 3), false)] {
        let mut out = bytes::BytesMut::new();
        reply.encode(&mut out, hither_protocol::RequestNumber(number), &stamp, more);
        world.deliver(link, &out);
    }
    let Some(Signal::Answered { outcome: Ok((_, Reply::Range(reply))), .. }) = world.signal() else { panic!() };
    let keys: Vec<String> = reply.entries.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!((keys.join(""), reply.count), ("abc".to_owned(), 3));
}

#[test]
fn closing_says_goodbye_and_waits_no_longer_than_it_must() {
    let (mut world, link) = World::with_session(options(1));
    world.core.handle_call(world.now, 2, get("a"), None);
    world.put(3, "a");
    world.said(link);
    world.core.handle_close(world.now);
    world.pump();
    assert_eq!(world.said(link), [Said::Goodbye]);
    assert_eq!(answered(&mut world), (2, Err((ErrorCode::Closed, Applied::No))));
    assert_eq!(answered(&mut world), (3, Err((ErrorCode::Closed, Applied::Unknown))));
    assert_eq!(world.core.state(), SessionState::Closed);
    assert!(!world.finished);
    world.sleep(200 * MS);
    assert!(world.finished);
    assert_eq!(world.hung_up, [(link, CloseCode::Goodbye)]);
    // Whoever calls now learns at once.
    world.core.handle_call(world.now, 4, get("a"), None);
    world.pump();
    assert_eq!(answered(&mut world), (4, Err((ErrorCode::Closed, Applied::No))));
}

#[test]
fn closing_is_over_when_the_server_has_closed() {
    let (mut world, link) = World::connected(options(1));
    world.core.handle_close(world.now);
    world.pump();
    world.lose(link);
    assert!(world.finished);
}

#[test]
fn a_reply_that_cannot_be_read_leaves_the_write_in_doubt() {
    let (mut world, link) = World::with_session(options(1));
    world.put(2, "a");
    let (number, _, _) = world.request(link);
    let wrong = Reply::Get(GetReply { entry: None });
    let mut out = bytes::BytesMut::new();
    wrong.encode(&mut out, hither_protocol::RequestNumber(number), &Default::default(), false);
    out.truncate(17);
    out[0] = 1;
    world.deliver(link, &out);
    assert_eq!(answered(&mut world), (2, Err((ErrorCode::InvalidFrame, Applied::Unknown))));
}
