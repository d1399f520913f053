//! The kernel, asked without the functions that this library stands in for.

use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use libc::{c_int, c_long, stat};

thread_local! {
    /// Whether this thread is at work in here: what it calls meanwhile is its own business.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, unless this thread is at work in here already.
pub(crate) fn once_inside<T>(work: impl FnOnce() -> T) -> Option<T> {
    INSIDE.with(|inside| {
        if inside.replace(true) {
            return None;
        }
        let errno = errno();
        let done = work();
        set_errno(errno);
        inside.set(false);
        Some(done)
    })
}

/// A system call with its result as the C library gives it: -1, and the reason in `errno`.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: the arguments are those that the caller of the C library's function vouches for.
        unsafe { libc::syscall($number $(, $argument)*) }
    };
}
pub(crate) use call;

pub(crate) fn errno() -> c_int {
    // SAFETY: the C library gives each thread its own, valid as long as the thread lives.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value }
}

/// -1, with this reason.
pub(crate) fn refuse(reason: c_int) -> c_long {
    set_errno(reason);
    -1
}

/// What a descriptor is, if it is open.
pub(crate) fn stat_of(fd: RawFd) -> Option<stat> {
    let mut found = std::mem::MaybeUninit::<stat>::uninit();
    // SAFETY: `fstat` fills it where it returns 0.
    (unsafe { libc::fstat(fd, found.as_mut_ptr()) } == 0).then(|| unsafe { found.assume_init() })
}

/// What a name is, the link itself where it is one.
pub(crate) fn stat_at(directory: RawFd, path: &CStr) -> Option<stat> {
    let mut found = std::mem::MaybeUninit::<stat>::uninit();
    // SAFETY: `path` ends with a zero byte; `fstatat` fills the rest where it returns 0.
    let result = unsafe { libc::fstatat(directory, path.as_ptr(), found.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    (result == 0).then(|| unsafe { found.assume_init() })
}

pub(crate) fn is_regular(of: &stat) -> bool {
    of.st_mode & libc::S_IFMT == libc::S_IFREG
}

pub(crate) fn is_directory(of: &stat) -> bool {
    of.st_mode & libc::S_IFMT == libc::S_IFDIR
}

/// Where a descriptor was opened, as far as it still has that name.
pub(crate) fn path_of(fd: RawFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}"))
}

/// Nanoseconds of the monotonic clock, which all processes share.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it is filled.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
