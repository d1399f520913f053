//! A disk that forgets, preloaded into a server with `LD_PRELOAD`.
//!
//! It stands between the process and the C library for one directory, and keeps beside it a [mirror]: what a
//! disk would hold if power failed now. A write is not in the mirror; `fsync` and `fdatasync` put it there, and a name
//! is in it once its directory was synced. After `kill -9` whoever tests puts the mirror in the place of the directory.
//! By the [control page](control) it can be told to swallow syncs, to let one fail, and to be full.
//!
//! What went past it would be missing from the mirror, so a way of writing that it does not know shows as a loss, never
//! as success. Writing through mapped memory ends the process, since it could not even be seen.
//!
//! | variable | |
//! |---|---|
//! | `HITHER_DISK_ROOT` | the directory; what is in it at the start is on the disk |
//! | `HITHER_DISK_MIRROR` | where the mirror is kept; one that is there is gone on with, since no power was lost |
//! | `HITHER_DISK_CONTROL` | the file of the control page |

mod control;
mod disk;
mod hooks;
mod known;
mod mirror;
#[expect(unreachable_pub, reason = "the tests, which compile it too, hand it on")]
mod place;
mod sys;
