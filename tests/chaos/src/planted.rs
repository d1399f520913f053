//! The checker checked: each planted bug must be found, and for what it is; without one, nothing must be found.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use hither_protocol::planted::{Bug, VARIABLE};

use crate::finding::Kind;

/// Runs in which a bug must be found.
const SEEDS: u64 = 3;
/// Seeds of the simulation in which a bug must be found.
const SIMULATED: &str = "60";

/// How each bug is looked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The server with the bugs; default: beside this program.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Seconds of each run that finds nothing.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The seed of all runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the bug of this name.
    #[arg(long)]
    only: Option<String>,
}

/// What a bug may be found as. Which of them depends on whom it strikes first: a watcher, or the reference reader, whose
/// history then does not fit what writers were told.
const fn expected(bug: Bug) -> &'static [Kind] {
    match bug {
        // Kept from the reference reader, it is what watchers were told and history lacks.
        Bug::DroppedEvent => &[Kind::Missing, Kind::Phantom, Kind::Lost],
        Bug::DoubledEvent => &[Kind::Doubled],
        Bug::ResumeOffByOne => &[Kind::Missing],
        Bug::ResetWithoutDeletes => &[Kind::Difference],
        Bug::EventBeforeCommit => &[Kind::Lost, Kind::Phantom, Kind::Missing, Kind::Doubled, Kind::Difference],
        Bug::EarlyExpiry => &[Kind::Early],
        Bug::RetryAppliedTwice => &[Kind::Twice],
        Bug::ConditionMissed => &[Kind::Lost],
        Bug::NowTooLate => &[Kind::Phantom],
        Bug::LeaseMissed => &[Kind::Early],
    }
}

/// Runs the checker with each bug, and once with none: the simulation, then real processes.
pub(crate) fn run(options: &Options) -> ExitCode {
    match try_all(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the checker does not run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_all(options: &Options) -> io::Result<bool> {
    let checker = std::env::current_exe()?;
    let server = options.server.clone().unwrap_or_else(|| checker.with_file_name("hither-planted"));
    let name = |bug: Option<Bug>| bug.map_or("none", Bug::name);
    let bugs = Bug::ALL.into_iter().map(Some).chain([None]);
    let mut passed = true;
    for bug in bugs.filter(|bug| options.only.as_ref().is_none_or(|only| only == name(*bug))) {
        let mut command = Command::new(&checker);
        command.args(["sim", "--seeds", SIMULATED, "--seed", &options.seed.to_string()]);
        passed &= Trial::of(bug, &mut command)?.report(name(bug), "simulated");

        // A bug that needs an unlucky moment gets several. Without a bug, one run is enough.
        let seeds = if bug.is_some() { SEEDS } else { 1 };
        let mut trial = None;
        for seed in options.seed..options.seed + seeds {
            let mut command = Command::new(&checker);
            command.args(["exact", "--cuts", "60", "--kills", "6", "--seed", &seed.to_string()]);
            command.args(["--seconds", &options.seconds.to_string()]).env("HITHER_BIN", &server);
            if trial.insert(Trial::of(bug, &mut command)?).right {
                break;
            }
        }
        passed &= trial.is_some_and(|trial| trial.report(name(bug), "real"));
    }
    Ok(passed)
}

/// What came of one run.
struct Trial {
    bug: Option<Bug>,
    right: bool,
    finding: String,
    said: String,
    took: Duration,
}

impl Trial {
    fn of(bug: Option<Bug>, command: &mut Command) -> io::Result<Self> {
        let begun = Instant::now();
        let output = command.env(VARIABLE, bug.map_or("none", Bug::name)).output()?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        let begins = |line: &str, kind: &Kind| line.starts_with(&format!("{kind:?}: "));
        let finding = said.lines().find(|line| Kind::ALL.iter().any(|kind| begins(line, kind)));
        let right = match (bug, finding) {
            (Some(bug), Some(line)) => expected(bug).iter().any(|kind| begins(line, kind)),
            (Some(_), None) => false,
            (None, _) => output.status.success(),
        };
        let finding = finding.unwrap_or("-").to_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Self { bug, right, finding, said, took: begun.elapsed() })
    }

    /// Says what came of it; returns whether it is as it must be.
    fn report(&self, name: &str, world: &str) -> bool {
        let verdict = match (self.right, self.bug) {
            (true, Some(_)) => "caught",
            (true, None) => "exact",
            (false, _) => "NOT AS IT MUST BE",
        };
        println!("{name:<24}{world:<12}{verdict:<20}{:>4.0} s  {}", self.took.as_secs_f64(), self.finding);
        if !self.right {
            println!("{}", self.said);
        }
        self.right
    }
}
