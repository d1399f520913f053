//! The same judges over a simulation: the real state, hub and lessor of the server and the real core of the client, joined
//! by a network that is drawn from a seed, on one clock. Thousands of cuts and crashes in seconds, and each of them again
//! with the same seed.

mod client;
mod figures;
mod requests;
mod server;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hither::{Key, KeyRange, Revision, Update, UpdateKind};
use hither_protocol::Moment;
use hither_protocol::message::{LeaseGrant, LeaseKind, LeaseRenew, Reply};
use hither_state::watch::HubConfig;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::finding::{Finding, Kind};
use crate::history::Truth;
use crate::ledger::{Condition, Ledger, OpId, Outcome, Plan, value};
use crate::verdict;
use client::{Client, Granted, Told, draw};
use figures::Figures;
use requests::{request, told, write};
use server::{Server, events};

const CLIENTS: usize = 5;
/// Turns of the storm.
const TURNS: usize = 2_500;
/// Turns within which all comes to rest.
const CALM: usize = 20_000;
/// Seeds in which everything happens.
const ENOUGH: u64 = 20;
/// Longest time that passes at once: the lessor takes a second for a stop of the process.
const NAP_MS: u64 = 300;

/// Which seeds.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
}

/// Plays every seed, until one has a finding.
pub(crate) fn run(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let mut all = Figures::default();
    for seed in options.seed..options.seed + options.seeds {
        match Sim::new(seed).play() {
            Ok(figures) => all.add(&figures),
            Err(finding) => {
                println!("seed {seed}: NOT exact");
                println!("{finding}");
                println!("again: hither-chaos sim --seed {seed} --seeds 1");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{all}");
    if let Some(what) = all.missing().filter(|_| options.seeds >= ENOUGH) {
        println!("Idle: the simulation: no {what}, so that nothing is proved");
        return ExitCode::FAILURE;
    }
    let (first, last) = (options.seed, options.seed + options.seeds - 1);
    println!("seeds {first} to {last}: exact, in {:.0} s", begun.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// One of the keys in play.
fn key(rng: &mut SmallRng) -> Key {
    format!("{}/{}", ["a", "b", "bb"][rng.random_range(0..3)], rng.random_range(0..5)).into()
}

/// What an answer is about.
enum Asked {
    Op(OpId),
    Grant(Duration, Moment),
    Renew(Granted, Moment),
}

struct Sim {
    rng: SmallRng,
    begun: Instant,
    now: Moment,
    server: Server,
    clients: Vec<Client>,
    truth: Truth,
    ledger: Ledger,
    asked: BTreeMap<(usize, u64), Asked>,
    leases: Vec<Granted>,
    /// The highest floor there was.
    floor: Revision,
    figures: Figures,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let now = Moment(1_000_000_000);
        let config = HubConfig {
            history_bytes_max: rng.random_range(2_000..12_000),
            topic_bytes_max: rng.random_range(500..4_000),
            live_bytes_max: rng.random_range(2_000..8_000),
            page_bytes: rng.random_range(200..800),
            frame_bytes_max: rng.random_range(600..1_500),
            scan_max: rng.random_range(4..60),
            ..HubConfig::default()
        };
        let clients = (0..CLIENTS as u64).map(|number| Client::new(seed ^ (number + 1) << 32, now)).collect();
        let truth = Truth::new();
        let begun = Instant::now();
        let nothing =
            Update { revision: Revision::ZERO, kind: UpdateKind::Snapshot, events: Vec::new(), folded: false };
        truth.take(&nothing, begun).expect("history begins with nothing");
        let (ledger, figures) = (Ledger::default(), Figures::default());
        let (asked, leases) = (BTreeMap::new(), Vec::new());
        let server = Server::new(config, now);
        Self { rng, begun, now, server, clients, truth, ledger, asked, leases, floor: Revision::ZERO, figures }
    }

    fn play(mut self) -> Result<Figures, Finding> {
        for _ in 0..TURNS {
            self.turn();
            self.settle()?;
        }
        self.calm()?;
        self.conclude()
    }

    /// A moment of the simulation as one of the record.
    fn instant(&self) -> Instant {
        self.begun + Duration::from_nanos(self.now.0)
    }

    fn turn(&mut self) {
        let which = self.rng.random_range(0..self.clients.len());
        let now = self.now;
        match self.rng.random_range(0..1_000) {
            0..110 => self.write(which),
            110..150 => self.lease(which),
            150..160 => self.watch(which),
            160..165 => self.clients[which].doze(&mut self.rng, now),
            165..175 => self.figures.cuts += u64::from(self.clients[which].cut(&mut self.server, now)),
            175 => self.crash(),
            176..190 => self.server.trim(now),
            190..250 => {
                let nap = Duration::from_millis(self.rng.random_range(0..NAP_MS));
                self.sleep(nap);
            }
            250..330 => self.server.sync(now),
            330..360 => self.clients[which].dialed(&mut self.server, now),
            360..560 => self.clients[which].deliver_up(&mut self.server, 0.7, &mut self.rng, now),
            560..760 => {
                let bytes_max = self.rng.random_range(1..3_000);
                self.clients[which].serve(&mut self.server, bytes_max, now);
            }
            _ => self.clients[which].deliver_down(&mut self.server, 0.5, &mut self.rng, now),
        }
    }

    fn crash(&mut self) {
        self.figures.crashes += 1;
        self.floor = self.floor.max(self.server.floor());
        for client in &mut self.clients {
            client.cut(&mut self.server, self.now);
        }
        self.server.crash(self.now);
    }

    fn sleep(&mut self, time: Duration) {
        let until = self.now + time;
        for client in &mut self.clients {
            let mut at = self.now;
            while let Some(next) = client.core.poll_timeout().filter(|next| *next <= until) {
                at = at.max(next);
                client.core.handle_timeout(at);
            }
            client.core.handle_timeout(until);
        }
        self.now = until;
        self.server.tend(until);
    }

    fn watch(&mut self, which: usize) {
        let ids: Vec<u64> = self.clients[which].watches.keys().copied().collect();
        let mut last = None;
        if ids.len() >= 4 || !ids.is_empty() && self.rng.random_bool(0.3) {
            let id = ids[self.rng.random_range(0..ids.len())];
            if let Some((judge, position)) = self.clients[which].close(id, self.now) {
                self.figures.count(&judge.judged);
                last = Some(position);
            }
        }
        let (spec, min_interval_ms) = draw(&mut self.rng, last, self.truth.head());
        self.figures.watches += 1;
        self.clients[which].open(spec, min_interval_ms, self.truth.head(), self.now);
    }

    fn write(&mut self, which: usize) {
        let rng = &mut self.rng;
        let plan = |id: OpId| match rng.random_range(0..10) {
            0..5 => write(None, vec![(key(rng), value(id, 0, 0))], Vec::new()),
            5..7 => {
                let (one, other) = (key(rng), key(rng));
                let puts = if one == other { vec![one] } else { vec![one, other] };
                let puts = puts.into_iter().enumerate().map(|(part, key)| (key, value(id, part, 0))).collect();
                write(None, puts, Vec::new())
            }
            7 => {
                let key = key(rng);
                // What a client may have read some time ago.
                let at = Revision(self.truth.head().0.saturating_sub(rng.random_range(0..4)));
                let before = self.truth.read().entry(&key, at).map(|entry| entry.value.clone());
                let when = Some(Condition { key: key.clone(), value: before });
                write(when, vec![(key, value(id, 0, 0))], Vec::new())
            }
            8 => Plan::Delete(KeyRange::One(key(rng))),
            _ => Plan::Delete(KeyRange::prefix(["a/1", "b/", "bb/2"][rng.random_range(0..3)])),
        };
        let (id, plan) = self.ledger.begin(plan);
        self.ask(which, id, &plan);
    }

    /// Something with leases: they are granted, used, renewed and revoked, and left to end.
    fn lease(&mut self, which: usize) {
        let known = self.leases.len();
        let drawn = if known == 0 { 0 } else { self.rng.random_range(0..6) };
        // Those before have ended, more often than not.
        let lease = self.leases.get(if known == 0 { 0 } else { self.rng.random_range(known.saturating_sub(3)..known) });
        match (drawn, lease.copied()) {
            (0, _) | (_, None) => {
                let ttl = Duration::from_millis(self.rng.random_range(2_000..6_000));
                let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                let kind = if self.rng.random_bool(0.6) { LeaseKind::Bound } else { LeaseKind::Ttl };
                let id = self.clients[which].call(LeaseGrant { ttl_ms, kind }.into(), self.now);
                // Of one that is bound to a session only the server knows when it was last heard of.
                let ttl = if kind == LeaseKind::Bound { Duration::ZERO } else { ttl };
                self.asked.insert((which, id), Asked::Grant(ttl, self.now));
            }
            (1..4, Some(Granted { lease, .. })) => {
                let key: Key = format!("l/{}", self.rng.random_range(0..6)).into();
                let plan = |id| Plan::Write {
                    when: None,
                    puts: vec![(key, value(id, 0, 0))],
                    deletes: Vec::new(),
                    lease: Some(lease),
                };
                let (id, plan) = self.ledger.begin(plan);
                self.ask(which, id, &plan);
            }
            // One that is bound to a session lives by it.
            (4, Some(granted)) if !granted.ttl.is_zero() => {
                let id = self.clients[which].call(LeaseRenew { lease: granted.lease }.into(), self.now);
                self.asked.insert((which, id), Asked::Renew(granted, self.now));
            }
            (_, Some(Granted { lease, .. })) => {
                let (id, plan) = self.ledger.begin(|_| Plan::Revoke(lease));
                self.ask(which, id, &plan);
            }
        }
    }

    fn ask(&mut self, which: usize, op: OpId, plan: &Plan) {
        let id = self.clients[which].call(request(plan), self.now);
        self.ledger.ask(op, crate::ledger::Asked { at: self.instant(), after: self.truth.head() });
        self.asked.insert((which, id), Asked::Op(op));
    }

    /// Records what was committed and judges what was told.
    fn settle(&mut self) -> Result<(), Finding> {
        for which in 0..self.clients.len() {
            let news = self.clients[which].pump(&mut self.server);
            self.record()?;
            for told in news {
                match told {
                    Told::Answered(id, outcome) => self.answered(which, id, &outcome)?,
                    Told::Opened(id, revision) => {
                        self.judge(which, id, |watched, history| watched.opened(history, revision))?;
                    }
                    Told::Update(id, update) => {
                        self.has_a_reason(which, id, &update)?;
                        self.judge(which, id, |watched, history| watched.told(history, &update))?;
                    }
                    Told::Ended(id, why) => {
                        return Err(Finding::new(Kind::Stuck, format!("watch {id}"), format!("it ended: {why}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// A reset only comes if history after the watch's position was forgotten.
    fn has_a_reason(&mut self, which: usize, id: u64, update: &Update) -> Result<(), Finding> {
        // A process that died may have forgotten more than the one after it.
        self.floor = self.floor.max(self.server.floor());
        let Some(watched) = self.clients[which].watches.get(&id) else { return Ok(()) };
        match &watched.judge {
            Some(judge) if update.kind == UpdateKind::Reset && judge.position() >= self.floor => {
                let what = format!("a reset from {}, though history reaches back to {}", judge.position(), self.floor);
                Err(Finding::new(Kind::Difference, format!("client {which}, {}", watched.name()), what))
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self) -> Result<(), Finding> {
        let at = self.instant();
        for delta in std::mem::take(&mut self.server.committed) {
            let events = events(&delta);
            if events.is_empty() {
                continue;
            }
            let update = Update { revision: delta.revision, kind: UpdateKind::Changes, events, folded: false };
            self.truth.take(&update, at)?;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        which: usize,
        id: u64,
        judge: impl FnOnce(&mut client::Watched, &crate::history::History) -> Result<(), crate::judge::Flaw>,
    ) -> Result<(), Finding> {
        let history = self.truth.read();
        let Some(watched) = self.clients[which].watches.get_mut(&id) else { return Ok(()) };
        judge(watched, &history).map_err(|(kind, what)| {
            let recent: Vec<String> = watched.recent.iter().map(|line| format!("  {line}")).collect();
            let finding = Finding::new(kind, format!("client {which}, {}", watched.name()), what);
            finding.with(&format!("what it was told last:\n{}", recent.join("\n")))
        })
    }

    fn answered(&mut self, which: usize, id: u64, outcome: &Result<Reply, hither::Error>) -> Result<(), Finding> {
        self.figures.answers += 1;
        let at = |sent: Moment| self.begun + Duration::from_nanos(sent.0);
        match (self.asked.remove(&(which, id)), outcome) {
            (Some(Asked::Op(op)), outcome) => {
                let (outcome, head) = (Outcome::of(outcome, told), self.truth.head());
                if let Outcome::Done(revision) | Outcome::Nothing(revision) = outcome
                    && revision > head
                {
                    let what = format!("{op} was told of {revision}: {head} is the last that is committed");
                    return Err(Finding::new(Kind::Phantom, "the writers", what));
                }
                self.ledger.end(op, outcome, self.instant());
            }
            (Some(Asked::Grant(ttl, sent)), Ok(Reply::LeaseGrant(granted))) => {
                let lease = granted.lease;
                if !ttl.is_zero() {
                    self.ledger.heard(lease, ttl, at(sent));
                }
                self.leases.push(Granted { lease, ttl });
            }
            (Some(Asked::Grant(..)), Err(error)) => self.ledger.denied(None, error, self.instant()),
            (Some(Asked::Renew(Granted { lease, ttl }, sent)), Ok(_)) => self.ledger.heard(lease, ttl, at(sent)),
            (Some(Asked::Renew(Granted { lease, .. }, _)), Err(error)) => {
                self.ledger.denied(Some(lease), error, self.instant());
            }
            _ => {}
        }
        Ok(())
    }

    /// The storm is over: everything that can arrive, does, and time passes until all leases have ended.
    fn calm(&mut self) -> Result<(), Finding> {
        for client in &mut self.clients {
            client.wake(self.now);
        }
        // Those that are bound to a session would live as long as that.
        for (place, granted) in std::mem::take(&mut self.leases).into_iter().enumerate() {
            if granted.ttl.is_zero() {
                let (id, plan) = self.ledger.begin(|_| Plan::Revoke(granted.lease));
                self.ask(place % CLIENTS, id, &plan);
            }
        }
        let mut left = CALM;
        loop {
            for which in 0..self.clients.len() {
                let (client, server) = (&mut self.clients[which], &mut self.server);
                client.dialed(server, self.now);
                client.deliver_up(server, 0.9, &mut self.rng, self.now);
                server.sync(self.now);
                client.serve(server, 3_000, self.now);
                client.deliver_down(server, 0.9, &mut self.rng, self.now);
            }
            self.settle()?;
            let Some(open) = self.open() else { return Ok(()) };
            left -= 1;
            if left == 0 {
                return Err(Finding::new(Kind::Stuck, "the simulation", format!("does not come to rest: {open}")));
            }
            self.sleep(Duration::from_millis(20));
        }
    }

    /// What has not come to rest.
    fn open(&self) -> Option<String> {
        if !self.asked.is_empty() || !self.server.is_idle() {
            return Some("a request is not answered".to_owned());
        }
        let history = self.truth.read();
        if let Some(entry) = history.state().values().find(|entry| entry.lease.is_some()) {
            return Some(format!("{} has a lease", entry.key));
        }
        let watches = self.clients.iter().flat_map(|client| client.watches.values());
        let mut open = watches.filter_map(|watched| match &watched.judge {
            None => Some(format!("{} never opened", watched.name())),
            Some(judge) => {
                let owed = judge.owes(&history)?;
                Some(format!("{} is at {}, and was not told of {owed}", watched.name(), judge.position()))
            }
        });
        open.next()
    }

    fn conclude(mut self) -> Result<Figures, Finding> {
        let list: BTreeMap<Key, hither::Entry> =
            self.server.list().into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let history = self.truth.read();
        if *history.state() != list {
            return Err(Finding::new(Kind::Difference, "the server", "its last list is not where history ends"));
        }
        for client in &self.clients {
            let metrics = client.core.metrics();
            self.figures.reconnects += metrics.reconnects;
            self.figures.resumes += metrics.watch_resumes;
            self.figures.retries += metrics.retries;
            if metrics.watch_gaps > 0 {
                return Err(Finding::new(Kind::Missing, "a client", "it noticed a gap, though it repaired it"));
            }
            for watched in client.watches.values() {
                let Some(judge) = &watched.judge else { continue };
                judge.conclude(&list).map_err(|(kind, what)| Finding::new(kind, watched.name(), what))?;
                self.figures.count(&judge.judged);
            }
        }
        let writes = verdict::writes(&history, &self.ledger.close())?;
        self.figures.revisions = history.head().0;
        self.figures.expiries = writes.expiries;
        self.figures.refused = writes.refused;
        self.figures.leaseless = writes.leaseless;
        self.figures.compactions = self.server.compactions;
        self.figures.seeds = 1;
        Ok(self.figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watch_is_exact_through_cuts_crashes_and_compactions() {
        let mut all = Figures::default();
        for seed in 0..30 {
            match Sim::new(seed).play() {
                Ok(figures) => all.add(&figures),
                Err(finding) => panic!("seed {seed}: {finding}"),
            }
        }
        assert_eq!(all.missing(), None, "something never happened:\n{all}");
    }
}
