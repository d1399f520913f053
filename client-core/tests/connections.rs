//! What a client promises about connections: dialed, greeted, left and closed, with the server played by hand on one clock.

mod support;

use std::time::Duration;

use hither_client_core::{Options, SessionState, Signal};
use hither_protocol::codec::check_version;
use hither_protocol::error::{CloseCode, LeaderHint, Refusal};
use hither_protocol::frame::{Flags, Header};
use hither_protocol::message::{ClientAdd, GoAway, Request, Role, Start, op};
use hither_protocol::{Applied, ErrorCode, NodeId};
use support::{Said, World, answered, get, options, resumed};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

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
fn a_server_of_another_version_is_believed_at_once_and_both_versions_are_named() {
    let mut world = World::new(options(1));
    let link = world.accept();
    let hello = Header { length: 0, op: op::HELLO, version: 1, flags: Flags::default(), id: 0 };
    let refusal = check_version(hello, 2).expect_err("what a server of the next version says");
    world.refuse(link, 0, &refusal);
    let Some(Signal::Connected(Err(error))) = world.signal() else { panic!("no outcome") };
    assert_eq!((error.code(), error.is_retryable()), (ErrorCode::UnsupportedVersion, false));
    assert!(error.detail().contains("version 1 ") && error.detail().contains("version 2 "), "{error}");
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
    let (mut world, link) = World::with_session(options(2));
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
    world.welcome(new, resumed());
    assert_eq!(world.core.state(), SessionState::Connected);
    assert!(world.hung_up.contains(&(link, CloseCode::Moved)));
}

#[test]
fn a_server_that_does_not_answer_is_asked_once_at_a_time_and_anew_after_five_seconds() {
    for servers in [1, 2, 3] {
        let mut world = World::new(Options { connect_timeout: 60 * SECOND, ..options(servers) });
        world.sleep(4_900 * MS);
        assert_eq!(world.dialed.len(), usize::from(servers));
        assert!(world.hung_up.is_empty(), "one of {servers} is asked beside itself");
        let (first, _) = world.dialed[0];
        world.sleep(2_000 * MS);
        assert!(world.hung_up.contains(&(first, CloseCode::Moved)));
        assert!(world.dialed.iter().any(|(link, _)| *link > first), "it is not asked anew");
        assert!(world.signal().is_none(), "a minute is not over");
    }
}

#[test]
fn a_server_that_refuses_is_asked_less_and_less_often_while_another_is_silent() {
    let mut world = World::new(Options { connect_timeout: 60 * SECOND, ..options(2) });
    let (_, refusing) = world.dialed[0].clone();
    let mut refused = 0;
    for _ in 0..480 {
        while let Some((link, _)) = world.dialed.iter().find(|(_, endpoint)| *endpoint == refusing).cloned() {
            world.dialed.retain(|(dialed, _)| *dialed != link);
            world.lose(link);
            refused += 1;
            assert!(refused < 30, "it is asked at once, again and again");
        }
        world.sleep(10 * MS);
    }
    assert!(refused > 3, "it is asked again");
}

#[test]
fn who_waits_for_nothing_lets_others_come_first_until_it_waits_for_something() {
    let redials = |seed: u64, is_asked: bool| {
        let mut world = World::seeded(options(1), seed);
        let link = world.accept();
        world.welcome(link, None);
        world.sleep(2 * SECOND);
        world.lose(link);
        if is_asked {
            world.core.handle_call(world.now, 1, get("a"), None);
        }
        world.sleep(100 * MS);
        !world.dialed.is_empty()
    };
    let early = |is_asked| (0..100).filter(|seed| redials(*seed, is_asked)).count();
    assert_eq!(early(false), 0, "others come first");
    assert_eq!(early(true), 100, "a call waits");
}

#[test]
fn who_waits_for_nothing_comes_back_within_the_longest_wait_and_not_all_at_once() {
    let redialed = (0..100).map(|seed| {
        let mut world = World::seeded(options(1), seed);
        let link = world.accept();
        world.welcome(link, None);
        world.lose(link);
        let lost = world.now;
        while world.dialed.is_empty() {
            world.sleep(100 * MS);
        }
        world.now.since(lost)
    });
    let redialed: Vec<Duration> = redialed.collect();
    assert!(redialed.iter().all(|wait| (SECOND..=10 * SECOND + 100 * MS).contains(wait)), "{redialed:?}");
    for second in 1..10 {
        let since = SECOND * second;
        let count = redialed.iter().filter(|wait| (since..since + SECOND).contains(wait)).count();
        assert!(count < 25, "{count} of a hundred in second {second}");
    }
}

#[test]
fn a_server_that_has_nothing_to_say_is_not_silent_until_it_owes_an_answer() {
    let (mut world, link) = World::connected(options(1));
    world.acknowledge(link, 1);
    for _ in 0..10 {
        world.sleep(2_900 * MS);
        for said in world.said(link) {
            let Said::KeepAlive(number) = said else { panic!("{said:?}") };
            world.acknowledge(link, number);
        }
        assert_eq!(world.core.state(), SessionState::Connected);
    }
    while !matches!(world.said(link)[..], [Said::KeepAlive(_)]) {
        world.sleep(100 * MS);
    }
    world.sleep(2_900 * MS);
    assert_eq!(world.core.state(), SessionState::Connected);
    world.sleep(200 * MS);
    assert_eq!(world.core.state(), SessionState::Suspended, "it was asked three beats ago");
}

#[test]
fn whoever_begins_to_wait_for_a_quiet_server_gives_it_three_beats_and_asks_once_in_a_beat() {
    for watches in [false, true] {
        let (mut world, link) = World::connected(options(1));
        world.acknowledge(link, 1);
        world.sleep(2_500 * MS);
        if watches {
            world.watch(1, Start::Now);
        } else {
            world.core.handle_call(world.now, 1, get("a"), None);
            world.pump();
        }
        world.sleep(2_900 * MS);
        assert_eq!(world.core.state(), SessionState::Connected, "it was asked less than three beats ago");
        world.sleep(200 * MS);
        assert_eq!(world.core.state(), SessionState::Suspended);
    }
    let (mut world, link) = World::connected(options(1));
    world.core.handle_call(world.now, 1, get("a"), Some(60 * SECOND));
    let mut asked = 0;
    for _ in 0..100 {
        world.sleep(100 * MS);
        for said in world.said(link) {
            if let Said::KeepAlive(number) = said {
                asked += 1;
                world.acknowledge(link, number);
            }
        }
        assert_eq!(world.core.state(), SessionState::Connected, "an answer may take longer than three beats");
    }
    assert!((9..=12).contains(&asked), "{asked} keep-alives in ten seconds");
}

#[test]
fn who_is_told_to_come_later_comes_later_and_soon_if_something_depends_on_it() {
    for seed in 0..20 {
        let mut world = World::seeded(Options { connect_timeout: 60 * SECOND, ..options(1) }, seed);
        let mut refused = Vec::new();
        for _ in 0..8 {
            while world.dialed.is_empty() {
                world.sleep(10 * MS);
            }
            let (link, endpoint) = world.dialed.pop_front().expect("an attempt");
            refused.push(world.now);
            let error = hither_client_core::Error::new(ErrorCode::ServerBusy, format!("{endpoint} has others"));
            world.core.handle_lost(world.now, link, error);
            world.pump();
        }
        let waits: Vec<Duration> = refused.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        assert!(waits[0] >= 250 * MS && waits[0] <= 510 * MS, "{waits:?}");
        assert!(waits[3..].iter().all(|wait| *wait >= SECOND && *wait <= 2_010 * MS), "{waits:?}");
        assert!(world.signal().is_none(), "a minute is not over");
    }
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
