//! What a client promises about watches, with the server played by hand on one clock.

mod support;

use std::time::Duration;

use hither_client_core::{Action, Note, Options, Signal, UpdateKind};
use hither_protocol::error::Refusal;
use hither_protocol::message::{
    Beat, CancelWatch, Created, End, EndReason, ResetPage, SnapshotPage, Start, SubscribeRefused,
};
use hither_protocol::{ErrorCode, Event, Lineage, Revision, WatchId};
use support::watching::watching;
use support::{LINEAGE, Said, World, entry, options, put_event};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The watch is opened again on a new connection; returns from where.
fn resume(world: &mut World) -> (hither_client_core::LinkId, u64, Start, Option<Lineage>) {
    let (link, _) = world.accept_again();
    world.welcome(link, None);
    let subscribe = world.subscription(link);
    (link, subscribe.watch.0, subscribe.start, subscribe.lineage)
}

#[test]
fn the_state_comes_first_and_then_every_change_without_a_gap() {
    let (mut world, link, wire) = watching(options(1));
    world.batch(link, wire, 10, 12, vec![put_event("a", 11), put_event("c", 12)]);
    assert_eq!(world.told(1), [11, 12]);
}

#[test]
fn a_snapshot_is_told_whole_and_also_when_it_is_empty() {
    let (mut world, link) = World::connected(options(1));
    world.watch(1, Start::Snapshot);
    let wire = world.subscription(link).watch.0;
    world.create(link, wire, 10);
    world.say_more(link, wire, &SnapshotPage { revision: Revision(10), entries: vec![] }, true);
    assert!(world.updates(1).is_empty());
    world.snapshot(link, wire, 10, vec![]);
    assert_eq!(world.updates(1).len(), 1);
}

#[test]
fn a_watch_resumes_where_it_left_off_whatever_connection_carries_it() {
    let (mut world, link, wire) = watching(options(1));
    world.batch(link, wire, 10, 12, vec![put_event("a", 11)]);
    assert_eq!(world.told(1), [11]);
    for round in 0..3 {
        let link = world.core.metrics().connects;
        world.lose(hither_client_core::LinkId(link));
        let (link, wire, start, lineage) = resume(&mut world);
        let position = 12 + round * 2;
        assert_eq!((start, lineage), (Start::After(Revision(position)), Some(LINEAGE)));
        world.create(link, wire, position);
        // The server repeats what was told before: it is not told again.
        world.batch(
            link,
            wire,
            position - 1,
            position + 2,
            vec![put_event("a", position), put_event("b", position + 1)],
        );
        assert_eq!(world.told(1), [position + 1]);
        world.dialed.clear();
    }
    let metrics = world.core.metrics();
    assert_eq!((metrics.watch_resumes, metrics.reconnects, metrics.watch_duplicates), (3, 3, 3));
    let resumed: Vec<u64> = world
        .notes
        .iter()
        .filter_map(|note| if let Note::Greeted { resumed, again: true, .. } = note { Some(*resumed) } else { None })
        .collect();
    assert_eq!(resumed, [1, 1, 1], "one line in the log for each");
}

#[test]
fn what_a_cut_connection_left_half_told_is_fetched_again() {
    let (mut world, link, wire) = watching(options(1));
    let half = hither_protocol::message::Batch {
        from: Revision(10),
        to: Revision(11),
        folded: false,
        events: vec![put_event("a", 11)],
    };
    world.say_more(link, wire, &half, true);
    world.lose(link);
    assert!(world.updates(1).is_empty());
    let (link, wire, start, _) = resume(&mut world);
    assert_eq!(start, Start::After(Revision(10)));
    world.create(link, wire, 10);
    world.batch(link, wire, 10, 11, vec![put_event("a", 11), put_event("b", 11)]);
    assert_eq!(world.told(1), [11, 11]);
}

#[test]
fn a_gap_is_never_ignored() {
    let (mut world, link, wire) = watching(options(1));
    world.batch(link, wire, 12, 14, vec![put_event("a", 13)]);
    assert!(world.updates(1).is_empty());
    assert_eq!(world.core.metrics().watch_gaps, 1);
    let said = world.said(link);
    assert!(said.contains(&Said::CancelWatch(wire)));
    let again = said.iter().find_map(|said| if let Said::Subscribe(subscribe) = said { Some(subscribe) } else { None });
    let again = again.expect("a subscription");
    assert_eq!((again.start, again.lineage), (Start::After(Revision(10)), Some(LINEAGE)));
    assert_ne!(again.watch.0, wire, "an id is used once");
    // What still comes on the old stream is nobody's.
    world.batch(link, wire, 10, 11, vec![put_event("z", 11)]);
    world.create(link, again.watch.0, 10);
    world.batch(link, again.watch.0, 10, 14, vec![put_event("a", 11), put_event("a", 13)]);
    assert_eq!(world.told(1), [11, 13]);
}

#[test]
fn a_server_that_leaves_a_gap_every_time_is_asked_ever_less_often() {
    let (mut world, link, mut wire) = watching(options(1));
    let mut asked = 0;
    for _ in 0..300 {
        world.batch(link, wire, 12, 14, vec![put_event("a", 13)]);
        for said in world.said(link) {
            if let Said::Subscribe(subscribe) = said {
                asked += 1;
                wire = subscribe.watch.0;
                world.create(link, wire, 10);
            }
        }
        world.sleep(100 * MS);
        world.acknowledge(link, 0);
    }
    assert!(asked < 60, "asked {asked} times in 30 s");
}

#[test]
fn history_that_is_gone_is_told_as_the_exact_difference() {
    let (mut world, link, _) = watching(options(1));
    world.lose(link);
    let (link, wire, ..) = resume(&mut world);
    world.create(link, wire, 10);
    let page = |unchanged: &[&str], changed| ResetPage {
        revision: Revision(50),
        base: Revision(10),
        lineage: LINEAGE,
        unchanged: unchanged.iter().map(|key| (*key).into()).collect(),
        changed,
    };
    world.say_more(link, wire, &page(&["b"], vec![]), true);
    assert!(world.updates(1).is_empty());
    world.say(link, wire, &page(&[], vec![entry("c", 40)]));
    let updates = world.updates(1);
    assert_eq!((updates.len(), updates[0].kind, updates[0].revision.0), (1, UpdateKind::Reset, 50));
    let told: Vec<String> = updates[0].events.iter().filter_map(Event::key).map(ToString::to_string).collect();
    assert_eq!(told, ["c", "a"], "c is new, a is gone, b is as it was");
    assert!(matches!(&updates[0].events[1], Event::Delete { revision: Revision(50), .. }));
    world.batch(link, wire, 50, 51, vec![put_event("b", 51)]);
    assert_eq!(world.told(1), [51]);
    assert_eq!(world.core.metrics().watch_resets, 1);
}

#[test]
fn a_watch_that_forgot_what_it_told_tells_a_new_snapshot_instead() {
    let (mut world, link, _) = watching(Options { watch_keys_max: 1, ..options(1) });
    world.lose(link);
    let (link, wire, ..) = resume(&mut world);
    world.create(link, wire, 10);
    let page = ResetPage {
        revision: Revision(50),
        base: Revision(10),
        lineage: LINEAGE,
        unchanged: vec!["a".into()],
        changed: vec![],
    };
    world.say(link, wire, &page);
    let subscribe = world.subscription(link);
    assert_eq!(subscribe.start, Start::Snapshot);
    world.create(link, subscribe.watch.0, 51);
    world.snapshot(link, subscribe.watch.0, 51, vec![entry("a", 3)]);
    let updates = world.updates(1);
    assert_eq!((updates.len(), updates[0].kind), (1, UpdateKind::Snapshot));
}

#[test]
fn a_beat_moves_the_position_only_once_all_that_it_counts_has_come() {
    let (mut world, link, wire) = watching(options(1));
    let beat = |revision, sent: &[(u64, u64)], behind: &[u64]| Beat {
        revision: Revision(revision),
        sent: sent.iter().map(|(watch, frames)| (WatchId(*watch), *frames)).collect(),
        behind: behind.iter().map(|watch| WatchId(*watch)).collect(),
        age_ms: 0,
        term: 1,
    };
    // Of three frames, the snapshot and one more have come: what the third holds is not skipped.
    hear(&mut world, link);
    world.say(link, 0, &beat(20, &[(wire, 3)], &[]));
    world.batch(link, wire, 10, 15, vec![put_event("a", 15)]);
    assert_eq!(world.told(1), [15]);
    world.lose(link);
    let (link, wire, start, _) = resume(&mut world);
    assert_eq!(start, Start::After(Revision(15)));
    // A beat that was on its way before the subscription arrived knows nothing of it.
    world.create(link, wire, 15);
    world.say(link, 0, &beat(90, &[], &[]));
    world.lose(link);
    let (link, wire, start, _) = resume(&mut world);
    assert_eq!(start, Start::After(Revision(15)));
    // A watch that is behind is not spoken of.
    world.create(link, wire, 15);
    hear(&mut world, link);
    world.say(link, 0, &beat(30, &[], &[wire]));
    world.lose(link);
    let (link, wire, start, _) = resume(&mut world);
    assert_eq!(start, Start::After(Revision(15)));
    // With the frame that it counts, it holds.
    world.create(link, wire, 15);
    hear(&mut world, link);
    world.say(link, 0, &beat(30, &[(wire, 1)], &[]));
    world.batch(link, wire, 15, 16, vec![put_event("a", 16)]);
    world.lose(link);
    let (.., start, _) = resume(&mut world);
    assert_eq!(start, Start::After(Revision(30)));
}

/// A keep-alive that was written after everything so far is acknowledged.
fn hear(world: &mut World, link: hither_client_core::LinkId) {
    world.said(link);
    for _ in 0..40 {
        world.sleep(100 * MS);
        world.acknowledge(link, 0);
    }
    let number = world.said(link).into_iter().rev().find_map(|said| match said {
        Said::KeepAlive(number) => Some(number),
        _ => None,
    });
    world.acknowledge(link, number.expect("a keep-alive"));
}

#[test]
fn another_history_after_a_restore_is_told_as_a_reset() {
    let (mut world, link, _) = watching(options(1));
    world.lose(link);
    let (link, wire, ..) = resume(&mut world);
    let restored = Lineage { incarnation: 2, ..LINEAGE };
    world.say(link, wire, &Created { revision: Revision(10), lineage: restored });
    let page = ResetPage {
        revision: Revision(1_000_000_005),
        base: Revision::ZERO,
        lineage: restored,
        unchanged: vec![],
        changed: vec![entry("a", 3), entry("d", 1_000_000_004)],
    };
    world.say(link, wire, &page);
    let updates = world.updates(1);
    let told: Vec<String> = updates[0].events.iter().filter_map(Event::key).map(ToString::to_string).collect();
    assert_eq!(told, ["d", "b"], "a is as it was");
    world.lose(link);
    let (.., start, lineage) = resume(&mut world);
    assert_eq!((start, lineage), (Start::After(Revision(1_000_000_005)), Some(restored)));
}

#[test]
fn streams_are_allowed_before_they_are_asked_for() {
    let (mut world, link) = World::connected(options(1));
    world.watch(1, Start::Now);
    let allowed = world
        .others
        .iter()
        .any(|action| matches!(action, Action::AllowStreams { link: on, count } if *on == link && *count >= 65));
    assert!(allowed);
}

#[test]
fn a_refused_watch_says_why_and_one_that_was_refused_for_now_is_asked_for_again() {
    let (mut world, link) = World::connected(options(1));
    let refuse = |world: &mut World, code| {
        let watch = world.subscription(link).watch;
        world.say(link, watch.0, &SubscribeRefused { watch, refusal: Refusal::new(code, "no") });
    };
    world.watch(1, Start::Now);
    refuse(&mut world, ErrorCode::PermissionDenied);
    let Some(Signal::Opened { id: 1, outcome: Err(error) }) = world.signal() else { panic!("no outcome") };
    assert_eq!(error.code(), ErrorCode::PermissionDenied);
    world.watch(2, Start::Now);
    refuse(&mut world, ErrorCode::NotReady);
    world.sleep(SECOND);
    refuse(&mut world, ErrorCode::NotReady);
    for _ in 0..50 {
        world.sleep(100 * MS);
        world.acknowledge(link, 0);
    }
    let Some(Signal::Opened { id: 2, outcome: Err(error) }) = world.signal() else { panic!("no outcome") };
    assert_eq!(error.code(), ErrorCode::NotReady, "at the deadline, the last reason is told");
}

#[test]
fn a_watch_without_a_server_fails_at_its_deadline_and_an_open_one_waits_for_ever() {
    let (mut world, link, _) = watching(options(1));
    world.lose(link);
    world.core.handle_watch(world.now, 2, support::spec(Start::Now), Some(2 * SECOND));
    world.signals.clear();
    world.sleep(2 * SECOND);
    let Some(Signal::Opened { id: 2, outcome: Err(error) }) = world.signal() else { panic!("no outcome") };
    assert_eq!(error.code(), ErrorCode::Unavailable);
    world.sleep(3_600 * SECOND);
    assert!(!world.signals.iter().any(|signal| matches!(signal, Signal::Ended { .. })));
    let (_, _, start, _) = resume(&mut world);
    assert_eq!(start, Start::After(Revision(10)));
}

#[test]
fn the_end_of_a_watch_is_told_only_if_the_server_will_not_go_on() {
    let (mut world, link, wire) = watching(options(1));
    world.say(link, wire, &End { reason: EndReason::ShuttingDown });
    world.core.handle_stream_end(world.now, link, wire);
    assert!(world.signals.is_empty());
    let (link, wire, start, _) = resume(&mut world);
    assert_eq!(start, Start::After(Revision(10)));
    world.create(link, wire, 10);
    // A stream that ends without a word is opened again.
    world.core.handle_stream_end(world.now, link, wire);
    world.sleep(SECOND);
    let wire = world.subscription(link).watch.0;
    world.create(link, wire, 10);
    world.say(link, wire, &End { reason: EndReason::Forbidden });
    let ended = world.signals.iter().find_map(|signal| match signal {
        Signal::Ended { id: 1, error: Some(error) } => Some(error.code()),
        _ => None,
    });
    assert_eq!(ended, Some(ErrorCode::PermissionDenied));
}

#[test]
fn a_closed_watch_tells_nothing_more() {
    let (mut world, link, wire) = watching(options(1));
    world.core.handle_unwatch(world.now, 1);
    world.batch(link, wire, 10, 12, vec![put_event("c", 12)]);
    assert!(world.updates(1).is_empty());
    let cancel = support::encoded(0, &CancelWatch { watch: WatchId(wire) });
    assert!(!cancel.is_empty());
    world.lose(link);
    let (link, _) = world.accept_again();
    world.welcome(link, None);
    assert!(!world.said(link).iter().any(|said| matches!(said, Said::Subscribe(_))));
}

#[test]
fn closing_the_client_ends_its_watches_without_an_error() {
    let (mut world, _, _) = watching(options(1));
    world.core.handle_close(world.now);
    world.pump();
    assert!(world.signals.iter().any(|signal| matches!(signal, Signal::Ended { id: 1, error: None })));
}
