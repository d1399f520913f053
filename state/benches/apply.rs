//! What a command costs the state, without log, disk and network: `cargo bench -p hither-state --bench apply`.

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hither_protocol::message::{Compare, Delete, LeaseKind, Put, RetryToken, Txn, TxnOp};
use hither_protocol::{Key, KeyRange, LeaseId, Namespace, SequenceNumber, SessionId, UnixMillis};
use hither_state::{Action, Command, Position, RangeQuery, State, StateLimits};

/// Keys in the state. The second is made in seconds only by an optimised build, and no other measures anything.
const SIZES: &[u64] = if cfg!(debug_assertions) { &[10_000] } else { &[10_000, 1_000_000] };
const VALUE: [u8; 256] = [7; 256];
/// Commands that are made before the clock starts.
const COMMANDS: u64 = 1_000;
/// Requests of a session that are on their way at once.
const IN_FLIGHT: u64 = 64;

/// A state with keys of 31 bytes, of which every second number exists.
struct World {
    state: State,
    index: u64,
    keys: u64,
    session: SessionId,
    sequence: u64,
    leases: Vec<LeaseId>,
}

impl World {
    fn of(keys: u64) -> Self {
        let state = State::new(StateLimits::default());
        let mut world = Self { state, index: 0, keys, session: SessionId(0), sequence: 0, leases: Vec::new() };
        let open = Action::SessionOpen { ttl_ms: 10_000, nonce: [0; 16] };
        world.time([open]);
        world.session = SessionId(world.last());
        world.time((0..keys).map(|number| put(key(2 * number), None)));
        for _ in 0..COMMANDS {
            world.grant();
        }
        world
    }

    /// The id that the last command drew.
    const fn last(&self) -> u64 {
        Position { index: self.index, offset: 0 }.unique()
    }

    fn grant(&mut self) -> Duration {
        let took = self.time([Action::LeaseGrant { ttl_ms: 10_000, kind: LeaseKind::Ttl }]);
        self.leases.push(LeaseId(self.last()));
        took
    }

    /// A key that exists. Those of numbers that follow each other are far apart.
    fn existing(&self, number: u64) -> Key {
        key(2 * (number.wrapping_mul(7_919) % self.keys))
    }

    /// A key that does not exist, between those that do.
    fn missing(&self, number: u64) -> Key {
        key(2 * (number.wrapping_mul(7_919) % self.keys) + 1)
    }

    /// How long it takes to apply these.
    fn time(&mut self, actions: impl IntoIterator<Item = Action>) -> Duration {
        let commands = actions.into_iter().map(|action| (None, action)).collect();
        self.time_with(commands)
    }

    fn time_with(&mut self, actions: Vec<(Option<RetryToken>, Action)>) -> Duration {
        let (namespace, at) = (Namespace::default(), UnixMillis(1));
        let command =
            |(retry, action)| Command { namespace: namespace.clone(), principal: "bench".into(), retry, at, action };
        let commands: Vec<Command> = actions.into_iter().map(command).collect();
        let start = Instant::now();
        for command in &commands {
            self.index += 1;
            let applied = self.state.apply(Position { index: self.index, offset: 0 }, command);
            assert!(black_box(applied).outcome.is_ok(), "none is refused");
        }
        start.elapsed()
    }

    fn time_all(&mut self, numbers: Range<u64>, action: impl Fn(&Self, u64) -> Action) -> Duration {
        let actions: Vec<Action> = numbers.map(|number| action(self, number)).collect();
        self.time(actions)
    }
}

fn key(number: u64) -> Key {
    format!("services/api-gateway/{number:010}").into()
}

fn put(key: Key, lease: Option<LeaseId>) -> Action {
    Action::Put(Put { key, value: Bytes::from_static(&VALUE), lease, previous: false })
}

fn delete(key: Key) -> Action {
    Action::Delete(Delete { range: KeyRange::One(key), previous: false })
}

fn put_new(world: &mut World, numbers: Range<u64>) -> Duration {
    world.time_all(numbers, |world, number| put(world.missing(number), None))
}

fn delete_new(world: &mut World, numbers: Range<u64>) -> Duration {
    world.time_all(numbers, |world, number| delete(world.missing(number)))
}

fn compare_and_set(world: &mut World, numbers: Range<u64>) -> Duration {
    world.time_all(numbers, |world, number| {
        let key = world.existing(number);
        let write = Put { key: key.clone(), value: Bytes::from_static(&VALUE), lease: None, previous: false };
        Action::Txn(Txn { when: vec![Compare::Exists(key)], then: vec![TxnOp::Put(write)], otherwise: Vec::new() })
    })
}

/// As a session's client does, which names each of its mutations.
fn put_named(world: &mut World, numbers: Range<u64>) -> Duration {
    let (session, before) = (world.session, world.sequence);
    world.sequence += numbers.end - numbers.start;
    let named = numbers.clone().zip(before..).map(|(number, sent)| {
        let acknowledged = SequenceNumber(sent.saturating_sub(IN_FLIGHT));
        let token = RetryToken { session, sequence: SequenceNumber(sent + 1), acknowledged };
        (Some(token), put(world.existing(number), None))
    });
    let named = named.collect();
    world.time_with(named)
}

/// Lets the last lease expire, with the one key that it has.
fn expire(world: &mut World, numbers: Range<u64>) -> Duration {
    let mut took = Duration::ZERO;
    for number in numbers {
        world.grant();
        let lease = world.leases.pop().expect("it was granted");
        world.time([put(world.missing(number), Some(lease))]);
        took += world.time([Action::Expire { leases: vec![(lease, 1)] }]);
    }
    took
}

type Round = fn(&mut World, Range<u64>) -> Duration;

/// Each leaves the state as large as it was, and says how long the part took that it is named after.
const ROUNDS: [(&str, Round); 8] = [
    ("put over a key", |world, numbers| world.time_all(numbers, |world, number| put(world.existing(number), None))),
    ("put of a new key", |world, numbers| {
        let took = put_new(world, numbers.clone());
        delete_new(world, numbers);
        took
    }),
    ("delete of a key", |world, numbers| {
        put_new(world, numbers.clone());
        delete_new(world, numbers)
    }),
    ("transaction that compares and puts", compare_and_set),
    ("put with a retry token, 64 in flight", put_named),
    ("put under a lease", |world, numbers| {
        world.time_all(numbers, |world, number| {
            let lease = world.leases[(number % COMMANDS) as usize];
            put(world.existing(number), Some(lease))
        })
    }),
    ("grant of a lease", |world, numbers| {
        let took = numbers.clone().map(|_| world.grant()).sum();
        let leases = world.leases.split_off(COMMANDS as usize);
        world.time(leases.into_iter().map(|lease| Action::LeaseRevoke { lease }));
        took
    }),
    ("expiry of a lease with a key", expire),
];

fn apply(criterion: &mut Criterion) {
    for &keys in SIZES {
        let mut world = World::of(keys);
        let mut group = criterion.benchmark_group("apply");
        group.throughput(Throughput::Elements(1));
        for (name, round) in ROUNDS {
            group.bench_function(BenchmarkId::new(name, keys), |bencher| {
                bencher.iter_custom(|iterations| {
                    let rounds = (0..iterations).step_by(COMMANDS as usize);
                    rounds.map(|from| round(&mut world, from..iterations.min(from + COMMANDS))).sum()
                });
            });
        }
        group.finish();
        read(criterion, &world);
    }
}

fn read(criterion: &mut Criterion, world: &World) {
    let namespace = Namespace::default();
    let mut group = criterion.benchmark_group("read");
    let mut number = 0;
    group.bench_function(BenchmarkId::new("get, with making its key", world.keys), |bencher| {
        bencher.iter(|| {
            number += 1;
            assert!(world.state.get(&namespace, world.existing(number).as_bytes()).is_some(), "it exists");
        });
    });
    group.throughput(Throughput::Elements(1_000));
    group.bench_function(BenchmarkId::new("a page of 1,000 keys", world.keys), |bencher| {
        let range = KeyRange::Span(key(world.keys).0, "t".into());
        bencher.iter(|| world.state.range(&namespace, &RangeQuery::new(black_box(&range))));
    });
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
