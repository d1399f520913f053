//! The conformance suite: one set of scenarios that every language passes. See README.md beside this crate.

mod cast;
mod driver;
mod driving;
mod fault;
mod faults;
mod judge;
mod language;
mod matching;
mod pages;
mod play;
mod report;
mod requirements;
mod run;
mod scenario;
mod stage;
mod vars;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

use crate::language::Language;
use crate::report::Report;
use crate::requirements::Known;
use crate::run::{Outcome, Plan};
use crate::scenario::Scenario;
use crate::world::Folders;

#[derive(Parser)]
#[command(about = "Plays the conformance scenarios in every language and judges them")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play scenarios
    Run(RunArgs),
    /// Check scenarios, requirements and known failures without playing
    Check,
    /// Be the driver of Rust
    Driver,
}

#[derive(clap::Args)]
struct RunArgs {
    /// Only scenarios whose id or area contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these languages; all that are here if none is named
    #[arg(long, value_delimiter = ',')]
    languages: Vec<Language>,
    /// Languages that must be here
    #[arg(long, value_delimiter = ',')]
    require: Vec<Language>,
    /// Every pair of languages, not as many as it takes to have had each
    #[arg(long)]
    full: bool,
    /// Scenarios played at once: most of their time is waiting
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Write the results here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the tables of the documentation; without it, a whole run checks that they are current
    #[arg(long)]
    write: bool,
    /// Say of each run that it passed, and how long it took
    #[arg(long, short)]
    verbose: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Driver => driver::serve().await,
        Command::Check => {
            let (scenarios, _) = load()?;
            println!("{} scenarios, all of them make sense; every requirement is shown", scenarios.len());
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(args) => run_all(args).await,
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load() -> anyhow::Result<(Vec<Scenario>, Known)> {
    let scenarios = scenario::load(&here("scenarios"))?;
    requirements::check(&requirements::load(&here("requirements.md"))?, &scenarios)?;
    let known = Known::load(&here("known-failing"), &scenarios)?;
    Ok((scenarios, known))
}

async fn run_all(args: RunArgs) -> anyhow::Result<ExitCode> {
    let (mut scenarios, known) = load()?;
    let whole = args.only.is_empty();
    if !whole {
        let asked = |scenario: &Scenario| {
            args.only.iter().any(|part| scenario.id.contains(part) || scenario.area.contains(part))
        };
        scenarios.retain(asked);
        ensure!(!scenarios.is_empty(), "no scenario is named like {}", args.only.join(" or "));
    }
    let folders = Arc::new(Folders::new()?);
    let asked = if args.languages.is_empty() { Language::ALL.to_vec() } else { args.languages };
    let mut languages = BTreeMap::new();
    for (language, hello) in run::hellos(&asked, &folders).await {
        match hello {
            Ok(hello) => drop(languages.insert(language, hello)),
            Err(error)
                if args.require.contains(&language) || args.require.is_empty() && language.command().is_some() =>
            {
                return Err(error);
            }
            Err(error) => println!("{} is left out: {error:#}", language.title()),
        }
    }
    let missing: Vec<_> = args.require.iter().filter(|language| !languages.contains_key(*language)).collect();
    ensure!(missing.is_empty(), "not here: {missing:?}");
    ensure!(!languages.is_empty(), "there is no language to play in");

    let complete = whole && languages.len() == Language::ALL.len();
    let plan = Plan { scenarios, languages, full: args.full, jobs: args.jobs.max(1) };
    let begin = Instant::now();
    let verbose = args.verbose;
    let played = run::run(&plan, &folders, |plan, played| {
        let scenario = &plan.scenarios[played.scenario];
        match &played.outcome {
            Outcome::Failed(fault) => println!("FAIL {} ({}): {fault}", scenario.id, played.cast.show()),
            _ if verbose => println!("ok   {} ({}) {:?}", scenario.id, played.cast.show(), played.took),
            _ => {}
        }
    })
    .await;

    let report = Report::new(&plan, &played, &known);
    print!("{}", report.summary());
    println!("{} scenarios in {:.0?}", plan.scenarios.len(), begin.elapsed());
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(path, text + "\n").with_context(|| format!("{}", path.display()))?;
    }
    let mut faults = report.faults();
    if faults.is_empty() && complete && !args.full {
        for page in pages::of(&report)? {
            if args.write {
                page.write()?;
            } else if !page.is_current() {
                faults.push(format!("{} is not what this run says: run it again with --write", page.name));
            }
        }
    } else if args.write {
        faults.push("pages are written only after a whole run in every language that succeeded".to_owned());
    }
    for fault in &faults {
        println!("{fault}");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
