//! Which workloads run, in which order, and whose turn it is.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::kept::Kept;
use crate::pace::Pace;
use crate::process::Server;
use crate::report::{Page, Section, has_lost};
use crate::target::System;
use crate::workload::closed_loop::{self, Op};
use crate::workload::{Figures, applied, burst, distinct, event, fan_out, idle, instances, keys, list, start};
use crate::{Run, limits, machine};

/// A workload: how to run it on a fresh server.
#[derive(Clone, Copy)]
enum Work {
    Loop {
        op: Op,
        in_flight: usize,
        connections: usize,
    },
    Event,
    /// Of Hither alone: no other system tells when it applied what.
    Applied,
    FanOut {
        watchers: usize,
        connections: usize,
    },
    Distinct {
        watchers: usize,
        connections: usize,
    },
    Burst {
        watchers: usize,
        puts: usize,
    },
    Instances {
        instances: usize,
    },
    Idle,
    Keys {
        keys: usize,
    },
    List {
        keys: usize,
    },
    Start,
}

impl Work {
    fn is_for(self, system: System) -> bool {
        system == System::Hither || !matches!(self, Self::Applied)
    }
}

/// What the machine allows for the same.
#[derive(Clone, Copy)]
enum Limit {
    Echo {
        in_flight: usize,
    },
    Push {
        streams: usize,
        connections: usize,
    },
    /// With the sync of a put.
    Relay,
}

struct Row {
    section: &'static str,
    name: &'static str,
    work: Work,
    limit: Option<Limit>,
}

impl Row {
    /// Whose turn it is in each round.
    fn turns(&self, systems: &[System], with_limit: bool) -> Vec<Turn> {
        let systems = systems.iter().filter(|system| self.work.is_for(**system)).map(|&system| Turn::System(system));
        systems.chain(self.limit.filter(|_| with_limit).map(Turn::Limit)).collect()
    }
}

/// One of a round.
enum Turn {
    System(System),
    Limit(Limit),
}

impl Turn {
    fn name(&self) -> &'static str {
        match self {
            Self::System(system) => system.name(),
            Self::Limit(_) => BARE,
        }
    }

    async fn take(&self, run: &Run, row: &Row) -> anyhow::Result<Figures> {
        match *self {
            Self::System(system) => turn(run, system, row.work).await,
            Self::Limit(limit) => limit_turn(run, limit).await,
        }
    }
}

const fn closed(section: &'static str, name: &'static str, op: Op, in_flight: usize, connections: usize) -> Row {
    // One connection's worth of echo is the limit of a request; puts wait for the disk as well.
    let limit = if connections == 1 { Some(Limit::Echo { in_flight }) } else { None };
    Row { section, name, work: Work::Loop { op, in_flight, connections }, limit }
}

/// The name of the limits in the tables.
const BARE: &str = "bare QUIC";
const PUT: &str = "Put, 256 bytes, durable";
const GET: &str = "Linearizable get, 256 bytes";
const WATCH: &str = "Watch";
const FAN_OUT: &str = "Fan-out: watchers of one key over 10 connections";
const KEYS: &str = "Keys: filling the store, and a put and its event once it is full";

const fn fan_out(name: &'static str, watchers: usize) -> Row {
    let limit = if watchers == 10_000 { Some(Limit::Push { streams: watchers, connections: 10 }) } else { None };
    Row { section: FAN_OUT, name, work: Work::FanOut { watchers, connections: 10 }, limit }
}

const fn keys(name: &'static str, keys: usize) -> Row {
    Row { section: KEYS, name, work: Work::Keys { keys }, limit: None }
}

const ROWS: &[Row] = &[
    closed(PUT, "put, 1 in flight", Op::Put, 1, 1),
    closed(PUT, "put, 64 in flight, 1 connection", Op::Put, 64, 1),
    closed(PUT, "put, 64 in flight, 8 connections", Op::Put, 64, 8),
    closed(PUT, "put, 256 in flight, 1 connection", Op::Put, 256, 1),
    closed(PUT, "put, 256 in flight, 8 connections", Op::Put, 256, 8),
    closed(GET, "get, 1 in flight", Op::Get, 1, 1),
    closed(GET, "get, 64 in flight, 1 connection", Op::Get, 64, 1),
    closed(GET, "get, 64 in flight, 8 connections", Op::Get, 64, 8),
    closed(GET, "get, 256 in flight, 1 connection", Op::Get, 256, 1),
    closed(GET, "get, 256 in flight, 8 connections", Op::Get, 256, 8),
    Row { section: WATCH, name: "put to event, 200 puts/s", work: Work::Event, limit: Some(Limit::Relay) },
    Row {
        section: "Watch: from apply at the server to the callback",
        name: "apply to event, 200 puts/s",
        work: Work::Applied,
        limit: None,
    },
    fan_out("fan-out, 1 watcher", 1),
    fan_out("fan-out, 100 watchers", 100),
    fan_out("fan-out, 1,000 watchers", 1_000),
    fan_out("fan-out, 10,000 watchers", 10_000),
    fan_out("fan-out, 50,000 watchers", 50_000),
    Row {
        section: "Fan-out: 10,000 watchers of 10,000 keys over 10 connections",
        name: "distinct keys, 10,000 watchers",
        work: Work::Distinct { watchers: 10_000, connections: 10 },
        limit: None,
    },
    Row {
        section: "Burst: one writer at full speed, 64 in flight",
        name: "burst, 1,000 watchers",
        work: Work::Burst { watchers: 1_000, puts: 2_048 },
        limit: None,
    },
    Row {
        section: "Instances, a lease of 10 s each, kept alive over ten connections",
        name: "10,000 instances",
        work: Work::Instances { instances: 10_000 },
        limit: None,
    },
    Row {
        section: "Put, 256 in flight, beside idle watchers, in turns on one server",
        name: "puts beside idle watchers",
        work: Work::Idle,
        limit: None,
    },
    keys("1,000 keys", 1_000),
    keys("100,000 keys", 100_000),
    keys("1,000,000 keys", 1_000_000),
    Row { section: "List", name: "list 100,000 keys", work: Work::List { keys: 100_000 }, limit: None },
    Row { section: "Start", name: "start on an empty directory", work: Work::Start, limit: None },
];

/// Runs the plan and writes the page.
pub(crate) async fn run(run: &Run) -> anyhow::Result<()> {
    let mut systems = vec![System::Hither];
    if cfg!(feature = "etcd") && run.etcd.exists() {
        systems.push(System::Etcd);
    } else {
        eprintln!("etcd is not measured: no {}, or built without the feature `etcd`", run.etcd.display());
    }
    let is_left_out = |name: &str| run.without.iter().any(|without| without.eq_ignore_ascii_case(name));
    systems.retain(|system| !is_left_out(system.name()));
    let mut page = Page::new(machine::describe(run), run.rounds, run.seconds);
    let mut kept = Kept::open(&run.kept, run.seconds)?;
    let mut pace = Pace::new(60 * Duration::from_secs(run.patience.into()));
    let (mut failed, mut resumed) = (Vec::new(), 0);
    let is_asked_for = |row: &&Row| {
        let is_skipped = run.skip.iter().any(|skip| row.name.contains(skip));
        !is_skipped && run.only.as_deref().is_none_or(|only| row.name.contains(only))
    };
    for row in ROWS.iter().filter(is_asked_for) {
        let mut section = Section::new(row.section, row.name);
        for round in 1..=run.rounds {
            let turns = row.turns(&systems, !is_left_out(BARE));
            if let Some(known) = kept.round(row.name, turns.iter().map(Turn::name), round) {
                known.into_iter().for_each(|(name, figures)| section.add(name, figures));
                resumed += 1;
                continue;
            }
            let measured = measure(run, row, round, &turns, &mut pace, &mut failed).await?;
            for (name, figures) in measured {
                kept.keep(row.name, name, round, &figures)?;
                section.add(name, figures);
            }
        }
        page.push(section);
    }
    let failed = if failed.is_empty() { String::new() } else { format!("Failed once: {}.", failed.join("; ")) };
    let resumed = match resumed {
        0 => String::new(),
        rounds => format!("The run was cut off and resumed: of {rounds} rounds from before nothing is said here."),
    };
    page.remark([pace.describe(), failed, resumed]);
    if run.only.is_some() {
        print!("{}", page.render());
        return Ok(());
    }
    std::fs::write(&run.out, page.render()).with_context(|| format!("cannot write {}", run.out.display()))?;
    eprintln!("wrote {}", run.out.display());
    kept.forget()
}

/// The figures of one round, in which the machine kept its pace.
async fn measure(
    run: &Run,
    row: &Row,
    round: usize,
    turns: &[Turn],
    pace: &mut Pace,
    failed: &mut Vec<String>,
) -> anyhow::Result<Vec<(&'static str, Figures)>> {
    loop {
        pace.ready().await?;
        let began = Instant::now();
        let mut measured = Vec::new();
        for turn in turns {
            let mut figures = turn.take(run, row).await;
            // On a machine that stands still for seconds leases end and requests time out. Hither has no second chance.
            if let (Turn::System(System::Etcd) | Turn::Limit(_), Err(error)) = (turn, &figures) {
                eprintln!("{} {round} {}: once more: {error:#}", row.name, turn.name());
                failed.push(format!("{} on {} ({error:#})", row.name, turn.name()));
                figures = turn.take(run, row).await;
            }
            let figures =
                figures.with_context(|| format!("{} on {}, round {round} of {}", row.name, turn.name(), run.rounds))?;
            eprintln!("{} {round} {}: {figures:.3?}", row.name, turn.name());
            measured.push((turn.name(), figures));
            pace.look().await?;
        }
        // What was lost or doubled counts, however quick the machine was.
        if measured.iter().any(|(_, figures)| has_lost(figures)) || pace.was_steady(began) {
            return Ok(measured);
        }
        eprintln!("{} {round}: once more, since the machine changed its pace", row.name);
    }
}

/// One workload on one fresh server.
async fn turn(run: &Run, system: System, work: Work) -> anyhow::Result<Figures> {
    let start = || {
        let mut server = match work {
            Work::Applied => Server::hither_logging(&run.hither, applied::FILTER)?,
            _ => system.start(run)?,
        };
        server.ends_gently = run.end_gently;
        anyhow::Ok(server)
    };
    let server = start()?;
    match work {
        Work::Loop { op, in_flight, connections } => {
            closed_loop::run(system, &server, op, in_flight, connections, run.seconds).await
        }
        Work::Event => event::run(system, &server, run.seconds).await,
        Work::Applied => applied::run(&server, run.seconds).await,
        Work::FanOut { watchers, connections } => fan_out::run(system, &server, watchers, connections).await,
        Work::Distinct { watchers, connections } => distinct::run(system, &server, watchers, connections).await,
        Work::Idle => idle::run(system, &server, run.seconds).await,
        Work::Keys { keys } => keys::run(system, &server, keys, run.seconds).await,
        Work::Burst { watchers, puts } => burst::run(system, &server, watchers, puts).await,
        Work::Instances { instances } => instances::run(system, &server, instances).await,
        Work::List { keys } => list::run(system, &server, keys).await,
        Work::Start => start::run(system, server, start).await,
    }
}

async fn limit_turn(run: &Run, limit: Limit) -> anyhow::Result<Figures> {
    let server = Server::limits()?;
    match limit {
        Limit::Echo { in_flight } => limits::echo_loop(&server, in_flight, run.seconds).await,
        Limit::Push { streams, connections } => limits::push_rounds(&server, streams, connections).await,
        Limit::Relay => limits::relay_paced(&server, event::puts(run.seconds), event::PUTS_PER_SECOND).await,
    }
}
