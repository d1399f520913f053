//! What is done to the system: ways are cut and spoiled, clients get new addresses, the server is killed.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hither_tests::node::Node;
use hither_tests::relay::{Relay, Rules, Way};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::purges::Purges;
use super::world::World;
use crate::finding::{Finding, Kind};

/// The part of the run in which everything is done; the rest is for what was done last to show.
const SHARE: f64 = 0.92;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) cuts: usize,
    pub(crate) kills: usize,
    pub(crate) spoils: usize,
    pub(crate) rebinds: usize,
    /// Starts that began from a state on disk, and those that found a log whose beginning was purged.
    pub(crate) stored: usize,
    pub(crate) shortened: usize,
    /// How often the log was purged, as far as kills found it.
    pub(crate) purges: u64,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing passes, both ways or one, for a while.
    Cut { relay: usize, way: Option<Way>, time: Duration },
    /// Datagrams are lost, doubled and overtaken for a while.
    Spoil { relay: usize, time: Duration },
    /// The server sees the clients of a relay at new addresses.
    Rebind { relay: usize },
    /// `kill -9`, and a start in the same place.
    Kill,
}

/// Every fault of a run with its moment, from the seed alone.
fn plan(world: &World) -> Vec<(Duration, Fault)> {
    let options = &world.options;
    let mut rng = SmallRng::seed_from_u64(options.seed ^ 0xfa17);
    let relays = world.relays().len();
    let time = options.time().mul_f64(SHARE);
    // In turns, so that every way is cut; shuffled, so that neighbours in time are not.
    let mut turns: Vec<usize> = (0..options.cuts).map(|cut| cut % relays).collect();
    turns.shuffle(&mut rng);
    let mut faults = Vec::new();
    let spread = |count: usize, rng: &mut SmallRng| -> Vec<Duration> {
        (0..count).map(|turn| time.mul_f64((turn as f64 + rng.random::<f64>()) / count as f64)).collect()
    };
    for (at, relay) in spread(options.cuts, &mut rng).into_iter().zip(turns) {
        let way = [None, None, Some(Way::Up), Some(Way::Down)][rng.random_range(0..4)];
        // Short: retransmitted. Longer: noticed, another connection is made. Longest: history is gone by then.
        let milliseconds = match rng.random_range(0..100) {
            0..40 => rng.random_range(50..1_000),
            40..75 => rng.random_range(1_600..2_600),
            _ => rng.random_range(2_600..4_500),
        };
        faults.push((at, Fault::Cut { relay, way, time: Duration::from_millis(milliseconds) }));
    }
    for at in spread(options.cuts / 4, &mut rng) {
        let (relay, time) = (rng.random_range(0..relays), Duration::from_millis(rng.random_range(300..2_000)));
        faults.push((at, Fault::Spoil { relay, time }));
    }
    for at in spread(options.cuts / 8, &mut rng) {
        faults.push((at, Fault::Rebind { relay: rng.random_range(0..relays) }));
    }
    for at in spread(options.kills, &mut rng) {
        faults.push((at, Fault::Kill));
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// Does everything that is planned, in its time; what cannot be done in time is done later.
pub(crate) async fn inflict(world: &World, node: &mut Node) -> Result<Done, Finding> {
    let begun = Instant::now();
    let mut done = Done::default();
    let mut purged = 0;
    let mut spells = tokio::task::JoinSet::new();
    for (at, fault) in plan(world) {
        tokio::time::sleep_until((begun + at).into()).await;
        match fault {
            Fault::Cut { relay, way, time } => {
                done.cuts += 1;
                world.diary.note(format!("relay {relay} is cut ({way:?}) for {time:?}"));
                let cut = move |relay: &Relay| way.map_or_else(|| relay.cut(), |way| relay.cut_way(way));
                spells.spawn(spell(world.clone(), relay, time, cut));
            }
            Fault::Spoil { relay, time } => {
                done.spoils += 1;
                world.diary.note(format!("relay {relay} spoils datagrams for {time:?}"));
                let spoil = |rules: &mut Rules| {
                    (rules.loss, rules.duplicates, rules.reordered) = (0.05, 0.1, 0.1);
                };
                spells.spawn(spell(world.clone(), relay, time, move |relay: &Relay| relay.rules_both(spoil)));
            }
            Fault::Rebind { relay } => {
                done.rebinds += 1;
                world.diary.note(format!("the clients of relay {relay} get new addresses"));
                world.relays()[relay].rebind();
            }
            Fault::Kill => {
                world.diary.note("the server is killed");
                node.kill().await;
                let log = Purges::read(&node.home().data());
                let log =
                    log.map_err(|error| Finding::new(Kind::Down, "the log", format!("it cannot be read: {error}")))?;
                done.purges += log.since(purged);
                done.shortened += usize::from(log.last() > 0);
                purged = purged.max(log.last());
                // The harness panics if it does not start, and has said why.
                if AssertUnwindSafe(node.restart()).catch_unwind().await.is_err() {
                    return Err(Finding::new(Kind::Down, "the server", "it does not start after a kill"));
                }
                done.kills += 1;
                done.stored += usize::from(began_from_disk(node).await);
                world.diary.note("the server is back");
            }
        }
    }
    while spells.join_next().await.is_some() {}
    tokio::time::sleep_until((begun + world.options.time()).into()).await;
    Ok(done)
}

/// Whether a server that was just started began from a state on disk that was not empty: what it has applied since does not
/// make up for its revision, since a command makes one at most.
async fn began_from_disk(node: &Node) -> bool {
    // What is counted as a revision and not yet as a command.
    const UNDER_WAY: f64 = 64.0;
    // Commands are counted later, so that what is applied meanwhile speaks against it.
    let revision = node.metric("hither_revision").await;
    let applied = node.metric("hither_commands_applied_total").await;
    revision.zip(applied).is_some_and(|(revision, applied)| revision > applied + UNDER_WAY)
}

/// Does something to a relay, and undoes it after a while.
async fn spell(world: World, relay: usize, time: Duration, cast: impl FnOnce(&Relay) + Send) {
    cast(&world.relays()[relay]);
    tokio::time::sleep(time).await;
    world.relays()[relay].heal();
}
