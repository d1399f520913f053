//! What wakes an event loop: an eventfd that it polls, or a condition that a thread of Python's waits for.

use std::io;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How often a waiting thread looks whether the program ends.
const LOOK: Duration = Duration::from_millis(50);

pub(super) enum Bell {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Event(std::os::fd::OwnedFd),
    Condition {
        state: Mutex<State>,
        changed: Condvar,
    },
}

#[derive(Default)]
pub(super) struct State {
    rung: bool,
    silenced: bool,
}

impl Bell {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn new(threaded: bool) -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        if threaded {
            return Ok(Self::condition());
        }
        Ok(Self::Event(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn new(_threaded: bool) -> io::Result<Self> {
        Ok(Self::condition())
    }

    fn condition() -> Self {
        Self::Condition { state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn fd(&self) -> Option<i32> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Event(fd) => Some(std::os::fd::AsRawFd::as_raw_fd(fd)),
            Self::Condition { .. } => None,
        }
    }

    pub(super) fn ring(&self) {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Event(fd) => {
                // It fails only at 2^64 - 2 unread rings.
                let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
            }
            Self::Condition { state, changed } => {
                state.lock().rung = true;
                changed.notify_one();
            }
        }
    }

    /// What was rung was heard.
    pub(super) fn hush(&self) {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Event(fd) => {
                // Nothing to read is silence already.
                let _ = rustix::io::read(fd, &mut [0u8; 8]);
            }
            Self::Condition { state, .. } => state.lock().rung = false,
        }
    }

    /// Waits until it rings. False once it is silenced, or as soon as `over` says so.
    pub(super) fn wait(&self, over: impl Fn() -> bool) -> bool {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Event(_) => false,
            Self::Condition { state, changed } => {
                let mut state = state.lock();
                loop {
                    if state.silenced || over() {
                        return false;
                    }
                    if std::mem::take(&mut state.rung) {
                        return true;
                    }
                    changed.wait_for(&mut state, LOOK);
                }
            }
        }
    }

    /// It never rings again.
    pub(super) fn silence(&self) {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Event(_) => {}
            Self::Condition { state, changed } => {
                state.lock().silenced = true;
                changed.notify_all();
            }
        }
    }
}
