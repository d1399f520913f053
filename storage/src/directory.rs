//! The data directory of a node: one process, one format, one cluster.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hither_protocol::ClusterId;

use crate::files::{parent, remove_directory, replace_file, sync_directory};
use crate::lock::{self, Lock};
use crate::{FileLog, Identity, RocksState, StorageError, ident, log, mark, reserve, space, state};

/// Says that a creation began. Without it, data without `IDENT` is never taken for leftovers.
const CREATING: &str = "CREATING";

/// What may be in a directory in which a node is created.
///
/// The identity of a node is made before its data: a start that was interrupted between the two leaves it.
const HARMLESS: [&str; 6] = [lock::FILE, "lost+found", CREATING, "CREATING.tmp", "identity", "identity.new"];

/// A data directory, held by this process until both of its devices are dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    log: FileLog,
    state: RocksState,
}

impl DataDir {
    /// Creates a node's directory, which is missing or empty, and opens it. A creation that was interrupted can be
    /// repeated.
    ///
    /// # Errors
    /// Something is there already, the path cannot be used, or the disk refuses.
    pub fn create(path: impl AsRef<Path>, identity: Identity) -> Result<Self, StorageError> {
        Vacancy::claim(path)?.create(identity)
    }

    /// Opens a node's directory and checks all of its log. `cluster` is the one that it has to belong to.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn open(path: impl AsRef<Path>, cluster: Option<ClusterId>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        check_access(path)?;
        // Before the lock, which leaves a file: a directory that is not a node's is not touched.
        Identity::read(path)?;
        let lock = Lock::take(path)?;
        Self::open_locked(path, cluster, lock)
    }

    /// Whether a node was created here, in whatever state it is now.
    #[must_use]
    pub fn exists(path: impl AsRef<Path>) -> bool {
        path.as_ref().join(ident::FILE).exists()
    }

    /// Whose data it is, without opening it.
    ///
    /// # Errors
    /// No node was created here, its format is newer, or `IDENT` is damaged.
    pub fn identify(path: impl AsRef<Path>) -> Result<Identity, StorageError> {
        Identity::read(path.as_ref())
    }

    /// Whose data it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The two devices. The directory is let go of when both are dropped, and the last reader of the log.
    #[must_use]
    pub fn into_devices(self) -> (FileLog, RocksState) {
        (self.log, self.state)
    }

    fn open_locked(path: &Path, cluster: Option<ClusterId>, lock: Lock) -> Result<Self, StorageError> {
        let identity = Identity::read(path)?;
        if let Some(expected) = cluster.filter(|&cluster| cluster != identity.cluster) {
            return Err(StorageError::OtherCluster {
                path: path.into(),
                found: identity.cluster.to_string(),
                expected: expected.to_string(),
            });
        }
        reserve::make_room(path);
        let lock = Arc::new(lock);
        let state = RocksState::open(path, &identity, lock.clone())?;
        Self::with_state(path, identity, lock, state)
    }

    fn with_state(path: &Path, identity: Identity, lock: Arc<Lock>, state: RocksState) -> Result<Self, StorageError> {
        // Later than `IDENT`, and here, so that a creation interrupted between the two is complete.
        let creating = path.join(CREATING);
        if creating.exists() {
            fs::remove_file(&creating).map_err(StorageError::io(&creating, "remove"))?;
            sync_directory(path).map_err(StorageError::io(path, "sync"))?;
        }
        if let Some(doubt) = space::doubt(path) {
            tracing::warn!(path = %path.display(), "the data directory {doubt}");
        }
        let (log, needed) = FileLog::open(path, &identity, lock, state.durable_cut().clone())?;
        let cut = state.durable_cut().load(Ordering::Acquire);
        if cut < needed {
            let what = format!("it is older than the purge of the log ({cut} writes, {needed} are needed)");
            return Err(StorageError::damaged(&path.join(state::CURRENT), what));
        }
        state.remove_others()?;
        Ok(Self { path: path.into(), identity, log, state })
    }
}

/// A directory in which a node may be created, held by this process: for what has to be there before the data are, and
/// may be made by one process only.
#[derive(Debug)]
pub struct Vacancy {
    path: PathBuf,
    lock: Lock,
}

impl Vacancy {
    /// Makes the directory if it is missing, and finds out whether a node may be created in it.
    ///
    /// # Errors
    /// Something is there already, another process is about to create a node in it, or the path cannot be used.
    pub fn claim(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(StorageError::io(path, "create it"))?;
        for made in missing.into_iter().filter(|made| !made.as_os_str().is_empty()) {
            sync_directory(parent(made)).map_err(StorageError::io(parent(made), "sync"))?;
        }
        check_access(path)?;
        if DataDir::exists(path) {
            return Err(StorageError::AlreadyInitialised { path: path.into() });
        }
        // Before the lock, which leaves a file: a directory that is full of something else is not touched.
        leftovers(path)?;
        let lock = Lock::take(path)?;
        if DataDir::exists(path) {
            return Err(StorageError::AlreadyInitialised { path: path.into() });
        }
        for path in leftovers(path)? {
            let removed = if path.is_dir() { remove_directory(&path) } else { fs::remove_file(&path) };
            removed.map_err(StorageError::io(&path, "remove"))?;
        }
        Ok(Self { path: path.into(), lock })
    }

    /// Creates the node and opens it. Until this returns, an interruption leaves a directory that can be claimed again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn create(self, identity: Identity) -> Result<DataDir, StorageError> {
        let path = &self.path;
        let creating = path.join(CREATING);
        replace_file(&creating, b"").map_err(StorageError::io(&creating, "write"))?;
        FileLog::create(path, &identity)?;
        let lock = Arc::new(self.lock);
        let state = RocksState::create(path, &identity, lock.clone())?;
        // From here on it is a node's.
        identity.write(path)?;
        DataDir::with_state(path, identity, lock, state)
    }
}

/// Whether this process may use the directory, and nobody else can.
fn check_access(path: &Path) -> Result<(), StorageError> {
    let refuse = |what: String| Err(StorageError::Permissions { path: path.into(), what });
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StorageError::NotInitialised { path: path.into() });
        }
        other => other.map_err(StorageError::io(path, "look at it"))?,
    };
    if !metadata.is_dir() {
        return refuse("it is not a directory".into());
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        return refuse(format!("it belongs to user {}, and this process runs as user {me}", metadata.uid()));
    }
    if metadata.mode() & 0o002 != 0 {
        return refuse("everybody may write in it: `chmod o-w` it, and look at who did".into());
    }
    Ok(())
}

/// What an interrupted creation left and a new one has to remove; an error if there is anything else.
fn leftovers(path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let interrupted = path.join(CREATING).exists();
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(StorageError::io(path, "list it"))? {
        let entry = entry.map_err(StorageError::io(path, "list it"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if HARMLESS.contains(&name.as_str()) {
            continue;
        }
        let data = [log::DIRECTORY, mark::FILE, state::CURRENT].contains(&name.as_str());
        if !(interrupted && (data || name.starts_with(state::PREFIX) || name.ends_with(".tmp"))) {
            return Err(StorageError::NotEmpty { path: path.into(), found: name });
        }
        found.push(entry.path());
    }
    Ok(found)
}
