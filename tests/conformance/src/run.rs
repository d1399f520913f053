//! Plays every scenario in every cast, several at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;

use crate::cast::{Cast, casts};
use crate::driving::Hello;
use crate::fault::Fault;
use crate::language::Language;
use crate::play::play;
use crate::scenario::{Scenario, Server};
use crate::world::{Folders, Lane, start_driver};

/// A whole run's longest: a step that hangs is ended by its own bound, and so is each; this is for what is not a step.
const PLAY: Duration = Duration::from_secs(180);

/// What to play.
pub(crate) struct Plan {
    /// In the order of the files.
    pub(crate) scenarios: Vec<Scenario>,
    /// Those that are here, with what they said.
    pub(crate) languages: BTreeMap<Language, Hello>,
    /// Every pair of languages.
    pub(crate) full: bool,
    /// Scenarios played at once.
    pub(crate) jobs: usize,
}

/// One scenario in one cast.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    /// Its place in the plan.
    pub(crate) scenario: usize,
    /// Who played.
    pub(crate) cast: Cast,
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// How long it took.
    pub(crate) took: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Everything was as it should be.
    Passed,
    /// Something was not.
    Failed(String),
    /// A language of the cast has no such thing.
    Unsupported(String),
}

/// Starts a driver of each language and notes what it can do. What is not there is returned with its reason.
pub(crate) async fn hellos(languages: &[Language], folders: &Folders) -> BTreeMap<Language, anyhow::Result<Hello>> {
    let mut hellos = BTreeMap::new();
    for &language in languages {
        let hello = start_driver(language, folders).await.map(|process| process.hello.clone());
        hellos.insert(language, hello);
    }
    hellos
}

/// Plays the plan; `told` hears of each run that ended.
pub(crate) async fn run(plan: &Plan, folders: &Arc<Folders>, told: impl Fn(&Plan, &Played)) -> Vec<Played> {
    let (mut ended, queue) = casting(plan);
    let queue = Mutex::new(queue);
    let lanes = (0..plan.jobs).map(|number| {
        let (queue, told) = (&queue, &told);
        let mut lane = Lane::new(number, Arc::clone(folders));
        async move {
            let mut ended = Vec::new();
            loop {
                let next = queue.lock().pop_front();
                let Some((run, scenario, cast)) = next else { return ended };
                let begin = Instant::now();
                let playing = play(&mut lane, &plan.scenarios[scenario], &cast, run);
                let outcome = match tokio::time::timeout(PLAY, playing).await {
                    Ok(Ok(())) => Outcome::Passed,
                    Ok(Err(Fault::Unsupported(why))) => Outcome::Unsupported(why),
                    Ok(Err(fault)) => Outcome::Failed(fault.to_string()),
                    Err(_) => Outcome::Failed(format!("not over within {PLAY:?}")),
                };
                let played = Played { scenario, cast, outcome, took: begin.elapsed() };
                told(plan, &played);
                ended.push(played);
            }
        }
    });
    // Lanes wait for servers and drivers nearly all of the time: they share a thread.
    ended.extend(join_all(lanes).await.into_iter().flatten());
    ended.sort_by_key(|played| played.scenario);
    ended
}

type Queue = VecDeque<(usize, usize, Cast)>;

/// What cannot be played, and the rest in the order in which it begins: those that wait longest first.
fn casting(plan: &Plan) -> (Vec<Played>, Queue) {
    let languages: Vec<Language> = plan.languages.keys().copied().collect();
    let (mut out, mut first, mut then) = (Vec::new(), Queue::new(), Queue::new());
    let (mut turn, mut run) = (0, 0);
    for (index, scenario) in plan.scenarios.iter().enumerate() {
        for cast in casts(scenario, &languages, turn, plan.full) {
            if let Some(why) = lacking(plan, scenario, &cast) {
                let outcome = Outcome::Unsupported(why);
                out.push(Played { scenario: index, cast, outcome, took: Duration::ZERO });
                continue;
            }
            run += 1;
            let queue = if scenario.server == Server::Own { &mut first } else { &mut then };
            queue.push_back((run, index, cast));
        }
        turn += usize::from(scenario.actors.len() > 1);
    }
    first.append(&mut then);
    (out, first)
}

/// What a language of the cast has no operation for.
fn lacking(plan: &Plan, scenario: &Scenario, cast: &Cast) -> Option<String> {
    cast.0.iter().find_map(|(actor, language)| {
        let hello = plan.languages.get(language)?;
        let lacking = scenario.ops_of(actor).into_iter().find(|op| !hello.ops.contains(*op))?;
        Some(format!("{language} has no {lacking}"))
    })
}
