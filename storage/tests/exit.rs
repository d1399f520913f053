//! Processes that end in good order around a state that is still open.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs, thread};

use common::*;
use hither_state::device::{RowChange, Space, StateDevice};

const DIRECTORY: &str = "HITHER_STORAGE_TEST_DIRECTORY";
const DELAY: &str = "HITHER_STORAGE_TEST_DELAY";
/// Without what the end of a process does for it, one in ten crashes.
const RUNS: u32 = 40;

fn run(name: &str, directory: &Path, delay: Duration) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(DIRECTORY, directory)
        .env(DELAY, delay.as_micros().to_string())
        .output()
        .unwrap()
}

/// Leaves threads behind that go on with states, and ends the process.
fn ends_while(go_on: impl FnOnce(&Path) + Clone + Send + 'static) {
    let Some(directory) = env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let delay = env::var(DELAY).unwrap().parse().unwrap();
    // What a process needs once and for all is there.
    let (_log, mut state) = create(&directory.join("first"));
    state.flush().unwrap();
    drop(state);
    for number in 0..4 {
        let (go_on, directory) = (go_on.clone(), directory.join(number.to_string()));
        fs::create_dir(&directory).unwrap();
        thread::spawn(move || go_on(&directory));
    }
    thread::sleep(Duration::from_micros(delay));
    std::process::exit(0);
}

#[test]
#[ignore = "a child of another test"]
fn child_that_ends_while_it_writes() {
    ends_while(|directory| {
        let (_log, mut state) = create(&directory.join("data"));
        for number in 0_u64.. {
            let row = RowChange::Put(Space::Kv, number.to_be_bytes().to_vec().into(), vec![7; 1000].into());
            state.write(&[row], b"meta").unwrap();
            if number % 16 == 0 {
                state.flush().unwrap();
            }
        }
    });
}

#[test]
#[ignore = "a child of another test"]
fn child_that_ends_while_it_closes() {
    ends_while(|directory| {
        for number in 0.. {
            drop(create(&directory.join(number.to_string())));
        }
    });
}

#[test]
fn a_process_may_end_with_a_state_open() {
    for number in 0..RUNS {
        let directory = tempfile::tempdir().unwrap();
        let name = ["child_that_ends_while_it_writes", "child_that_ends_while_it_closes"][number as usize % 2];
        // Within two of its steps and their syncs.
        let delay = Duration::from_millis(1) * (number * 7 % 40);
        let done = run(name, directory.path(), delay);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{name}, after {delay:?}: {}: {said}", done.status);
    }
}
