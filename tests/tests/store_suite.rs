//! Raft's own conformance suite over the log and the state machine, on the disks that ship.

use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_storage::{DataDir, Identity};

#[test]
fn log_and_state_machine_keep_rafts_contract_on_rocksdb() {
    let open = || {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let whose = Identity { cluster: ClusterId([7; 16]), node: NodeId(1), created: UnixMillis(0) };
        let data = DataDir::create(folder.path().join("data"), whose).expect("an empty directory takes a node");
        let (log, state) = data.into_devices();
        (log, state, folder)
    };
    hither_server::testing::store_suite(open).expect("keeps it");
}
