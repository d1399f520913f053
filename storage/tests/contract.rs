//! The devices on disk keep the same contract as those in memory.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use common::{create, open};
use hither_state::device::contract;

#[test]
fn the_log_on_disk_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    contract::log(|| open(&path).unwrap().0);
}

#[test]
fn the_state_on_disk_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    contract::state(|| open(&path).unwrap().1);
}
