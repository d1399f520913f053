//! Processes that are killed, and processes that come second.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, io};

use common::*;
use hither_state::device::{LogDevice, LogItem, LogReader, LogRecord, RowChange, Space, StateDevice};

fn start(name: &str, directory: &Path) -> Child {
    child(name, directory).stdout(Stdio::piped()).spawn().unwrap()
}

/// Tells the parent, in a line of its own whatever the test harness writes.
fn tell(line: &str) {
    let mut out = io::stdout().lock();
    out.write_all(format!("\ntold {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Reads what the child tells until there have been `count`, kills it, and reads what it had told until then.
fn kill_after(mut child: Child, count: usize) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    let mut next = || lines.by_ref().map(Result::unwrap).find_map(|line| Some(line.strip_prefix("told ")?.to_owned()));
    while told.len() < count {
        told.push(next().expect("the child goes on until it is killed"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    told.extend(std::iter::from_fn(next));
    told
}

#[test]
#[ignore = "a child of another test"]
fn child_that_appends() {
    let Some(directory) = own_directory() else { return };
    let (mut log, _state) = open(&directory).unwrap();
    let recovered = log.recover().unwrap();
    let mut next = recovered.range.map_or(1, |(_, last)| last + 1);
    loop {
        // Runs of several lengths, now and then a vote, and records that nobody is told of.
        let count = next % 7 + 1;
        let records = (next..next + count).map(|index| LogRecord { index, payload: payload(index) });
        let items = [LogItem::Append(records.collect()), LogItem::Vote((next + count - 1).to_string().into())];
        let sync = next % 3 != 0;
        log.write(if sync { &items } else { &items[..1] }, sync).unwrap();
        next += count;
        if sync {
            tell(&(next - 1).to_string());
        }
    }
}

#[test]
fn a_killed_process_has_lost_nothing_that_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    let mut acknowledged = 0;
    for round in 1..=5 {
        let told = kill_after(start("child_that_appends", &path), 100 * round);
        let told: Vec<u64> = told.iter().map(|line| line.parse().unwrap()).collect();
        assert!(told.is_sorted() && told[0] > acknowledged, "acknowledged in order, and no index twice");
        acknowledged = *told.last().unwrap();

        let (mut log, _state) = open(&path).unwrap();
        let recovered = log.recover().unwrap();
        let (first, last) = indexes(&log).unwrap();
        assert_eq!(recovered.range, Some((first, last)));
        assert_eq!(first, 1);
        assert!(last >= acknowledged, "round {round}: {acknowledged} was acknowledged, {last} is the last");
        let vote: u64 = String::from_utf8(recovered.vote.unwrap().to_vec()).unwrap().parse().unwrap();
        assert!((acknowledged..=last).contains(&vote), "the vote of the last acknowledged write or a later one");
        acknowledged = last;
    }
}

#[test]
#[ignore = "a child of another test"]
fn child_that_writes_state() {
    let Some(directory) = own_directory() else { return };
    let (_log, mut state) = open(&directory).unwrap();
    let at = state.meta().unwrap().map_or(0, |meta| String::from_utf8(meta.to_vec()).unwrap().parse().unwrap());
    for number in at + 1_u64.. {
        // Every space says the same number, with enough bytes around it for many flushes by RocksDB itself.
        let put = |space| RowChange::Put(space, "number".into(), number.to_string().into());
        let filler = RowChange::Put(Space::Kv, number.to_string().into(), vec![0; 10_000].into());
        let changes: Vec<_> = Space::ALL.into_iter().map(put).chain([filler]).collect();
        state.write(&changes, number.to_string().as_bytes()).unwrap();
        if number % 10 == 0 {
            state.flush().unwrap();
            tell(&number.to_string());
        }
    }
}

#[test]
fn a_killed_process_leaves_a_state_of_one_moment_and_not_before_the_last_flush() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    for round in 1..=4 {
        let told = kill_after(start("child_that_writes_state", &path), 5 * round);
        let flushed: u64 = told.last().unwrap().parse().unwrap();
        let (_log, state) = open(&path).unwrap();
        let meta = state.meta().unwrap().unwrap();
        let number: u64 = String::from_utf8(meta.to_vec()).unwrap().parse().unwrap();
        assert!(number >= flushed, "{flushed} was flushed, {number} is there");
        for space in Space::ALL {
            let mut found = None;
            let mut fillers = 0;
            let mut visit = |key: &[u8], value: &[u8]| {
                if key == b"number" {
                    found = Some(value.to_vec())
                } else {
                    fillers += 1
                }
                Ok(())
            };
            state.scan(space, &mut visit).unwrap();
            assert_eq!(found.as_deref(), Some(&meta[..]), "{space:?} is of the moment of the meta row");
            assert_eq!(fillers, if space == Space::Kv { number } else { 0 });
        }
    }
}

#[test]
#[ignore = "a child of another test"]
fn child_that_holds() {
    let Some(directory) = own_directory() else { return };
    let _held = open(&directory).unwrap();
    loop {
        tell("held");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_second_process_is_told_which_one_was_first_and_may_follow_when_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    let mut holder = start("child_that_holds", &path);
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap() == "told held").unwrap().unwrap();

    let error = open(&path).map(drop).unwrap_err();
    assert!(error.to_string().contains(&format!("in use by process {}", holder.id())), "{error}");
    assert_eq!(error.exit_code(), 75);

    holder.kill().unwrap();
    holder.wait().unwrap();
    let (log, _state) = open(&path).unwrap();
    assert!(log.reader().read(0, 9, 9).unwrap().is_empty());
}

#[test]
#[ignore = "a child of another test"]
fn child_that_fills_its_disk() {
    let Some(directory) = own_directory() else { return };
    let (mut log, _state) = open(&directory).unwrap();
    let mut next = 1;
    while log.write(&[append(next)], true).is_ok() {
        tell(&next.to_string());
        next += 1;
    }
    tell(&format!("refused {next}"));
    // The server ends here. If it did not, it would not get any further.
    assert!(log.write(&[append(next)], true).is_err());
    tell("refused again");
    std::process::abort();
}

#[test]
fn a_write_that_the_disk_refuses_is_an_error_for_good_and_costs_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    // No file may grow beyond 100 KiB, and the attempt is an error instead of a signal.
    let limited = format!("trap '' XFSZ; ulimit -f 100; exec {:?} \"$@\"", env::current_exe().unwrap());
    let output = Command::new("bash")
        .args(["-c", &limited, "bash", "--ignored", "--exact", "--nocapture", "child_that_fills_its_disk"])
        .env(DIRECTORY, &path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    let told: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("told ")).collect();
    let [.., acknowledged, refused, "refused again"] = told[..] else { panic!("{output}") };
    let acknowledged: u64 = acknowledged.parse().unwrap();
    assert!(acknowledged > 100);
    assert_eq!(refused, format!("refused {}", acknowledged + 1));

    let (mut log, _state) = open(&path).unwrap();
    let last = indexes(&log).unwrap().1;
    assert!(last == acknowledged || last == acknowledged + 1, "{last} is the last, {acknowledged} was acknowledged");
    append_each(&mut log, last + 1..=last + 10, true);
}
