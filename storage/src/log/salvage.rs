//! A damaged end of the log that nobody was told of.
//!
//! A loss of power can leave the last writes, those that were not yet synced, as garbage, and RocksDB then refuses the
//! log as it refuses one with damage in the middle. The two are told apart by what the log says of itself: every head
//! carries the number of the last synced write before it. A copy of the log that ends at its last good batch is taken
//! in place of the log if it reaches the mark and everything that any surviving batch knew to be synced. Otherwise
//! something acknowledged is gone, and the log stays as it is.

use std::path::{Path, PathBuf};
use std::{fs, io};

use rocksdb::DBRecoveryMode;

use super::head::Head;
use super::{DIRECTORY, RocksLog, check};
use crate::files::{remove_directory, sync_directory, sync_tree};
use crate::mark::Durable;
use crate::{Identity, StorageError};

/// The copy while it is being made.
const COPY: &str = "log.copy";
/// The copy once it is to be taken.
const ACCEPTED: &str = "log.accepted";
/// What it replaces, followed by a number.
const DAMAGED: &str = "log.damaged-";

/// Replaces the log by what is good of it, or returns `error`.
pub(super) fn attempt(
    directory: &Path,
    identity: &Identity,
    durable: Durable,
    error: StorageError,
) -> Result<(), StorageError> {
    let log = directory.join(DIRECTORY);
    let copy = directory.join(COPY);
    let synced = synced_at_least(&log).map_err(StorageError::io(&log, "read"))?;
    let needed = durable.cycle.max(synced);

    copy_directory(&log, &copy).map_err(StorageError::io(&copy, "copy the log"))?;
    let opened = RocksLog::open_checked(&copy, DBRecoveryMode::PointInTime, identity, durable, needed);
    let Ok((db, check::Checked { head, .. })) = opened else {
        remove_directory(&copy).map_err(StorageError::io(&copy, "remove"))?;
        return Err(error);
    };
    drop(db);
    sync_tree(&copy).map_err(StorageError::io(&copy, "sync"))?;
    tracing::warn!(
        log = %log.display(), cycle = head.cycle, next = head.next, needed,
        "the end of the log was damaged; nothing acknowledged was in it, and it is cut off"
    );
    let accepted = directory.join(ACCEPTED);
    fs::rename(&copy, &accepted).map_err(StorageError::io(&accepted, "rename"))?;
    sync_directory(directory).map_err(StorageError::io(directory, "sync"))?;
    finish(directory)
}

/// Puts an accepted copy in the place of the log, and removes one that was not finished. A crash anywhere in it is made
/// good by the next start.
pub(super) fn finish(directory: &Path) -> Result<(), StorageError> {
    let (log, copy, accepted) = (directory.join(DIRECTORY), directory.join(COPY), directory.join(ACCEPTED));
    remove_directory(&copy).map_err(StorageError::io(&copy, "remove"))?;
    if !accepted.exists() {
        return Ok(());
    }
    if log.exists() {
        let aside = unused(directory);
        fs::rename(&log, &aside).map_err(StorageError::io(&aside, "rename"))?;
    }
    fs::rename(&accepted, &log).map_err(StorageError::io(&log, "rename"))?;
    sync_directory(directory).map_err(StorageError::io(directory, "sync"))
}

/// The last cycle that some batch of a write-ahead log knew to be durable. Looked for in the bare bytes: where RocksDB
/// skips damage it skips the good batches beside it too.
fn synced_at_least(log: &Path) -> io::Result<u64> {
    let mut synced = 0;
    for entry in fs::read_dir(log)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            synced = Head::find_all(&fs::read(path)?).map(|head| head.synced).fold(synced, u64::max);
        }
    }
    Ok(synced)
}

/// Tables never change, so both can have the same ones.
fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let source = entry?.path();
        let Some(name) = source.file_name().filter(|&name| name != "LOCK") else { continue };
        if source.extension().is_some_and(|extension| extension == "sst") {
            fs::hard_link(&source, to.join(name))?;
        } else {
            fs::copy(&source, to.join(name))?;
        }
    }
    Ok(())
}

fn unused(directory: &Path) -> PathBuf {
    let names = (1_u32..).map(|number| directory.join(format!("{DAMAGED}{number}")));
    names.into_iter().find(|path| !path.exists()).expect("some number is not taken")
}
