//! Raft's own conformance suite over the log and the state machine, on disks in memory.

use hither_state::device::{MemoryLog, MemoryState};

#[test]
fn log_and_state_machine_keep_rafts_contract() {
    hither_server::testing::store_suite(|| (MemoryLog::default(), MemoryState::default(), ())).expect("keeps it");
}
