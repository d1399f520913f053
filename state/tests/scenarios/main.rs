//! Scenarios: commands in, transcript out.
//!
//! Each TOML file here is one story in steps: `do` is what is asked, a command a line; `says` is what the state answers
//! and changes. `UPDATE_EXPECT=1 cargo test -p hither-state --test scenarios` rewrites what they say; read the diff.

#![expect(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod language;
mod transcript;
mod world;

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    about: String,
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    note: String,
    #[serde(rename = "do")]
    commands: String,
    #[serde(default)]
    says: String,
}

fn play(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(name).with_extension("toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut world = World::default();
    let mut played = format!("about = \"{}\"\n", scenario.about);
    let mut wrong = String::new();
    for step in &scenario.step {
        let mut says = String::new();
        for line in step.commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            writeln!(says, "> {line}").unwrap();
            says += &world.take(line).unwrap_or_else(|why| panic!("{}: `{line}`: {why}", path.display()));
        }
        if says != step.says {
            writeln!(wrong, "\n{}\n--- expected\n{}--- got\n{says}", step.note, step.says).unwrap();
        }
        let commands = step.commands.trim();
        write!(played, "\n[[step]]\nnote = \"{}\"\ndo = '''\n{commands}\n'''\nsays = '''\n{says}'''\n", step.note)
            .unwrap();
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, played).unwrap();
    } else {
        assert!(wrong.is_empty(), "{} (UPDATE_EXPECT=1 rewrites it)\n{wrong}", path.display());
    }
}

#[test]
fn kv() {
    play("kv");
}

#[test]
fn txn() {
    play("txn");
}

#[test]
fn lease() {
    play("lease");
}

#[test]
fn session() {
    play("session");
}

#[test]
fn floor() {
    play("floor");
}

#[test]
fn limits() {
    play("limits");
}
