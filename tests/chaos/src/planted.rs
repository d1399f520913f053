//! The checker checked: each planted bug must be found, and for what it is; without one, nothing must be found.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use hither_protocol::planted::{Bug, VARIABLE};

use crate::finding::Kind;

/// Runs in which a bug must be found.
const SEEDS: u64 = 3;

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
        Bug::EventBeforeCommit => {
            &[Kind::Lost, Kind::Phantom, Kind::Missing, Kind::Doubled, Kind::Difference, Kind::Down]
        }
        Bug::EarlyExpiry => &[Kind::Early],
        Bug::RetryAppliedTwice => &[Kind::Twice],
    }
}

/// Runs the checker once with each bug, and once with none.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Ok(checker) = std::env::current_exe() else { return ExitCode::FAILURE };
    let server = options.server.clone().unwrap_or_else(|| checker.with_file_name("hither-planted"));
    let bugs = Bug::ALL.into_iter().map(Some).chain([None]);
    let name = |bug: Option<Bug>| bug.map_or("none", Bug::name);
    let mut passed = true;
    for bug in bugs.filter(|bug| options.only.as_ref().is_none_or(|only| only == name(*bug))) {
        let begun = Instant::now();
        let mut trial = Trial::default();
        // A bug that needs an unlucky moment gets several. Without a bug, one run is enough.
        let seeds = if bug.is_some() { SEEDS } else { 1 };
        for seed in options.seed..options.seed + seeds {
            trial = match try_once(&checker, &server, bug, seed, options.seconds) {
                Ok(trial) => trial,
                Err(error) => {
                    eprintln!("the checker does not run: {error}");
                    return ExitCode::FAILURE;
                }
            };
            if trial.right {
                break;
            }
        }
        let verdict = match (trial.right, bug) {
            (true, Some(_)) => "caught",
            (true, None) => "exact",
            (false, _) => "NOT AS IT MUST BE",
        };
        let took = begun.elapsed().as_secs_f64();
        println!("{:<24}{verdict:<20}{took:>4.0} s  {}", name(bug), trial.finding);
        if !trial.right {
            println!("{}", trial.said);
        }
        passed &= trial.right;
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of one run.
#[derive(Default)]
struct Trial {
    right: bool,
    finding: String,
    said: String,
}

fn try_once(checker: &Path, server: &Path, bug: Option<Bug>, seed: u64, seconds: u64) -> std::io::Result<Trial> {
    let output = Command::new(checker)
        .args(["exact", "--seconds", &seconds.to_string(), "--seed", &seed.to_string(), "--cuts", "60", "--kills", "6"])
        .env(VARIABLE, bug.map_or("none", Bug::name))
        .env("HITHER_BIN", server)
        .output()?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    let begins = |line: &str, kind: &Kind| line.starts_with(&format!("{kind:?}: "));
    let finding = said.lines().find(|line| Kind::ALL.iter().any(|kind| begins(line, kind)));
    let right = match bug {
        Some(bug) => {
            !output.status.success() && finding.is_some_and(|line| expected(bug).iter().any(|kind| begins(line, kind)))
        }
        None => output.status.success(),
    };
    let finding = finding.unwrap_or("-").to_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Trial { right, finding, said })
}
