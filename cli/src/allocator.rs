//! The allocator of the program: jemalloc, for Rust and for RocksDB alike. What it saves is in docs/performance.md.
//!
//! Elsewhere than on x86-64 Linux it is the system's: jemalloc is built for one size of pages, and other processors have several.

use std::ffi::c_char;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Where jemalloc looks for its settings before anything runs.
///
/// Few shares, and small caches of each thread: what a burst leaves behind in them counts with ten thousand idle leases.
/// Memory that nobody uses is given back after a second, by a thread of its own.
#[expect(unsafe_code, reason = "the name is jemalloc's, which reads it when the first memory is asked for")]
// SAFETY: no other symbol of the program has this name, and it is what jemalloc declares it as: a pointer to a C string.
#[unsafe(export_name = "malloc_conf")]
static SETTINGS: Settings =
    Settings(c"narenas:4,lg_tcache_max:12,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true".as_ptr());

#[repr(transparent)]
struct Settings(*const c_char);

#[expect(unsafe_code, reason = "a pointer to a constant may be read by every thread")]
// SAFETY: the string is a constant, and nobody writes to it.
unsafe impl Sync for Settings {}
