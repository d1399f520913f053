//! The control page: a file, shared with whoever tests, of numbers that tell this disk what to do and how it went.
//!
//! The other side is `tests/faults/src/disk.rs`.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::place::Place;

const PLACES: usize = 16;

/// The page.
pub(crate) struct Control(&'static [AtomicU64; PLACES]);

impl Control {
    /// Maps the page. None if the file is not there.
    pub(crate) fn open(path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
        // SAFETY: the path ends with a zero byte.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd < 0 {
            return None;
        }
        let bytes = PLACES * size_of::<AtomicU64>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, which is never taken away; the file is at least a page long.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0) };
        // SAFETY: it is ours, and the mapping does not need it.
        unsafe { libc::close(fd) };
        // SAFETY: the mapping is as long as the array, page-aligned, and only ever read and written by atomics.
        (page != libc::MAP_FAILED).then(|| Self(unsafe { &*page.cast() }))
    }

    pub(crate) fn get(&self, place: Place) -> u64 {
        self.0[place as usize].load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, place: Place, value: u64) {
        self.0[place as usize].store(value, Ordering::SeqCst);
    }

    pub(crate) fn count(&self, place: Place) {
        self.0[place as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Counts down; whether this was the last.
    pub(crate) fn is_due(&self, place: Place) -> bool {
        let down = |left: u64| left.checked_sub(1);
        self.0[place as usize].fetch_update(Ordering::SeqCst, Ordering::SeqCst, down) == Ok(1)
    }
}
