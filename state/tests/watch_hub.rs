//! Every watch, whatever its range, start, mode and pace, sees what it asked for: once, in order, without a gap, whole
//! revisions at a time, or a reset with the right difference. The judge does what a client does: it checks the
//! arithmetic of the intervals and knows nothing of the hub.

mod watching;

use std::time::Duration;

use hither_protocol::message::{Filter, Mode, Start};
use hither_protocol::{KeyRange, Revision};
use hither_state::watch::HubConfig;
use proptest::prelude::*;
use watching::World;

/// What happens next. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        value: u8,
        leased: bool,
    },
    PutTwo {
        keys: (u8, u8),
        value: u8,
    },
    Delete {
        range: KeyRange,
    },
    Suspect,
    Alive,
    Revoke,
    Subscribe {
        connection: u8,
        range: KeyRange,
        start: Begin,
        mode: Mode,
        filter: Filter,
        previous: bool,
        interval: u8,
    },
    /// The connection asks which of its watches are ready.
    Ask {
        connection: u8,
    },
    /// One of those that have something is polled.
    Poll {
        which: u8,
        bytes_max: u16,
    },
    Beat {
        connection: u8,
    },
    Cancel {
        which: u8,
    },
    Disconnect {
        connection: u8,
    },
    /// The floor rises to this part of the way to the present.
    Floor {
        sixteenths: u8,
    },
    FloorDue,
    /// Time passes.
    Wait {
        milliseconds: u16,
    },
    /// The node starts again from its disk; every client resumes.
    Restart,
    /// The state is replaced by one that is ahead by so many writes, with or without the history of them.
    Install {
        missed: u8,
        trimmed: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Begin {
    Now,
    Snapshot,
    /// After this part of the way to the present.
    After(u8),
    /// After a revision that is yet to come.
    Future(u8),
    /// After a revision of another history.
    Elsewhere,
}

fn ranges() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => (0u8..12).prop_map(|key| KeyRange::One(watching::key(key))),
        4 => Just(KeyRange::prefix("a/")),
        2 => Just(KeyRange::prefix("b")),
        1 => Just(KeyRange::All),
        2 => (0u8..12, 0u8..12).prop_map(|(one, other)| {
            let (first, last) = (watching::key(one.min(other)), watching::key(one.max(other)));
            KeyRange::Span(first.0, last.0)
        }),
    ]
}

fn filters() -> impl Strategy<Value = Filter> {
    prop_oneof![
        4 => Just(Filter::default()),
        2 => Just(Filter { puts: true, deletes: true, liveness: true }),
        1 => Just(Filter { puts: false, deletes: true, liveness: false }),
        1 => Just(Filter { puts: true, deletes: false, liveness: false }),
    ]
}

fn begins() -> impl Strategy<Value = Begin> {
    prop_oneof![
        3 => Just(Begin::Now),
        4 => Just(Begin::Snapshot),
        4 => (0u8..=16).prop_map(Begin::After),
        1 => (1u8..5).prop_map(Begin::Future),
        1 => Just(Begin::Elsewhere),
    ]
}

fn subscribe() -> impl Strategy<Value = Step> {
    let modes = prop_oneof![3 => Just(Mode::Every), 2 => Just(Mode::Latest)];
    (0u8..3, ranges(), begins(), modes, filters(), any::<bool>(), prop_oneof![4 => Just(0u8), 1 => 1u8..40]).prop_map(
        |(connection, range, start, mode, filter, previous, interval)| Step::Subscribe {
            connection,
            range,
            start,
            mode,
            filter,
            previous,
            interval,
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0u8..12, any::<u8>(), prop::bool::weighted(0.2))
            .prop_map(|(key, value, leased)| Step::Put { key, value, leased }),
        5 => ((0u8..12, 0u8..12), any::<u8>()).prop_map(|(keys, value)| Step::PutTwo { keys, value }),
        5 => ranges().prop_map(|range| Step::Delete { range }),
        2 => Just(Step::Suspect),
        2 => Just(Step::Alive),
        1 => Just(Step::Revoke),
        8 => subscribe(),
        10 => (0u8..3).prop_map(|connection| Step::Ask { connection }),
        25 => (any::<u8>(), 1u16..2_000).prop_map(|(which, bytes_max)| Step::Poll { which, bytes_max }),
        6 => (0u8..3).prop_map(|connection| Step::Beat { connection }),
        2 => any::<u8>().prop_map(|which| Step::Cancel { which }),
        1 => (0u8..3).prop_map(|connection| Step::Disconnect { connection }),
        2 => (0u8..=16).prop_map(|sixteenths| Step::Floor { sixteenths }),
        2 => Just(Step::FloorDue),
        4 => (1u16..30_000).prop_map(|milliseconds| Step::Wait { milliseconds }),
        1 => Just(Step::Restart),
        1 => (0u8..20, any::<bool>()).prop_map(|(missed, trimmed)| Step::Install { missed, trimmed }),
    ]
}

/// Bounds so small that every one of them is met.
fn tight() -> HubConfig {
    HubConfig {
        history_bytes_max: 12_000,
        history_age_max: Duration::from_secs(60),
        topic_bytes_max: 1_200,
        live_bytes_max: 3_000,
        page_bytes: 250,
        frame_bytes_max: 400,
        scan_max: 5,
        snapshot_bytes_max: 8_000,
        ..HubConfig::default()
    }
}

fn play(steps: Vec<Step>) {
    let mut world = World::new(tight());
    for step in steps {
        match step {
            Step::Put { key, value, leased } => world.put(key, value, leased),
            Step::PutTwo { keys, value } => world.put_two(keys, value),
            Step::Delete { range } => world.delete(range),
            Step::Suspect => world.suspect(),
            Step::Alive => world.alive(),
            Step::Revoke => world.revoke(),
            Step::Subscribe { connection, range, start, mode, filter, previous, interval } => {
                let head = world.head();
                let part = |sixteenths: u8| Revision(head.0 * u64::from(sixteenths) / 16);
                let (start, elsewhere) = match start {
                    Begin::Now => (Start::Now, false),
                    Begin::Snapshot => (Start::Snapshot, false),
                    Begin::After(sixteenths) => (Start::After(part(sixteenths)), false),
                    Begin::Future(ahead) => (Start::After(Revision(head.0 + u64::from(ahead))), false),
                    Begin::Elsewhere => (Start::After(part(8)), true),
                };
                let interval = Duration::from_millis(interval.into());
                world.subscribe(connection, range, start, elsewhere, mode, filter, previous, interval);
            }
            Step::Ask { connection } => world.ask(connection),
            Step::Poll { which, bytes_max } => world.poll(which, bytes_max.into()),
            Step::Beat { connection } => world.beat(connection),
            Step::Cancel { which } => world.cancel(which),
            Step::Disconnect { connection } => world.disconnect(connection),
            Step::Floor { sixteenths } => world.floor(Revision(world.head().0 * u64::from(sixteenths) / 16)),
            Step::FloorDue => world.floor_due(),
            Step::Wait { milliseconds } => world.wait(Duration::from_millis(milliseconds.into())),
            Step::Restart => world.restart(),
            Step::Install { missed, trimmed } => world.install(missed, trimmed),
        }
    }
    world.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_watch_sees_everything_once_in_order_or_the_right_difference(
        steps in prop::collection::vec(steps(), 1..160),
    ) {
        play(steps);
    }
}

#[test]
fn ten_thousand_watches_of_a_prefix_share_one_topic_and_one_body() {
    let mut world = World::new(HubConfig::default());
    world.put(0, 1, false);
    for _ in 0..10_000 {
        world.subscribe(
            0,
            KeyRange::prefix("a/"),
            Start::Now,
            false,
            Mode::Every,
            Filter::default(),
            false,
            Duration::ZERO,
        );
    }
    world.put(0, 2, false);
    assert_eq!(world.hub.topics(), 1);
    let kept = world.hub.live_bytes();
    let bodies = world.bodies();
    assert_eq!(bodies.len(), 10_000);
    assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr()), "one body, shared");
    assert!(kept < 1_000, "one event is kept once, not once for each watch: {kept} bytes");
    assert_eq!(world.hub.live_bytes(), 0, "what everybody has read is dropped");
}

#[test]
fn a_connection_is_woken_once_however_many_of_its_watches_fire() {
    let mut world = World::new(HubConfig::default());
    for key in 0..12 {
        let range = KeyRange::One(watching::key(key));
        world.subscribe(1, range, Start::Now, false, Mode::Every, Filter::default(), false, Duration::ZERO);
    }
    world.ask(1);
    world.poll_all();
    let mut wakes = Vec::new();
    world.hub.poll_wakes(&mut wakes);
    assert!(wakes.is_empty(), "nothing happened yet");
    (0..12).for_each(|key| world.put(key, 1, false));
    world.hub.poll_wakes(&mut wakes);
    assert_eq!(wakes.len(), 1);
    (0..12).for_each(|key| world.put(key, 2, false));
    world.hub.poll_wakes(&mut wakes);
    assert_eq!(wakes.len(), 1, "it was told and did not ask yet");
    world.ask(1);
    world.settle();
}

#[test]
fn watches_that_never_read_cost_a_bounded_amount() {
    let config = HubConfig { topic_bytes_max: 64 << 10, live_bytes_max: 256 << 10, ..HubConfig::default() };
    let mut world = World::new(config);
    for key in 0..12 {
        let range = KeyRange::One(watching::key(key));
        world.subscribe(0, range, Start::Now, false, Mode::Every, Filter::default(), false, Duration::ZERO);
    }
    world.subscribe(0, KeyRange::All, Start::Now, false, Mode::Every, Filter::default(), false, Duration::ZERO);
    for round in 0..3_000_u32 {
        world.put((round % 12) as u8, round as u8, false);
        assert!(world.hub.live_bytes() <= (256 << 10) + 1_000, "{} bytes", world.hub.live_bytes());
    }
    assert!(world.hub.lag().revisions >= 2_900);
    world.settle();
    assert_eq!(world.hub.lag().revisions, 0);
}
