//! Snapshots and resets of ranges that take many pages, and what bounds them: memory that is short, watches that do not
//! go on, a state that is replaced, revisions larger than a frame.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::codec::decode_body;
use hither_protocol::frame::Flags;
use hither_protocol::message::{
    Batch, Created, Delete, EndReason, Filter, Mode, Put, ResetPage, SnapshotPage, Start, op,
};
use hither_protocol::{
    ClusterId, Entry, ErrorCode, Event, Key, KeyRange, Lineage, Moment, Namespace, Previous, Revision, UnixMillis,
    WatchId,
};
use hither_state::device::{MemoryState, RowChange, Space, StateDevice};
use hither_state::watch::{
    ChangeLog, ConnectionId, Frames, HubConfig, SubscriberId, WatchFrame, WatchHub, WatchSpec, history_rows,
};
use hither_state::{Action, Command, Position, State, StateLimits};

const CONNECTION: ConnectionId = ConnectionId(1);
/// A few pages of the state.
const KEYS: u64 = 2_500;

struct World {
    state: State,
    hub: WatchHub,
    disk: MemoryState,
    index: u64,
    now: Moment,
}

impl World {
    fn new(config: HubConfig) -> Self {
        let state = State::new(StateLimits::default());
        let hub = WatchHub::new(config, &state, ChangeLog::new(Revision::ZERO), Moment(0));
        let mut world = Self { state, hub, disk: MemoryState::default(), index: 0, now: Moment(0) };
        world.apply(Action::ClusterInit { cluster: ClusterId([1; 16]), incarnation: 1 });
        world
    }

    fn filled(config: HubConfig) -> Self {
        let mut world = Self::new(config);
        (0..KEYS).for_each(|number| world.put(number, 1));
        world
    }

    fn apply(&mut self, action: Action) {
        self.index += 1;
        let (namespace, at) = (Namespace::default(), UnixMillis(self.index));
        let command = Command { namespace, principal: "tester".into(), retry: None, at, action };
        let delta = self.state.apply(Position { index: self.index, offset: 0 }, &command).delta;
        self.hub.publish(&delta, self.now);
        let mut rows = Vec::new();
        history_rows(&delta, &mut rows);
        self.disk.write(&rows, b"").expect("memory does not fail");
    }

    fn put(&mut self, number: u64, value: u8) {
        self.put_bytes(number, vec![value; 20]);
    }

    fn put_bytes(&mut self, number: u64, value: Vec<u8>) {
        self.apply(Action::Put(Put { key: key(number), value: value.into(), lease: None, previous: false }));
    }

    fn delete(&mut self, range: KeyRange) {
        self.apply(Action::Delete(Delete { range, previous: false }));
    }

    fn spec(&self, start: Start) -> WatchSpec {
        WatchSpec {
            watch: WatchId(1),
            namespace: Namespace::default(),
            range: KeyRange::prefix("k/"),
            start,
            lineage: self.state.lineage(),
            mode: Mode::Every,
            filter: Filter::default(),
            previous: false,
            min_interval: Duration::ZERO,
        }
    }

    fn watch(&mut self, start: Start) -> (SubscriberId, Created) {
        let spec = self.spec(start);
        self.hub.subscribe(&self.state, CONNECTION, spec, self.now).expect("there is room")
    }

    fn poll(&mut self, id: SubscriberId) -> Frames {
        self.hub.poll_frames(&self.state, id, 1, self.now)
    }

    /// Everything that a watch is sent until there is nothing more, with `meanwhile` between any two polls.
    fn drain(&mut self, id: SubscriberId, mut meanwhile: impl FnMut(&mut Self)) -> Vec<WatchFrame> {
        let mut all = Vec::new();
        loop {
            match self.poll(id) {
                Frames::Frames { frames, more } => {
                    all.extend(frames);
                    if !more {
                        return all;
                    }
                }
                Frames::Idle => return all,
                other => panic!("{other:?}"),
            }
            meanwhile(self);
        }
    }

    fn entries(&self) -> BTreeMap<Key, Entry> {
        let mut entries = BTreeMap::new();
        let range = KeyRange::prefix("k/");
        let mut query = hither_state::RangeQuery::new(&range);
        loop {
            let page = self.state.range(&Namespace::default(), &query);
            entries.extend(page.entries.into_iter().map(|entry| (entry.key.clone(), entry)));
            query.after = match page.next {
                Some(next) => Some(next),
                None => return entries,
            };
        }
    }

    fn loaded(&self) -> ChangeLog {
        ChangeLog::load(&self.disk, self.state.floor(), self.state.revision()).expect("it reads back")
    }
}

fn key(number: u64) -> Key {
    // So that the order of keys is not the order in which they were written.
    format!("k/{:04}", (number * 7) % KEYS).into()
}

/// The number whose key is in this place.
fn at(place: u64) -> u64 {
    (place * 2_143) % KEYS
}

/// What a client has after these frames, if it does what each says; it had `before`.
fn follow(before: BTreeMap<Key, Entry>, frames: &[WatchFrame]) -> (BTreeMap<Key, Entry>, Option<Revision>) {
    let (mut had, mut position) = (before, None);
    let (mut list, mut unchanged, mut last) = (Vec::new(), BTreeSet::new(), None);
    for frame in frames {
        let is_last = !frame.flags.has(Flags::MORE);
        match frame.op {
            op::SNAPSHOT | op::RESET => {
                let (revision, entries, keys) = if frame.op == op::SNAPSHOT {
                    let page: SnapshotPage = decode_body(&frame.body).expect("what the op says");
                    (page.revision, page.entries, Vec::new())
                } else {
                    let page: ResetPage = decode_body(&frame.body).expect("what the op says");
                    (page.revision, page.changed, page.unchanged)
                };
                // A list of another kind or revision voids one that is not whole.
                if last.replace((frame.op, revision)) != Some((frame.op, revision)) {
                    (list, unchanged) = (Vec::new(), BTreeSet::new());
                }
                list.extend(entries);
                unchanged.extend(keys);
                if is_last {
                    assert!(list.is_sorted_by_key(|entry: &Entry| entry.mod_revision));
                    had.retain(|key, _| unchanged.contains(key));
                    had.extend(list.drain(..).map(|entry| (entry.key.clone(), entry)));
                    position = Some(revision);
                }
            }
            op::BATCH => {
                let batch: Batch = decode_body(&frame.body).expect("what the op says");
                assert!(position.is_none_or(|position| batch.from <= position), "a gap: {batch:?} at {position:?}");
                for event in batch.events {
                    match event {
                        Event::Put { entry, .. } => drop(had.insert(entry.key.clone(), entry)),
                        Event::Delete { key, .. } => drop(had.remove(&key)),
                        Event::Liveness { .. } => {}
                    }
                }
                position = if is_last { Some(batch.to) } else { position };
            }
            other => panic!("{other:#06x}"),
        }
    }
    (had, position)
}

fn of(frames: &[WatchFrame], op: u16) -> usize {
    frames.iter().filter(|frame| frame.op == op).count()
}

#[test]
fn a_snapshot_of_many_pages_is_of_one_revision_whatever_is_written_meanwhile() {
    let mut world = World::filled(HubConfig { page_bytes: 4_000, ..HubConfig::default() });
    let before = world.entries();
    let (id, created) = world.watch(Start::Snapshot);
    let mut round = 0;
    let frames = world.drain(id, |world| {
        round += 1;
        if round < 60 {
            // Among them the last keys, which the snapshot comes to last.
            world.put(at(round * 41 % KEYS), 2);
            world.put(at(KEYS - round), 2);
            world.delete(KeyRange::One(key(at(KEYS - 100 - round))));
        }
    });
    let pages: Vec<_> = frames.iter().filter(|frame| frame.op == op::SNAPSHOT).cloned().collect();
    assert!(pages.len() > 10, "many pages: {}", pages.len());
    assert!(pages.iter().rev().skip(1).all(|page| page.flags.has(Flags::MORE)));
    assert_eq!(follow(BTreeMap::new(), &pages), (before, Some(created.revision)));
    assert_eq!(follow(BTreeMap::new(), &frames), (world.entries(), Some(world.state.revision())));
    assert_eq!(world.hub.snapshot_bytes(), 0);
}

#[test]
fn a_hundred_snapshots_of_one_range_are_one_list() {
    let mut world = World::filled(HubConfig::default());
    let (first, _) = world.watch(Start::Snapshot);
    assert!(matches!(world.poll(first), Frames::Frames { more: true, .. }));
    assert!(matches!(world.poll(first), Frames::Frames { more: true, .. }));
    let one = world.hub.snapshot_bytes();
    // What is written elsewhere does not make it another list.
    let beside = Put { key: "elsewhere".into(), value: "v".into(), lease: None, previous: false };
    world.apply(Action::Put(beside));
    let ids: Vec<_> = (0..100).map(|_| world.watch(Start::Snapshot).0).collect();
    assert_eq!(world.hub.snapshot_bytes(), one);
    for id in ids {
        let frames = world.drain(id, |_| {});
        assert_eq!(of(&frames, op::RESET), 0);
        assert_eq!(follow(BTreeMap::new(), &frames).1, Some(world.state.revision()));
    }
    world.put(3, 3);
    world.watch(Start::Snapshot);
    assert!(world.hub.snapshot_bytes() > one, "what is written inside does");
    world.hub.disconnect(CONNECTION);
    assert_eq!((world.hub.snapshot_bytes(), world.hub.watches(), world.hub.topics()), (0, 0, 0));
}

#[test]
fn a_snapshot_that_nobody_goes_on_with_gives_its_pin_back_and_begins_again_as_a_reset() {
    let mut world = World::filled(HubConfig::default());
    let (id, _) = world.watch(Start::Snapshot);
    assert!(world.hub.snapshot_bytes() > 0);
    world.now = world.now + Duration::from_secs(11);
    world.put(1, 2);
    assert_eq!(world.hub.snapshot_bytes(), 0, "a pin would make the state keep what it should forget");
    let frames = world.drain(id, |_| {});
    assert!(frames.iter().all(|frame| frame.op != op::SNAPSHOT));
    let reset: ResetPage = decode_body(&frames[0].body).unwrap();
    assert_eq!(reset.base, Revision::ZERO);
    assert_eq!(follow(BTreeMap::new(), &frames), (world.entries(), Some(world.state.revision())));
}

#[test]
fn while_memory_is_short_new_snapshots_are_refused_and_slow_ones_make_room() {
    let mut world = World::filled(HubConfig { snapshot_bytes_max: 300_000, page_bytes: 4_000, ..HubConfig::default() });
    let (slow, _) = world.watch(Start::Snapshot);
    let mut sent = Vec::new();
    while sent.len() < 5 {
        let Frames::Frames { frames, more: true } = world.poll(slow) else { panic!("there is more") };
        sent.extend(frames);
    }
    world.put(1, 2);
    let spec = world.spec(Start::Snapshot);
    let refused = world.hub.subscribe(&world.state, CONNECTION, spec, world.now).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ServerBusy);
    world.now = world.now + Duration::from_secs(11);
    let (id, _) = world.watch(Start::Snapshot);
    assert_eq!(follow(BTreeMap::new(), &world.drain(id, |_| {})).0, world.entries());
    // The slow one goes on all the same: nothing it got is of use at another revision, and it gets everything.
    sent.extend(world.drain(slow, |_| {}));
    assert!(of(&sent, op::SNAPSHOT) >= 5 && of(&sent, op::RESET) > 0);
    assert_eq!(follow(BTreeMap::new(), &sent), (world.entries(), Some(world.state.revision())));
}

#[test]
fn a_list_that_made_room_and_is_begun_anew_at_the_same_revision_goes_on_where_it_was() {
    let mut world = World::filled(HubConfig { snapshot_bytes_max: 1, page_bytes: 4_000, ..HubConfig::default() });
    let (slow, created) = world.watch(Start::Snapshot);
    let mut frames = Vec::new();
    while frames.len() < 5 {
        let Frames::Frames { frames: some, more: true } = world.poll(slow) else { panic!("there is more") };
        frames.extend(some);
    }
    world.now = world.now + Duration::from_secs(11);
    let spec = WatchSpec { range: KeyRange::prefix("nothing/"), ..world.spec(Start::Snapshot) };
    let (other, _) = world.hub.subscribe(&world.state, CONNECTION, spec, world.now).unwrap();
    assert_eq!(world.hub.snapshot_bytes(), 0, "it made room");
    world.drain(other, |_| {});
    frames.extend(world.drain(slow, |_| {}));
    assert_eq!(of(&frames, op::RESET), 0);
    let pages = frames.iter().map(|frame| decode_body::<SnapshotPage>(&frame.body).unwrap().entries.len());
    assert_eq!(pages.sum::<usize>() as u64, KEYS, "nothing twice");
    assert_eq!(follow(BTreeMap::new(), &frames), (world.entries(), Some(created.revision)));
}

#[test]
fn a_watch_whose_history_is_gone_gets_the_difference_and_not_the_values_it_has() {
    let mut world = World::filled(HubConfig::default());
    let (had, position) = (world.entries(), world.state.revision());
    (0..100).for_each(|number| world.put(number, 2));
    world.delete(KeyRange::Prefix("k/1".into()));
    world.apply(Action::SetFloor { revision: world.state.revision() });
    let (id, created) = world.watch(Start::After(position));
    assert_eq!(created.revision, position);
    let frames = world.drain(id, |_| {});
    let bytes: usize = frames.iter().map(|frame| frame.body.len()).sum();
    let whole: usize = had.values().map(|entry| entry.key.as_bytes().len() + entry.value.len()).sum();
    assert!(bytes < whole, "{bytes} bytes of difference, {whole} of state");
    assert_eq!(follow(had, &frames), (world.entries(), Some(world.state.revision())));
}

#[test]
fn watches_go_on_when_the_state_is_replaced_by_one_that_is_ahead() {
    for (trimmed, other_history) in [(false, false), (true, false), (true, true)] {
        let mut world = World::filled(HubConfig::default());
        let (idle, _) = world.watch(Start::Now);
        let (slow, _) = world.watch(Start::Now);
        let (had, position) = (world.entries(), world.state.revision());
        world.put(1, 2);
        let with_one = world.entries();
        assert!(of(&world.drain(idle, |_| {}), op::BATCH) == 1);
        // What this node is not told of, since it gets the state instead.
        let published = std::mem::replace(
            &mut world.hub,
            WatchHub::new(HubConfig::default(), &world.state, ChangeLog::new(world.state.revision()), world.now),
        );
        (0..50).for_each(|number| world.put(number * 3, 3));
        world.delete(KeyRange::One(key(9)));
        if trimmed {
            world.apply(Action::SetFloor { revision: world.state.revision().previous() });
        }
        if other_history {
            world.apply(Action::ClusterInit { cluster: ClusterId([1; 16]), incarnation: 2 });
        }
        world.hub = published;
        let history = world.loaded();
        world.hub.install(&world.state, history, world.now);
        let mut woken = Vec::new();
        world.hub.poll_ready(CONNECTION, &mut woken);
        assert_eq!(woken.len(), 2, "both are told");
        for (id, had, position) in [(idle, with_one, position.next()), (slow, had, position)] {
            let frames = world.drain(id, |_| {});
            assert_eq!(of(&frames, op::RESET) > 0, trimmed, "a reset only where history is gone");
            if frames[0].op == op::RESET {
                let reset: ResetPage = decode_body(&frames[0].body).unwrap();
                let is_other = world.state.lineage() != Some(Lineage { cluster: ClusterId([1; 16]), incarnation: 1 });
                assert_eq!(reset.base, if is_other { Revision::ZERO } else { position });
            } else {
                let batch: Batch = decode_body(&frames[0].body).unwrap();
                assert!(batch.from <= position);
            }
            assert_eq!(follow(had, &frames), (world.entries(), Some(world.state.revision())));
        }
        world.put(4, 4);
        assert_eq!(of(&world.drain(idle, |_| {}), op::BATCH), 1, "and live again");
    }
}

#[test]
fn a_watch_that_has_seen_more_than_the_node_waits_until_the_node_has_too() {
    let mut world = World::filled(HubConfig::default());
    let seen = Revision(world.state.revision().0 + 3);
    let (id, created) = world.watch(Start::After(seen));
    assert_eq!(created.revision, seen);
    world.put(1, 2);
    // Also across a replacement of the state that does not reach it yet.
    let history = world.loaded();
    world.hub.install(&world.state, history, world.now);
    assert!(world.drain(id, |_| {}).is_empty());
    (0..2).for_each(|_| world.put(2, 3));
    assert!(world.drain(id, |_| {}).is_empty(), "it has seen them");
    world.put(3, 4);
    let mut woken = Vec::new();
    world.hub.poll_wakes(&mut woken);
    assert_eq!(woken, [CONNECTION]);
    let batch: Batch = decode_body(&world.drain(id, |_| {})[0].body).unwrap();
    assert_eq!((batch.from, batch.to, batch.events.len()), (seen, seen.next(), 1));
}

#[test]
fn a_revision_larger_than_a_frame_comes_in_several_and_only_the_last_ends_it() {
    let config = HubConfig { frame_bytes_max: 2_000, topic_bytes_max: 1 << 20, ..HubConfig::default() };
    let mut world = World::filled(config);
    let (live, _) = world.watch(Start::Now);
    let (from, had) = (world.state.revision(), world.entries());
    world.delete(KeyRange::prefix("k/"));
    let (late, _) = world.watch(Start::After(from));
    for id in [live, late] {
        let frames = world.drain(id, |_| {});
        assert!(frames.len() > 10 && frames.iter().all(|frame| frame.body.len() <= 2_000));
        let (last, others) = frames.split_last().unwrap();
        assert!(others.iter().all(|frame| frame.flags.has(Flags::MORE)) && !last.flags.has(Flags::MORE));
        let all = frames.iter().all(|frame| {
            let batch: Batch = decode_body(&frame.body).unwrap();
            (batch.from, batch.to) == (from, from.next())
        });
        assert!(all, "every frame names the whole interval");
        assert!(follow(had.clone(), &frames).0.is_empty());
    }
}

#[test]
fn an_entry_before_that_does_not_fit_a_frame_beside_its_event_is_said_to_be_forgotten() {
    let mut world = World::new(HubConfig { frame_bytes_max: 3_000, ..HubConfig::default() });
    let spec = WatchSpec { previous: true, ..world.spec(Start::Now) };
    let (id, _) = world.hub.subscribe(&world.state, CONNECTION, spec, world.now).unwrap();
    world.put_bytes(1, vec![1; 2_000]);
    world.put_bytes(1, vec![2; 2_000]);
    world.put_bytes(1, vec![3; 500]);
    let mut previous = Vec::new();
    for frame in world.drain(id, |_| {}) {
        assert!(frame.body.len() <= 3_000);
        let batch: Batch = decode_body(&frame.body).unwrap();
        for event in batch.events {
            let Event::Put { previous: before, .. } = event else { panic!("{event:?}") };
            previous.push(before);
        }
    }
    assert!(
        matches!(&previous[..], [Previous::None, Previous::Forgotten, Previous::Entry(entry)] if entry.value.len() == 2_000)
    );
}

#[test]
fn a_watch_that_the_server_ends_says_why_and_is_forgotten() {
    let mut world = World::filled(HubConfig::default());
    let (id, _) = world.watch(Start::Snapshot);
    world.hub.end_all(EndReason::ShuttingDown);
    let Frames::Ended(end) = world.poll(id) else { panic!("it goes on") };
    assert_eq!(end.reason, EndReason::ShuttingDown);
    assert_eq!(world.poll(id), Frames::Idle);
    assert_eq!((world.hub.watches(), world.hub.snapshot_bytes()), (0, 0));
}

#[test]
fn history_that_is_damaged_newer_or_ahead_of_its_state_is_refused() {
    let mut world = World::new(HubConfig::default());
    (1..=3).for_each(|number| world.put(number, 1));
    let row = |revision: u64| Bytes::copy_from_slice(&revision.to_be_bytes());
    let load = |world: &World| ChangeLog::load(&world.disk, Revision::ZERO, world.state.revision());
    assert_eq!(load(&world).unwrap().head(), Revision(3));
    let late = ChangeLog::load(&world.disk, Revision(2), Revision(3)).unwrap();
    assert!(late.bytes() < load(&world).unwrap().bytes(), "what is below the floor is not history");
    let mut rows = Vec::new();
    world
        .disk
        .scan(Space::History, &mut |_, value| {
            rows.push(value.to_vec());
            Ok(())
        })
        .unwrap();
    assert_eq!(rows.len(), 3);
    let newer = [&[3], &rows[1][1..]].concat();
    let cut = rows[1][..rows[1].len() - 1].to_vec();
    for (revision, value) in [(2, newer), (2, cut), (2, Vec::new()), (4, rows[2].clone())] {
        let mut disk = world.disk.clone();
        disk.write(&[RowChange::Put(Space::History, row(revision), value.into())], b"").unwrap();
        let error = load(&world).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
        let undo = if revision == 4 {
            RowChange::Delete(Space::History, row(4))
        } else {
            RowChange::Put(Space::History, row(2), rows[1].clone().into())
        };
        disk.write(&[undo], b"").unwrap();
    }
    world.apply(Action::SetFloor { revision: Revision(2) });
    let mut left = Vec::new();
    world
        .disk
        .scan(Space::History, &mut |key, _| {
            left.push(Bytes::copy_from_slice(key));
            Ok(())
        })
        .unwrap();
    assert_eq!(left, [row(3)], "what is below the floor leaves the disk");
}

#[test]
fn a_connection_has_so_many_watches_and_another_once_one_is_taken_back() {
    let mut world = World::new(HubConfig { connection_watches_max: 2, ..HubConfig::default() });
    let (first, _) = world.watch(Start::Now);
    world.watch(Start::Now);
    let ask = |world: &mut World, connection| {
        let spec = world.spec(Start::Now);
        world.hub.subscribe(&world.state, connection, spec, world.now).map(drop)
    };
    let refused = ask(&mut world, CONNECTION).expect_err("a third");
    assert_eq!(refused.code, ErrorCode::TooManyWatches);
    ask(&mut world, ConnectionId(2)).expect("each connection has its own");
    world.hub.cancel(first);
    ask(&mut world, CONNECTION).expect("there is room for it");
}
