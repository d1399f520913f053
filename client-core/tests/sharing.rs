//! What a client promises about watches that share a stream, with the server played by hand on one clock.

mod support;

use hither_client_core::{Action, Options, UpdateKind};
use hither_protocol::Revision;
use hither_protocol::message::Start;
use support::watching::watching;
use support::{Said, World, entry, options, put_event};

#[test]
fn identical_watches_share_one_stream_and_each_begins_with_the_whole_state() {
    let (mut world, link, wire) = watching(options(1));
    world.batch(link, wire, 10, 12, vec![put_event("c", 12)]);
    world.watch(2, Start::Snapshot);
    assert!(world.said(link).is_empty(), "no second stream");
    let updates = world.updates(2);
    assert_eq!((updates[0].kind, updates[0].revision.0), (UpdateKind::Snapshot, 12));
    let keys: Vec<u64> = updates[0].events.iter().map(|event| event.revision().0).collect();
    assert_eq!(keys, [3, 7, 12]);
    world.batch(link, wire, 12, 13, vec![put_event("d", 13)]);
    assert_eq!((world.told(1), world.told(2)), (vec![12, 13], vec![13]));
    assert_eq!((world.core.metrics().watches, world.core.metrics().watch_streams), (2, 1));
    // The stream is closed with the last of them.
    world.core.handle_unwatch(world.now, 1);
    assert!(world.said(link).is_empty());
    world.core.handle_unwatch(world.now, 2);
    assert_eq!(world.said(link), [Said::CancelWatch(wire)]);
}

#[test]
fn a_watch_that_joins_before_the_first_snapshot_gets_that_one() {
    let (mut world, link) = World::connected(options(1));
    world.watch(1, Start::Snapshot);
    let wire = world.subscription(link).watch.0;
    world.create(link, wire, 10);
    world.watch(2, Start::Snapshot);
    world.snapshot(link, wire, 10, vec![entry("a", 3)]);
    assert_eq!((world.told(1), world.told(2)), (vec![3], vec![3]));
}

#[test]
fn a_watch_does_not_join_one_whose_snapshot_may_be_older_than_its_callers_write() {
    let (mut world, link) = World::connected(options(1));
    world.put(8, "y");
    world.open_session(link, 1);
    world.watch(1, Start::Snapshot);
    let said = world.said(link);
    let wire = said.iter().find_map(|said| if let Said::Subscribe(it) = said { Some(it.watch.0) } else { None });
    let number = said.iter().find_map(|said| if let Said::Request(number, ..) = said { Some(*number) } else { None });
    // Its snapshot is as of revision 10, and on its way, when the write is answered.
    let (wire, number) = (wire.expect("a subscription"), number.expect("the put"));
    world.create(link, wire, 10);
    world.reply_put(link, number, 11);
    world.watch(2, Start::Snapshot);
    let second = world.subscription(link);
    assert_eq!(second.start, Start::Snapshot);
    world.snapshot(link, wire, 10, vec![entry("a", 3)]);
    world.create(link, second.watch.0, 11);
    world.snapshot(link, second.watch.0, 11, vec![entry("a", 3), entry("y", 11)]);
    assert_eq!((world.told(1), world.told(2)), (vec![3], vec![3, 11]));
    // The next one joins the second.
    world.watch(3, Start::Snapshot);
    assert_eq!(world.told(3), [3, 11]);
}

#[test]
fn a_watch_joins_one_that_is_yet_to_be_asked_for_whatever_was_answered_before() {
    let (mut world, link) = World::with_session(options(1));
    world.lose(link);
    world.watch(1, Start::Snapshot);
    world.watch(2, Start::Snapshot);
    let (link, _) = world.accept_again();
    world.welcome(link, support::resumed());
    world.subscription(link);
}

#[test]
fn a_watch_never_begins_before_what_its_caller_has_seen() {
    let (mut world, link, _) = watching(options(1));
    world.put(9, "z");
    world.open_session(link, 1);
    let (number, _, _) = world.request(link);
    world.reply_put(link, number, 11);
    world.watch(2, Start::Snapshot);
    assert_eq!(world.subscription(link).start, Start::Snapshot, "the shared one is not there yet");
}

#[test]
fn sharing_can_be_switched_off_and_differing_watches_do_not_share() {
    let (mut world, link, _) = watching(Options { share_watches: false, ..options(1) });
    world.watch(2, Start::Snapshot);
    world.subscription(link);

    let (mut world, link, _) = watching(options(1));
    let mut other = support::spec(Start::Snapshot);
    other.previous = true;
    world.core.handle_watch(world.now, 2, other, None);
    world.pump();
    world.subscription(link);
}

#[test]
fn a_watch_that_cannot_keep_up_leaves_the_others_and_goes_on_alone() {
    let (mut world, link, wire) = watching(options(1));
    world.watch(2, Start::Snapshot);
    world.batch(link, wire, 10, 12, vec![put_event("c", 12)]);
    assert_eq!((world.told(1), world.told(2).len()), (vec![12], 4 - 1));
    world.core.handle_full(world.now, 2);
    world.batch(link, wire, 12, 13, vec![put_event("c", 13)]);
    assert_eq!((world.told(1), world.told(2)), (vec![13], vec![]));
    assert!(world.said(link).is_empty());
    world.core.handle_drained(world.now, 2);
    world.pump();
    let subscribe = world.subscription(link);
    assert_eq!(subscribe.start, Start::After(Revision(12)));
    world.create(link, subscribe.watch.0, 12);
    world.batch(link, subscribe.watch.0, 12, 13, vec![put_event("c", 13)]);
    assert_eq!(world.told(2), [13]);
    // A third one still joins the shared stream.
    world.watch(3, Start::Snapshot);
    assert!(world.said(link).is_empty());
}

#[test]
fn a_lone_watch_that_cannot_keep_up_is_not_read_and_nobody_joins_it() {
    let (mut world, link, wire) = watching(options(1));
    world.others.clear();
    world.core.handle_full(world.now, 1);
    world.pump();
    assert_eq!(world.others, [Action::Pause { link, watch: wire }]);
    world.watch(2, Start::Snapshot);
    world.subscription(link);
    world.others.clear();
    world.core.handle_drained(world.now, 1);
    world.pump();
    assert_eq!(world.others, [Action::Resume { link, watch: wire }]);
    // Cut off while it is full, it is opened again only when there is room.
    world.core.handle_full(world.now, 1);
    world.lose(link);
    let (link, _) = world.accept_again();
    world.welcome(link, None);
    assert_eq!(world.subscription(link).start, Start::Snapshot, "only the other one");
    world.core.handle_drained(world.now, 1);
    world.pump();
    assert_eq!(world.subscription(link).start, Start::After(Revision(10)));
}
