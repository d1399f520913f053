//! What the process keeps of memory that a burst took and nobody uses any more.
//!
//! The C library gives every thread a share of its own, and lets its bounds grow with the largest piece that was ever freed:
//! after one burst it would keep tens of megabytes in every share.

/// Pieces from this size on are taken from the system one by one and given back when they are freed: a block of RocksDB's
/// tables in memory, the rows of a write; no message or batch of the usual size.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const PIECE_BYTES: libc::c_int = 1 << 20;
/// What a share may keep at its end.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const END_BYTES: libc::c_int = 128 << 10;

/// Bounds what is kept. For the main function of a server, before it does anything.
pub fn bound() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the C library's own function, which the standard library has not")]
        // SAFETY: it takes numbers and no pointer. What it does not understand it leaves as it is.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, PIECE_BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, END_BYTES);
        }
    }
}

/// Gives the system back whole pages in the midst of what is used. It may take some milliseconds, so it is for times when
/// nothing goes on.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the C library's own function, which the standard library has not")]
        // SAFETY: it takes no pointer, may be called from any thread at any time, and locks what it walks.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
