//! Raft's own conformance suite over the log and the state machine, on the disks that ship.

use std::fs;
use std::time::Duration;

use hither_protocol::{ClusterId, NodeId, UnixMillis};
use hither_storage::{DataDir, Identity};
use hither_tests::wait::until;

/// Our threads of this process.
fn threads() -> impl Iterator<Item = String> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has it");
    let name = |task: std::io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("hither"))
}

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
    // The last states are closed on threads of their own; what RocksDB shares among them must not go before.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(until("all states are closed", Duration::from_secs(10), async || {
        threads().next().is_none().then_some(())
    }));
}
