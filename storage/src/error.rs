//! What can be wrong with a data directory, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// The data directory cannot be used, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no node in it.
    #[error("{} holds no Hither node", path.display())]
    NotInitialised {
        /// The data directory.
        path: PathBuf,
    },
    /// There is one in it already.
    #[error("{} already holds a Hither node", path.display())]
    AlreadyInitialised {
        /// The data directory.
        path: PathBuf,
    },
    /// A node is to be created, and something else is there.
    #[error("{} is not empty (it has `{found}`): a node is created in an empty directory", path.display())]
    NotEmpty {
        /// The data directory.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// Another process is using it.
    #[error("{} is in use by {}", path.display(), holder(*pid))]
    Held {
        /// The data directory.
        path: PathBuf,
        /// The process, if it has said who it is.
        pid: Option<u32>,
    },
    /// A newer Hither wrote it.
    #[error(
        "{} has format {found}, and this program reads formats up to {known}: start the version of Hither that wrote it",
        path.display()
    )]
    NewerFormat {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this program reads.
        known: u64,
    },
    /// It belongs to a node of another cluster.
    #[error("{} belongs to cluster {found}, not to {expected}", path.display())]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster that was asked for.
        expected: String,
    },
    /// This process may not use it, or must not.
    #[error("{}: {what}", path.display())]
    Permissions {
        /// The data directory or something in it.
        path: PathBuf,
        /// What is in the way.
        what: String,
    },
    /// What was acknowledged is not there any more, or cannot be read. The node must not take part: it would vote and
    /// answer as if what it lost had never been.
    #[error(
        "{} is damaged: {what}. Nothing was changed. Keep the directory; a node of a cluster joins again with an empty \
         one, under a new id; a single node is restored from a backup (docs/operations/data-directory.md)",
        path.display()
    )]
    Damaged {
        /// The file or directory that is damaged.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The disk refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// What the disk said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

impl StorageError {
    /// What a process that cannot start for this reason exits with: the numbers of sysexits.h.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Damaged { .. } | Self::Io { .. } => 74,
            Self::Held { .. } => 75,
            Self::NewerFormat { .. } => 76,
            Self::Permissions { .. } => 77,
            Self::NotInitialised { .. }
            | Self::AlreadyInitialised { .. }
            | Self::NotEmpty { .. }
            | Self::OtherCluster { .. } => 78,
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), what: what.into() }
    }

    /// For `map_err`: a refusal by the disk while doing `action`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Permissions { path, what: format!("cannot {action}: {source}") }
            }
            _ => Self::Io { path, action, source },
        }
    }

    /// For `map_err`: what RocksDB said while doing `action`.
    pub(crate) fn rocks(path: &Path, action: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        let path = path.to_path_buf();
        move |error| match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Damaged { path, what: error.into_string() },
            _ => Self::Io { path, action, source: io::Error::other(error) },
        }
    }
}

impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            StorageError::Damaged { .. } => io::ErrorKind::InvalidData,
            StorageError::Permissions { .. } => io::ErrorKind::PermissionDenied,
            StorageError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
