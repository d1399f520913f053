//! What a change costs the watch hub, and what each of its deliveries: `cargo bench -p hither-state --bench hub`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hither_protocol::message::{Filter, Mode, Put, Start};
use hither_protocol::{ClusterId, Key, KeyRange, Moment, Namespace, Revision, UnixMillis, WatchId};
use hither_state::watch::{ChangeLog, ConnectionId, Frames, HubConfig, SubscriberId, WatchHub, WatchSpec};
use hither_state::{Action, Command, Delta, Position, State, StateLimits};

const VALUE: [u8; 256] = [7; 256];
const CONNECTIONS: u64 = 10;
/// Changes that are made before the clock starts.
const CHANGES: u64 = 1_000;

fn key(number: u64) -> Key {
    format!("services/api-gateway/{number:06}").into()
}

/// A state and its hub.
struct World {
    state: State,
    hub: WatchHub,
    index: u64,
    watches: u64,
}

impl World {
    fn new() -> Self {
        let state = State::new(StateLimits::default());
        let hub = WatchHub::new(HubConfig::default(), &state, ChangeLog::new(Revision::ZERO), Moment(0));
        let mut world = Self { state, hub, index: 0, watches: 0 };
        let delta = world.apply(Action::ClusterInit { cluster: ClusterId([1; 16]), incarnation: 1 });
        world.hub.publish(&delta, Moment(0));
        world
    }

    /// With watches of these.
    fn with(ranges: impl IntoIterator<Item = KeyRange>) -> Self {
        let mut world = Self::new();
        for range in ranges {
            world.subscribe(range);
        }
        world
    }

    fn apply(&mut self, action: Action) -> Delta {
        self.index += 1;
        let (namespace, at) = (Namespace::default(), UnixMillis(self.index));
        let command = Command { namespace, principal: "bench".into(), retry: None, at, action };
        self.state.apply(Position { index: self.index, offset: 0 }, &command).delta
    }

    fn put(&mut self, number: u64) -> Delta {
        let value = Bytes::from_static(&VALUE);
        self.apply(Action::Put(Put { key: key(number), value, lease: None, previous: false }))
    }

    fn subscribe(&mut self, range: KeyRange) -> SubscriberId {
        self.watches += 1;
        let spec = WatchSpec {
            watch: WatchId(self.watches),
            namespace: Namespace::default(),
            range,
            start: Start::Now,
            lineage: None,
            mode: Mode::Every,
            filter: Filter::default(),
            previous: false,
            min_interval: Duration::ZERO,
        };
        let connection = ConnectionId(self.watches % CONNECTIONS);
        self.hub.subscribe(&self.state, connection, spec, Moment(0)).expect("there is room").0
    }

    /// Hands out everything; returns how many frames that were.
    fn deliver(&mut self) -> usize {
        let (mut wakes, mut ready) = (Vec::new(), Vec::new());
        self.hub.poll_wakes(&mut wakes);
        wakes.into_iter().for_each(|connection| self.hub.poll_ready(connection, &mut ready));
        let mut count = 0;
        for id in ready {
            if let Frames::Frames { frames, .. } = self.hub.poll_frames(&self.state, id, 128 * 1024, Moment(0)) {
                count += black_box(frames).len();
            }
        }
        count
    }
}

fn same(watches: u64) -> impl Iterator<Item = KeyRange> {
    (0..watches).map(|_| KeyRange::One(key(0)))
}

/// Taking a change in. However many watch it, nothing is done for each of them.
fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    let prefix = || KeyRange::prefix("services/");
    let before = |number| KeyRange::Span(format!("a/{number:06}").into(), format!("a/{number:06}/").into());
    let worlds: [(&str, World); 6] = [
        ("nobody watches", World::new()),
        ("1 watch of the key", World::with(same(1))),
        ("10,000 watches of the key", World::with(same(10_000))),
        ("10,000 watches of other keys", World::with((1..=10_000).map(|number| KeyRange::One(key(number))))),
        ("10,000 watches of spans before the key", World::with((1..=10_000).map(before))),
        ("10,000 watches of a prefix", World::with((0..10_000).map(|_| prefix()))),
    ];
    for (name, mut world) in worlds {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for from in (0..iterations).step_by(CHANGES as usize) {
                    let deltas: Vec<Delta> = (from..iterations.min(from + CHANGES)).map(|_| world.put(0)).collect();
                    let start = Instant::now();
                    deltas.iter().for_each(|delta| world.hub.publish(black_box(delta), Moment(0)));
                    took += start.elapsed();
                    // So that the next are not appended for watches that lost their place.
                    world.deliver();
                }
                took
            });
        });
    }
    group.finish();
}

/// Handing one change out to all who watch it, per delivery.
fn deliver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliver one change");
    for watches in [1, 1_000, 10_000, 50_000] {
        let mut world = World::with(same(watches));
        group.throughput(Throughput::Elements(watches));
        group.bench_with_input(BenchmarkId::from_parameter(watches), &watches, |bencher, &watches| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    let delta = world.put(0);
                    let start = Instant::now();
                    world.hub.publish(&delta, Moment(0));
                    assert_eq!(world.deliver() as u64, watches, "one frame each");
                    took += start.elapsed();
                }
                took
            });
        });
    }
    group.finish();
}

/// Opening a watch beside others, and closing it.
fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open and close a watch");
    for beside in [0, 10_000] {
        let mut world = World::with(same(beside));
        group.bench_function(BenchmarkId::new("beside", beside), |bencher| {
            bencher.iter(|| {
                let id = world.subscribe(KeyRange::One(key(0)));
                world.hub.cancel(id);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, publish, deliver, subscribe);
criterion_main!(benches);
