//! The checker checked: each planted bug must be found, and for what it is; without one, nothing must be found.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use hither_protocol::planted::{Bug, VARIABLE};

use crate::finding::Kind;

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
        Bug::DroppedEvent | Bug::ResumeOffByOne => &[Kind::Missing],
        Bug::DoubledEvent => &[Kind::Doubled],
        Bug::ResetWithoutDeletes => &[Kind::Difference],
        Bug::EventBeforeCommit => {
            &[Kind::Lost, Kind::Phantom, Kind::Missing, Kind::Doubled, Kind::Difference, Kind::Down]
        }
        Bug::EarlyExpiry => &[Kind::Early],
        Bug::RetryAppliedTwice => &[Kind::Twice, Kind::Lost],
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
        let (seconds, seed) = (options.seconds.to_string(), options.seed.to_string());
        let run = Command::new(&checker)
            .args(["exact", "--seconds", &seconds, "--seed", &seed, "--cuts", "60", "--kills", "4"])
            .env(VARIABLE, name(bug))
            .env("HITHER_BIN", &server)
            .output();
        let output = match run {
            Ok(output) => output,
            Err(error) => {
                eprintln!("the checker does not run: {error}");
                return ExitCode::FAILURE;
            }
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let finding = said.lines().find(|line| Kind::ALL.iter().any(|kind| line.starts_with(&format!("{kind:?}: "))));
        let right = match bug {
            Some(bug) => {
                let is = |kind: &Kind| finding.is_some_and(|line| line.starts_with(&format!("{kind:?}: ")));
                !output.status.success() && expected(bug).iter().any(is)
            }
            None => output.status.success(),
        };
        let verdict = match (right, bug) {
            (true, Some(_)) => "caught",
            (true, None) => "exact",
            (false, _) => "NOT AS IT MUST BE",
        };
        println!("{:<24}{verdict:<20}{:>4.0} s  {}", name(bug), begun.elapsed().as_secs_f64(), finding.unwrap_or("-"));
        if !right {
            println!("{said}{}", String::from_utf8_lossy(&output.stderr));
        }
        passed &= right;
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
