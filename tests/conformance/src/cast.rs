//! Who plays whom: a scenario of one actor in every language, one of several over pairs of languages.

use std::collections::{BTreeMap, BTreeSet};

use crate::language::Language;
use crate::scenario::Scenario;

/// A language for each actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cast(pub(crate) BTreeMap<String, Language>);

impl Cast {
    /// The languages that take part.
    pub(crate) fn languages(&self) -> BTreeSet<Language> {
        self.0.values().copied().collect()
    }

    /// As it is shown: `reader=node writer=rust`.
    pub(crate) fn show(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(actor, language)| format!("{actor}={language}")).collect();
        pairs.join(" ")
    }

    /// The ordered pairs of languages in it: that of an actor and that of one after it.
    pub(crate) fn pairs(&self) -> BTreeSet<(Language, Language)> {
        let languages: Vec<Language> = self.0.values().copied().collect();
        let after = |first: usize| languages.iter().skip(first + 1);
        let pairs =
            languages.iter().enumerate().flat_map(|(place, first)| after(place).map(|second| (*first, *second)));
        pairs.collect()
    }
}

/// The casts of a scenario. `turn`: how many scenarios of several actors came before it; with each of them the pairing
/// moves on by one, so that four of them have played every pair of four languages, in both orders. `full`: every pair.
pub(crate) fn casts(scenario: &Scenario, languages: &[Language], turn: usize, full: bool) -> Vec<Cast> {
    let count = languages.len();
    let shifts: Vec<usize> = match (scenario.actors.len(), full) {
        (1, _) => vec![0],
        (_, false) => vec![turn % count.max(1)],
        (_, true) => (0..count).collect(),
    };
    let one = |shift: usize, first: usize| {
        let language = |position: usize| languages[(first + position * shift) % count];
        let actors = scenario.actors.keys().enumerate();
        Cast(actors.map(|(position, actor)| (actor.clone(), language(position))).collect())
    };
    shifts.into_iter().flat_map(|shift| (0..count).map(move |first| one(shift, first))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(actors: &str) -> Scenario {
        toml::from_str(&format!("id = 'x'\ntitle = 'x'\ncites = ['HC-001']\nactors = {actors}\nsteps = []"))
            .expect("it reads")
    }

    #[test]
    fn one_actor_plays_in_every_language() {
        let casts = casts(&scenario("{ a = {} }"), &Language::ALL, 3, false);
        let played: Vec<Language> = casts.iter().map(|cast| cast.0["a"]).collect();
        assert_eq!(played, Language::ALL);
    }

    #[test]
    fn four_scenarios_of_two_actors_play_every_pair() {
        let two = scenario("{ a = {}, b = {} }");
        let mut pairs = BTreeSet::new();
        for turn in 0..4 {
            let casts = casts(&two, &Language::ALL, turn, false);
            assert_eq!(casts.len(), 4);
            pairs.extend(casts.iter().flat_map(Cast::pairs));
        }
        assert_eq!(pairs.len(), 16);
        assert_eq!(casts(&two, &Language::ALL, 0, true).len(), 16);
    }
}
