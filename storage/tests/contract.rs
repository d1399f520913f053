//! The devices on disk keep the same contract as those in memory.

use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_state::device::contract;
use hither_storage::{DataDir, Identity};

const IDENTITY: Identity =
    Identity { cluster: ClusterId(*b"0123456789abcdef"), node: NodeId(1), created: UnixMillis(1_790_000_000_000) };

#[test]
fn the_log_on_disk_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(DataDir::create(&path, IDENTITY).unwrap());
    contract::log(|| DataDir::open(&path, None).unwrap().into_devices().0);
}

#[test]
fn the_state_on_disk_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(DataDir::create(&path, IDENTITY).unwrap());
    contract::state(|| DataDir::open(&path, None).unwrap().into_devices().1);
}
