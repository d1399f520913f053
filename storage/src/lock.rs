//! One process to a data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::StorageError;

pub(crate) const FILE: &str = "LOCK";

/// Holds the directory for as long as it lives. The kernel lets go of it when the process ends, however it ends; the
/// pid in the file is only for whoever comes second.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StorageError::io(directory, "write in it"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // The holder may not have written it yet.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StorageError::Held { path: directory.into(), pid });
            }
            Err(error) => return Err(StorageError::io(&path, "lock it")(error.into())),
        }
        // Over the old one, since on a full disk there may be no room for it once the file was cut. Without it whoever comes
        // second is told less; that is no reason not to start.
        let pid = format!("{}\n", process::id());
        let written = file.write_all(pid.as_bytes()).and_then(|()| file.set_len(pid.len() as u64));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "the process id could not be noted");
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_to_come_is_told_who_was_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        let error = Lock::take(directory.path()).unwrap_err();
        assert!(matches!(error, StorageError::Held { pid: Some(pid), .. } if pid == process::id()), "{error}");
        assert_eq!(error.exit_code(), 75);
        drop(first);
        Lock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_longer_process_id_of_before_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "123456789012\n").unwrap();
        let _first = Lock::take(directory.path()).unwrap();
        let error = Lock::take(directory.path()).unwrap_err();
        assert!(matches!(error, StorageError::Held { pid: Some(pid), .. } if pid == process::id()), "{error}");
    }
}
