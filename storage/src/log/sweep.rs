//! Frees the room of purged records, away from the thread that writes the log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::{Shared, key};
use crate::StorageError;

/// Deleting whole files frees nearly everything. Now and then what is left of the purged rows, with the marks of their
/// deletion, is compacted away.
const PURGES_PER_COMPACTION: u32 = 64;

/// The thread that does it. Ends, finishing what it is at, when this is dropped.
#[derive(Debug)]
pub(super) struct Sweeper {
    dead: Option<Sender<(u64, u64)>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, StorageError> {
        let path = shared.path.clone();
        let (dead, receiver) = channel();
        let thread = thread::Builder::new()
            .name("hither-log-sweep".into())
            .spawn(move || run(&shared, &receiver))
            .map_err(StorageError::io(&path, "start the thread that frees its room"))?;
        Ok(Self { dead: Some(dead), thread: Some(thread) })
    }

    /// Frees these rows, from the first to before the second. Their purge is durable.
    pub(super) fn sweep(&self, dead: (u64, u64)) {
        if self.dead.as_ref().is_none_or(|sender| sender.send(dead).is_err()) {
            tracing::warn!("the thread that frees the room of purged records is gone");
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.dead.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn run(shared: &Shared, dead: &Receiver<(u64, u64)>) {
    let mut purges = 0;
    let mut compact_from = None;
    for (from, to) in dead {
        purges += 1;
        let first = *compact_from.get_or_insert(from);
        if let Err(error) = shared.db.delete_file_in_range_cf(shared.runs(), key(from), key(to - 1)) {
            tracing::warn!(%error, "purged records stay on disk until they are compacted");
        }
        if purges % PURGES_PER_COMPACTION == 0 {
            shared.db.compact_range_cf(shared.runs(), Some(key(first)), Some(key(to)));
            compact_from = None;
        }
    }
}
