//! What stands where on the control page. The library and whoever tests with it compile this one file, since nobody can
//! be linked with the library.

/// A number's place on the page: eight bytes each, in the order of the machine.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Place {
    /// Not 0: a sync says that all is well, and does nothing.
    Swallow,
    /// The how many-th sync from now fails, once; 0: none.
    FailSync,
    /// Not 0: every write and every new file is refused with this `errno`.
    RefuseWrites,
    /// Microseconds that each sync takes longer.
    DelaySyncs,
    /// Which syncs `Swallow` and `FailSync` mean: 0 all, 1 those of the log, 2 those of the state.
    Target,
    /// Syncs so far.
    Syncs,
    /// Writes so far.
    Writes,
    /// When a sync failed: nanoseconds of the monotonic clock.
    FailedAt,
    /// Syncs of the same file since one of it failed.
    Repeated,
    /// Files of the log that were removed so far.
    Removed,
}
