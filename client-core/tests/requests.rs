//! What a client promises about requests, with the server played by hand on one clock.

mod support;

use std::time::Duration;

use hither_client_core::{Options, SessionState, Signal};
use hither_protocol::error::Refusal;
use hither_protocol::message::{ClientAdd, Consistency, GetReply, Range, RangeReply, Reply, Role};
use hither_protocol::{Applied, ErrorCode, KeyRange, SequenceNumber};
use support::{Said, World, answered, get, options, resumed};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

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
fn calls_that_come_together_do_not_count_as_waiting_while_they_can_be_sent() {
    let (mut world, link) = World::connected(Options { waiting_max: 2, ..options(1) });
    (1..=11).for_each(|id| world.core.take_call(world.now, id, get("a"), None));
    world.core.handle_timeout(world.now);
    world.pump();
    assert_eq!(world.requests(link).len(), 11);
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

#[test]
fn a_session_that_is_refused_for_now_ends_the_writes_that_wait_for_it_and_is_not_asked_for_again_at_once() {
    for code in [ErrorCode::NoSpace, ErrorCode::QuotaExceeded] {
        let (mut world, link) = World::connected(options(1));
        world.put(1, "a");
        let (number, _, _) = world.request(link);
        world.refuse(link, number, &Refusal::new(code, "full"));
        assert_eq!(answered(&mut world), (1, Err((code, Applied::No))));
        assert!(world.requests(link).is_empty(), "nobody waits for a session");
        // The next write asks anew.
        world.put(2, "a");
        world.open_session(link, 77);
        let (number, _, _) = world.request(link);
        world.reply_put(link, number, 2);
        assert_eq!(answered(&mut world), (2, Ok(2)));
    }
}

#[test]
fn a_write_that_waits_for_a_session_in_vain_says_what_the_session_failed_at() {
    let detail = |world: &mut World| {
        while let Some(signal) = world.signal() {
            if let Signal::Answered { outcome: Err(error), .. } = signal {
                assert_eq!((error.code(), error.applied()), (ErrorCode::Timeout, Applied::No));
                return error.detail().to_owned();
            }
        }
        panic!("nothing was answered");
    };
    let put = |world: &mut World, id| {
        let put = hither_protocol::message::Put { key: "a".into(), value: "v".into(), lease: None, previous: false };
        world.core.handle_call(world.now, id, put.into(), Some(300 * MS));
        world.pump();
    };
    // It was refused each time.
    let (mut world, link) = World::connected(Options { request_timeout: 200 * MS, ..options(1) });
    put(&mut world, 1);
    for _ in 0..30 {
        for (number, _, _) in world.requests(link) {
            world.refuse(link, number, &Refusal::new(ErrorCode::ServerBusy, "no hands free"));
        }
        world.sleep(10 * MS);
    }
    let why = detail(&mut world);
    assert!(why.contains("session") && why.contains("no hands free"), "{why}");
    // Nobody said anything.
    let (mut world, _) = World::connected(options(1));
    put(&mut world, 1);
    world.sleep(300 * MS);
    let why = detail(&mut world);
    assert!(why.contains("session") && why.contains("s:1 did not answer"), "{why}");
}

#[test]
fn calls_that_ended_in_an_outage_are_not_counted_among_those_that_wait() {
    let refused = |world: &World| {
        let busy = |signal: &&Signal| matches!(signal, Signal::Answered { outcome: Err(error), .. } if error.code() == ErrorCode::ServerBusy);
        world.signals.iter().filter(busy).count()
    };
    // Their deadlines passed.
    let mut world = World::new(Options { waiting_max: 10, request_timeout: SECOND, ..options(1) });
    (1..=5).for_each(|id| world.put(id, "a"));
    (6..=10).for_each(|id| world.core.handle_call(world.now, id, get("a"), None));
    world.sleep(SECOND);
    (11..=20).for_each(|id| world.put(id, "a"));
    assert_eq!(refused(&world), 0);
    // They were taken back: all but one, which is not forgotten.
    (12..=20).for_each(|id| world.core.handle_cancel(world.now, id));
    (21..=29).for_each(|id| world.put(id, "a"));
    assert_eq!(refused(&world), 0);
    world.put(30, "a");
    assert_eq!(refused(&world), 1, "ten wait");
    let link = world.accept();
    world.welcome(link, None);
    world.open_session(link, 77);
    let sent: Vec<u64> = world.requests(link).iter().map(|(number, _, _)| *number).collect();
    assert_eq!(sent, [11].into_iter().chain(21..=29).collect::<Vec<u64>>());
}

#[test]
fn a_client_whose_queue_is_full_of_writes_still_opens_a_session_for_them() {
    let mut world = World::new(Options { waiting_max: 10, ..options(1) });
    (1..=10).for_each(|id| world.put(id, "a"));
    let link = world.accept();
    world.welcome(link, None);
    world.open_session(link, 77);
    assert_eq!(world.requests(link).len(), 10);
}
