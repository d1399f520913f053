//! Processes that end in good order around a state that is still open.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::{env, fs, thread};

use common::*;
use hither_state::device::{RowChange, Space, StateDevice};

/// How many steps the child's threads begin before it ends.
const STEPS: &str = "HITHER_STORAGE_TEST_STEPS";
/// Without what the end of a process does for it, one in twenty crashes.
const RUNS: usize = 60;

/// Leaves threads behind that go on with states, and ends the process in the middle of their steps: when so many were begun.
fn ends_while(go_on: impl Fn(&Path, &Sender<()>) + Clone + Send + 'static) {
    let Some(directory) = own_directory() else { return };
    let steps = env::var(STEPS).unwrap().parse().unwrap();
    // What a process needs once and for all is there.
    let (_log, mut state) = create(&directory.join("first"));
    state.flush().unwrap();
    drop(state);
    let (step, begun) = channel();
    for number in 0..4 {
        let (go_on, step, directory) = (go_on.clone(), step.clone(), directory.join(number.to_string()));
        fs::create_dir(&directory).unwrap();
        thread::spawn(move || go_on(&directory, &step));
    }
    assert_eq!(begun.iter().take(steps).count(), steps);
    std::process::exit(0);
}

#[test]
#[ignore = "a child of another test"]
fn child_that_ends_while_it_writes() {
    ends_while(|directory, step| {
        let (_log, mut state) = create(&directory.join("data"));
        for number in 0_u64.. {
            let row = RowChange::Put(Space::Kv, number.to_be_bytes().to_vec().into(), vec![7; 1000].into());
            state.write(&[row], b"meta").unwrap();
            if number % 16 == 0 {
                step.send(()).unwrap();
                state.flush().unwrap();
            }
        }
    });
}

#[test]
#[ignore = "a child of another test"]
fn child_that_ends_while_it_closes() {
    ends_while(|directory, step| {
        for number in 0.. {
            let devices = create(&directory.join(number.to_string()));
            step.send(()).unwrap();
            drop(devices);
        }
    });
}

#[test]
fn a_process_may_end_with_a_state_open() {
    for number in 0..RUNS {
        let directory = tempfile::tempdir().unwrap();
        let name = if number % 4 == 0 { "child_that_ends_while_it_writes" } else { "child_that_ends_while_it_closes" };
        let steps = 1 + number % 9;
        let done = child(name, directory.path()).env(STEPS, steps.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{name}, after {steps} steps: {}: {said}", done.status);
    }
}
