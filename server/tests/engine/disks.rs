//! Disks that a test can crash, stall and break.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hither_server::engine::{Engine, EngineConfig, StartError};
use hither_state::device::{LogDevice, LogItem, MemoryLog, MemoryLogReader, MemoryState, Recovered};
use parking_lot::{Condvar, Mutex};

/// A node's disks, which outlive it.
#[derive(Clone, Default)]
pub(crate) struct Disks {
    pub(crate) log: MemoryLog,
    pub(crate) state: MemoryState,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    is_broken: AtomicBool,
    is_stalled: Mutex<bool>,
    goes_on: Condvar,
}

impl Disks {
    pub(crate) async fn start(&self, config: EngineConfig) -> Engine {
        self.try_start(config).await.expect("starts")
    }

    pub(crate) async fn try_start(&self, config: EngineConfig) -> Result<Engine, StartError> {
        let log = FaultyLog { log: self.log.clone(), faults: self.faults.clone() };
        Engine::start(config, log, self.state.clone()).await
    }

    /// Other disks, with what a power failure now would leave.
    pub(crate) fn after_crash(&self) -> Self {
        Self { log: self.log.after_crash(), state: self.state.after_crash(), faults: Arc::default() }
    }

    /// The log as it is, beside an empty state.
    pub(crate) fn without_state(&self) -> Self {
        Self { state: MemoryState::default(), ..self.clone() }
    }

    /// Every write of the log fails from now on.
    pub(crate) fn break_log(&self) {
        self.faults.is_broken.store(true, Ordering::Release);
    }

    /// Writes of the log wait from now on.
    pub(crate) fn stall_log(&self) {
        *self.faults.is_stalled.lock() = true;
    }

    /// They no longer do.
    pub(crate) fn resume_log(&self) {
        *self.faults.is_stalled.lock() = false;
        self.faults.goes_on.notify_all();
    }

    /// Who holds the log, this one included.
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.faults)
    }
}

struct FaultyLog {
    log: MemoryLog,
    faults: Arc<Faults>,
}

impl LogDevice for FaultyLog {
    type Reader = MemoryLogReader;

    fn recover(&mut self) -> io::Result<Recovered> {
        self.log.recover()
    }

    fn reader(&self) -> MemoryLogReader {
        self.log.reader()
    }

    fn write(&mut self, items: &[LogItem], sync: bool) -> io::Result<()> {
        let mut is_stalled = self.faults.is_stalled.lock();
        self.faults.goes_on.wait_while(&mut is_stalled, |is_stalled| *is_stalled);
        if self.faults.is_broken.load(Ordering::Acquire) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.log.write(items, sync)
    }
}
