//! The run: a server, everyone who works on it, what is done to it, and what is concluded.

mod faults;
mod figures;
mod keys;
mod options;
mod purges;
mod readers;
mod room;
mod watchers;
mod world;
mod writers;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hither::{Consistency, KeyRange};
use hither_tests::node::Node;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

pub(crate) use options::Options;

use crate::finding::{Finding, Kind};
use crate::verdict;
use faults::Done;
use figures::Figures;
use readers::{Floors, by_key};
use watchers::{Character, Watcher};
use world::World;

/// Watchers of one client.
const WATCHERS_PER_CLIENT: usize = 6;
/// Of these, those of one client buffer little, so that an application that dozes makes the server wait.
const BUFFER: [(&str, &str); 1] = [("watch_events_max", "64")];
/// Clients that write; the first of them on a way that is not cut.
const WRITERS: usize = 4;
/// Writers of keys on each of them, and one who grants leases that nobody keeps.
const WRITERS_PER_CLIENT: usize = 3;
/// Clients that hold a lease.
const HOLDERS: usize = 2;
/// Watchers that come when nobody writes any more.
const LATE: usize = 6;
/// Everything is told within this after the last fault, or never.
const CAUGHT_UP: Duration = Duration::from_secs(30);
/// What is told again is told by then.
const QUIET: Duration = Duration::from_secs(1);

/// Runs and says what came of it: figures, or the first finding.
pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let begun = Instant::now();
    let outcome = runtime.block_on(prove(options));
    // Tasks that wait for what will not come are no reason to stay.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(figures) => {
            println!("{figures}");
            println!("seed {}: exact, in {:.0} s", options.seed, begun.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(finding) => {
            println!("seed {}: NOT exact, after {:.0} s", options.seed, begun.elapsed().as_secs_f64());
            println!("{finding}");
            let Options { seconds, seed, watchers, cuts, kills, rate } = options;
            println!(
                "again: hither-chaos exact --seconds {seconds} --seed {seed} --watchers {watchers} --cuts {cuts} --kills {kills} --rate {rate}"
            );
            ExitCode::FAILURE
        }
    }
}

async fn prove(options: &Options) -> Result<Figures, Finding> {
    let setup = |error: anyhow::Error| Finding::new(Kind::Down, "the run", format!("cannot begin: {error:#}"));
    let clients = options.watchers.div_ceil(WATCHERS_PER_CLIENT);
    let (world, mut node) = World::start(options, clients + WRITERS + HOLDERS).await.map_err(setup)?;
    let work = async {
        let run = begin(&world, &node, clients).await.map_err(setup)?;
        let done = faults::inflict(&world, &mut node).await?;
        conclude(&world, run, done).await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        finding = world.findings.first() => Err(finding),
    };
    world.stop_writing();
    world.stop_watching();
    outcome.map_err(|finding| {
        let finding = finding.with(&world.diary.recent());
        match finding.kind {
            Kind::Down | Kind::Stuck => finding.with(&format!("the server's log ends:\n{}", tail(&node.log()))),
            _ => finding,
        }
    })
}

fn tail(log: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Everyone at work.
struct Run {
    watchers: Vec<Watcher>,
    writers: JoinSet<()>,
    lists: Arc<AtomicU64>,
    floors: Floors,
}

/// `clients`: those of the watchers. Each client has a way of its own.
async fn begin(world: &World, node: &Node, clients: usize) -> anyhow::Result<Run> {
    let (begun, reads) = tokio::sync::oneshot::channel();
    tokio::spawn(readers::follow(world.clone(), world.near().await?, begun));
    // Otherwise it has told why not.
    let _ = reads.await;
    writers::begin(world, &world.near().await?).await?;
    let watchers = open_watchers(world).await?;

    let mut writers = JoinSet::new();
    let seed = |number: usize| world.options.seed.wrapping_mul(1_000).wrapping_add(number as u64);
    let pause = Duration::from_secs((WRITERS * WRITERS_PER_CLIENT) as u64);
    let pause = pause / u32::try_from(world.options.rate.max(1))?;
    for number in 0..WRITERS {
        let client = if number == 0 { world.near().await? } else { world.far(clients + number, &[]).await? };
        for writer in 0..WRITERS_PER_CLIENT {
            let seed = seed(number * WRITERS_PER_CLIENT + writer);
            writers.spawn(writers::write(world.clone(), client.clone(), seed, pause));
        }
        writers.spawn(writers::lease(world.clone(), client, seed(100 + number)));
    }
    for number in 0..HOLDERS {
        let client = world.far(clients + WRITERS + number, &[]).await?;
        writers.spawn(writers::hold(world.clone(), client, number));
    }
    let lists = Arc::new(AtomicU64::new(0));
    tokio::spawn(readers::list(world.clone(), world.far(clients, &[]).await?, Arc::clone(&lists)));
    let floors = Floors::default();
    tokio::spawn(floors.clone().follow(world.clone(), node.admin()));
    Ok(Run { watchers, writers, lists, floors })
}

async fn open_watchers(world: &World) -> anyhow::Result<Vec<Watcher>> {
    let mut rng = SmallRng::seed_from_u64(world.options.seed);
    let mut watchers: Vec<Watcher> = Vec::new();
    let mut client = None;
    for number in 0..world.options.watchers {
        if number % WATCHERS_PER_CLIENT == 0 {
            let relay = number / WATCHERS_PER_CLIENT;
            client = Some(world.far(relay, if relay % 2 == 1 { &BUFFER } else { &[] }).await?);
        }
        let Some(client) = client.clone() else { unreachable!("made for the first of each group") };
        let character = match watchers.last() {
            // The second of two that are alike, on the same client.
            Some(before) if number % (2 * WATCHERS_PER_CLIENT) == 1 => before.character.twin(number),
            _ => Character::drawn(number, &mut rng),
        };
        watchers.push(Watcher::start(world, client, character));
    }
    let deadline = Instant::now() + CAUGHT_UP;
    while let Some(closed) = closed(&watchers) {
        anyhow::ensure!(Instant::now() < deadline, closed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(watchers)
}

fn closed(watchers: &[Watcher]) -> Option<String> {
    let closed = watchers.iter().find(|watcher| !watcher.is_open())?;
    Some(format!("{} does not open", closed.name()))
}

/// Lets everything come to rest and compares: each watcher with history, history with the last list and with what the
/// writers know.
async fn conclude(world: &World, mut run: Run, done: Done) -> Result<Figures, Finding> {
    world.diary.note("writers are to stop");
    world.stop_writing();
    for relay in world.relays() {
        relay.heal();
    }
    while let Some(ended) = run.writers.join_next().await {
        ended.map_err(|error| Finding::new(Kind::Down, "a writer", error.to_string()))?;
    }
    let down = |error: hither::Error| Finding::new(Kind::Down, "the last writer", error.to_string());
    let client = world.near().await.map_err(|error| Finding::new(Kind::Down, "the server", error.to_string()))?;
    wait("leases end", || world.truth.read().state().values().find_map(|entry| Some(format!("{:?}", entry.lease?))))
        .await?;
    // All writes before are answered and all that follow are yet to be asked for: now is exactly one revision.
    let mut rng = SmallRng::seed_from_u64(!world.options.seed);
    let numbers = world.options.watchers..world.options.watchers + LATE;
    let start = |number| Watcher::start(world, client.clone(), Character::late(number, &mut rng));
    run.watchers.extend(numbers.map(start));
    wait("watchers that come late", || closed(&run.watchers)).await?;
    writers::conclude(world, &client).await.map_err(down)?;
    world.diary.note("the last write is done");

    let last = world.acknowledged();
    wait("the reference reader gets to the end", || {
        let head = world.truth.head();
        (head < last).then(|| format!("it is at {head} of {last}"))
    })
    .await?;
    for watcher in &run.watchers {
        wait(&watcher.name(), || watcher.owes(world)).await?;
    }
    tokio::time::sleep(QUIET).await;
    if let Some((watcher, owes)) = run.watchers.iter().find_map(|watcher| Some((watcher, watcher.owes(world)?))) {
        return Err(Finding::new(Kind::Phantom, watcher.name(), owes));
    }
    let (stamp, reply) =
        client.range(KeyRange::All).consistency(Consistency::Linearizable).stamped().await.map_err(down)?;
    let list = by_key(reply.entries);
    {
        let history = world.truth.read();
        if *history.state() != list {
            let what = format!("the last list, at {}, is not the state at {}", stamp.revision, history.head());
            return Err(Finding::new(Kind::Difference, "the reference reader", what));
        }
    }
    for watcher in &run.watchers {
        watcher.conclude(&list)?;
    }
    let writes = verdict::writes(&world.truth.read(), &world.ledger.close())?;
    let figures = Figures::gather(world, &run.watchers, &run.floors, run.lists.load(Ordering::Relaxed), done, writes);
    figures.check(&world.options)?;
    Ok(figures)
}

/// Waits until nothing is open any more. `open` says what is.
async fn wait(who: &str, mut open: impl FnMut() -> Option<String>) -> Result<(), Finding> {
    let deadline = Instant::now() + CAUGHT_UP;
    while let Some(what) = open() {
        if Instant::now() > deadline {
            return Err(Finding::new(Kind::Stuck, who, format!("not within {CAUGHT_UP:?}: {what}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
