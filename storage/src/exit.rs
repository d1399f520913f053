//! RocksDB and the end of the process.
//!
//! RocksDB keeps things that all databases of a process share, and the C++ runtime destroys them when `main` returns or
//! `exit` is called. A thread that is in RocksDB then, closing a state that a node dropped a moment ago for one, may crash
//! the process, which has done all that it was asked for. So the end waits until nobody is inside, lets nobody in any
//! more, and stops what databases that are still open do in the background.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rocksdb::DB;

static DOOR: RwLock<()> = RwLock::new(());
static OPEN: Mutex<Vec<Weak<DB>>> = Mutex::new(Vec::new());

/// How long the end of the process waits for a call. One that takes longer holds up nobody, and may crash.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Somebody is inside as long as this lives. It never comes back to a thread that is late: the process is ending.
pub(crate) fn enter() -> RwLockReadGuard<'static, ()> {
    DOOR.read()
}

/// The same for one who may be inside already, and so must get in although the end waits.
pub(crate) fn enter_again() -> RwLockReadGuard<'static, ()> {
    DOOR.read_recursive()
}

/// A database is open.
pub(crate) fn opened(db: &Arc<DB>) {
    let mut open = OPEN.lock();
    open.retain(|db| db.strong_count() > 0);
    open.push(Arc::downgrade(db));
}

/// From here on the end of the process minds the door. What ends a process destroys and calls the youngest first, so this
/// has to come after what RocksDB makes when it needs it first: once a database is open, once it has written a table.
pub(crate) fn mind() {
    #[expect(unsafe_code, reason = "the standard library has no word before the end of a process")]
    // SAFETY: `shut` is a plain function that lives as long as the program, and does not unwind.
    let refused = unsafe { libc::atexit(shut) } != 0;
    if refused {
        tracing::debug!("the end of the process will not wait for the state to be closed");
    }
}

extern "C" fn shut() {
    // More than one may be registered, and all but the first find it shut for good.
    if DOOR.is_locked_exclusive() {
        return;
    }
    let Some(shut) = DOOR.try_write_for(WAIT_MAX) else { return };
    std::mem::forget(shut);
    for db in OPEN.lock().drain(..).filter_map(|db| db.upgrade()) {
        db.cancel_all_background_work(true);
        // The last to let go of it would close it.
        std::mem::forget(db);
    }
}
