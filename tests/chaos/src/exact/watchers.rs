//! Watchers of every kind: each hands what its application is told to a judge of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hither::{Client, Filter, KeyRange, Mode, Revision, Start, Update, Watch};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

use super::keys;
use super::world::World;
use crate::finding::{Finding, Kind};
use crate::judge::{Flaw, Judge, Judged, Spec, show};
use crate::ledger::Opening;

/// What a finding shows of what came before it.
const RECENT: usize = 6;

/// Who watches what, and how.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    pub(crate) number: usize,
    range: KeyRange,
    mode: Mode,
    filter: Filter,
    previous: bool,
    min_interval: Duration,
    habit: Habit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Begins with a snapshot and stays.
    Stays,
    /// The same, but stops reading now and then.
    Dozes,
    /// Opens another watch every few seconds: from now, from where it was, from an old revision, from one whose history
    /// is gone, from one that is yet to come.
    Wanders,
    /// Opens one from now on, when nobody writes any more: it must begin exactly where history is.
    Late,
}

impl Character {
    /// The kinds take turns, so that every run has all of them.
    pub(crate) fn drawn(number: usize, rng: &mut SmallRng) -> Self {
        let habit = match number % 5 {
            0 | 1 => Habit::Stays,
            2 => Habit::Dozes,
            _ => Habit::Wanders,
        };
        let every = Filter::default();
        let filter = match number % 7 {
            1 | 4 => Filter { liveness: true, ..every },
            // Half of what happens: such a watcher has no use for a snapshot.
            5 if habit == Habit::Wanders => Filter { deletes: false, ..every },
            6 if habit == Habit::Wanders => Filter { puts: false, ..every },
            _ => every,
        };
        let range = if number % 14 == 4 { KeyRange::prefix("b/") } else { keys::range(number, rng) };
        Self {
            number,
            range,
            mode: if number % 3 == 2 { Mode::Latest } else { Mode::Every },
            filter,
            previous: number.is_multiple_of(4),
            min_interval: if number % 9 == 8 { Duration::from_millis(100) } else { Duration::ZERO },
            habit,
        }
    }

    /// One who comes when nobody writes any more.
    pub(crate) fn late(number: usize, rng: &mut SmallRng) -> Self {
        Self {
            number,
            range: keys::range(number, rng),
            mode: Mode::Every,
            filter: Filter::default(),
            previous: false,
            min_interval: Duration::ZERO,
            habit: Habit::Late,
        }
    }

    /// Another watcher of the same: on the same client they share a stream.
    pub(crate) fn twin(&self, number: usize) -> Self {
        Self { number, ..self.clone() }
    }

    fn spec(&self, start: Start) -> Spec {
        let Self { range, mode, filter, previous, .. } = self.clone();
        Spec { range, start, mode, filter, previous }
    }
}

/// A watcher at work, and what its judge has said so far.
#[derive(Clone)]
pub(crate) struct Watcher {
    pub(crate) character: Character,
    bench: Arc<Mutex<Bench>>,
}

/// Where the judge sits.
#[derive(Default)]
struct Bench {
    judge: Option<Judge>,
    /// Of the watches before.
    before: Judged,
    opened: u64,
    /// Updates that wait to be judged.
    waiting: usize,
    recent: VecDeque<String>,
}

enum Evidence {
    Opened(Spec, Revision),
    Told(Update, Instant),
}

impl Watcher {
    /// Watches until watchers are to stop.
    pub(crate) fn start(world: &World, client: Client, character: Character) -> Self {
        let watcher = Self { character, bench: Arc::default() };
        let (evidence, received) = mpsc::unbounded_channel();
        tokio::spawn(watcher.clone().watch(world.clone(), client, evidence));
        tokio::spawn(watcher.clone().judge(world.clone(), received));
        watcher
    }

    pub(crate) fn name(&self) -> String {
        let Character { number, range, mode, filter, habit, .. } = &self.character;
        let mut kinds = [(filter.puts, "puts"), (filter.deletes, "deletes"), (filter.liveness, "liveness")].to_vec();
        kinds.retain(|(wanted, _)| *wanted);
        let kinds: Vec<&str> = kinds.iter().map(|(_, kind)| *kind).collect();
        format!("watcher {number} ({range:?}, {mode:?}, {}, {habit:?})", kinds.join("+"))
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.bench.lock().judge.is_some()
    }

    /// All that it was told, in numbers, and how many watches it opened.
    pub(crate) fn judged(&self) -> (Judged, u64) {
        let bench = self.bench.lock();
        (sum(bench.before, bench.judge.as_ref().map(|judge| judge.judged).unwrap_or_default()), bench.opened)
    }

    /// What it has yet to be told of, if anything.
    pub(crate) fn owes(&self, world: &World) -> Option<String> {
        let bench = self.bench.lock();
        let Some(judge) = &bench.judge else { return Some("it never opened".to_owned()) };
        if bench.waiting > 0 {
            let head = world.truth.head();
            return Some(format!("{} updates are of revisions after {head}, which nobody else saw", bench.waiting));
        }
        let owed = judge.owes(&world.truth.read())?;
        Some(format!("it is at {}, and was not told of {owed}", judge.position()))
    }

    /// Compares what its application knows with the last list.
    pub(crate) fn conclude(
        &self,
        list: &std::collections::BTreeMap<hither::Key, hither::Entry>,
    ) -> Result<(), Finding> {
        let bench = self.bench.lock();
        let Some(judge) = &bench.judge else { return Ok(()) };
        judge.conclude(list).map_err(|flaw| self.finding(flaw, &bench))
    }

    async fn watch(self, world: World, client: Client, evidence: mpsc::UnboundedSender<Evidence>) {
        let mut rng = SmallRng::seed_from_u64(world.options.seed ^ (self.character.number as u64) << 20);
        let over = world.watched();
        let mut over = std::pin::pin!(over);
        let mut last = Revision::ZERO;
        loop {
            let start = self.begin(&world, last, &mut rng);
            let spec = self.character.spec(start);
            let opening = client.watch(spec.range.clone()).start(start).mode(spec.mode).filter(spec.filter);
            let opening = opening.min_interval(self.character.min_interval);
            let opening = if spec.previous { opening.previous() } else { opening };
            let opened = tokio::select! {
                opened = opening.into_future() => opened,
                () = &mut over => return,
            };
            // No server answers; the next attempt may find one.
            let Ok(mut watch) = opened else { continue };
            let revision = watch.revision();
            if start == Start::Now {
                world.ledger.opened(Opening { who: self.name(), revision, told: Instant::now() });
            }
            // The judge is there for as long as this end of the channel.
            let _ = evidence.send(Evidence::Opened(spec, revision));
            let wanders = self.character.habit == Habit::Wanders;
            let stay = Duration::from_millis(rng.random_range(1_500..6_000));
            let stay = if wanders { stay } else { Duration::MAX };
            tokio::select! {
                () = &mut over => return,
                () = self.read(&world, &mut watch, &evidence, &mut rng) => return,
                () = tokio::time::sleep(stay.min(Duration::from_secs(86_400))) => {}
            }
            last = watch.revision();
            if !world.is_writing() {
                // The last one stays to the end.
                tokio::select! {
                    () = over => {}
                    () = self.read(&world, &mut watch, &evidence, &mut rng) => {}
                }
                return;
            }
        }
    }

    /// Hands over what the application is told. Returns if the watch ends, which none should.
    async fn read(
        &self,
        world: &World,
        watch: &mut Watch,
        evidence: &mpsc::UnboundedSender<Evidence>,
        rng: &mut SmallRng,
    ) {
        loop {
            match watch.next().await {
                Some(Ok(update)) => {
                    self.bench.lock().waiting += 1;
                    let _ = evidence.send(Evidence::Told(update, Instant::now()));
                }
                end => {
                    world.findings.tell(Finding::new(Kind::Stuck, self.name(), format!("the watch ended: {end:?}")));
                    return;
                }
            }
            if self.character.habit == Habit::Dozes && world.is_writing() && rng.random_bool(0.02) {
                tokio::time::sleep(Duration::from_millis(rng.random_range(500..3_000))).await;
            }
        }
    }

    fn begin(&self, world: &World, last: Revision, rng: &mut SmallRng) -> Start {
        match self.character.habit {
            Habit::Stays | Habit::Dozes => return Start::Snapshot,
            Habit::Late => return Start::Now,
            Habit::Wanders => {}
        }
        let head = world.truth.head().0;
        let back =
            |revisions: u64| Start::After(Revision(head.saturating_sub(revisions).max(world.truth.read().base().0)));
        match rng.random_range(0..10) {
            0..2 => Start::Now,
            2..5 if last > Revision::ZERO => Start::After(last),
            2..7 => back(rng.random_range(0..200)),
            7..9 => back(rng.random_range(2_000..6_000)),
            _ => Start::After(Revision(head + rng.random_range(10..60))),
        }
    }

    async fn judge(self, world: World, mut received: mpsc::UnboundedReceiver<Evidence>) {
        while let Some(evidence) = received.recv().await {
            let judged = match evidence {
                Evidence::Opened(spec, revision) => self.opened(spec, revision),
                Evidence::Told(update, at) => {
                    world.truth.reached(update.revision).await;
                    self.told(&world, &update, at)
                }
            };
            if let Err(flaw) = judged {
                let finding = self.finding(flaw, &self.bench.lock());
                return world.findings.tell(finding);
            }
        }
    }

    fn opened(&self, spec: Spec, revision: Revision) -> Result<(), Flaw> {
        let mut bench = self.bench.lock();
        let Bench { judge, before, opened, recent, .. } = &mut *bench;
        remember(recent, format!("opened from {:?}, at {revision}", spec.start));
        *opened += 1;
        if let Some(judge) = judge.take() {
            *before = sum(*before, judge.judged);
        }
        *judge = Some(Judge::opened(spec, revision)?);
        Ok(())
    }

    fn told(&self, world: &World, update: &Update, at: Instant) -> Result<(), Flaw> {
        let mut bench = self.bench.lock();
        let Bench { judge, waiting, recent, .. } = &mut *bench;
        *waiting -= 1;
        let Some(judge) = judge else { return Ok(()) };
        let before = judge.position();
        let age = world.diary.elapsed().saturating_sub(at.elapsed());
        let Update { kind, revision, folded, events } = update;
        let folded = if *folded { " folded" } else { "" };
        remember(
            recent,
            format!("{:8.3} s  {}{folded} ({before}, {revision}]: {}", age.as_secs_f64(), kind.as_str(), show(events)),
        );
        judge.judge(&world.truth.read(), update)
    }

    fn finding(&self, (kind, what): Flaw, bench: &Bench) -> Finding {
        let recent: Vec<String> = bench.recent.iter().map(|line| format!("  {line}")).collect();
        Finding::new(kind, self.name(), what).with(&format!("what it was told last:\n{}", recent.join("\n")))
    }
}

fn remember(recent: &mut VecDeque<String>, line: String) {
    if recent.len() == RECENT {
        recent.pop_front();
    }
    recent.push_back(line);
}

pub(crate) fn sum(one: Judged, other: Judged) -> Judged {
    Judged {
        updates: one.updates + other.updates,
        events: one.events + other.events,
        snapshots: one.snapshots + other.snapshots,
        resets: one.resets + other.resets,
        folded: one.folded + other.folded,
        liveness: one.liveness + other.liveness,
        transactions: one.transactions + other.transactions,
        forgotten: one.forgotten + other.forgotten,
    }
}
