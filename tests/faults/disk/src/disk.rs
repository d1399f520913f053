//! The one disk of this process: what the hooks ask before and after each call.

use std::ffi::{CStr, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use libc::{c_int, stat};

use crate::control::Control;
use crate::mirror::{Mirror, Sync};
use crate::place::Place;
use crate::sys;

/// The disk.
pub(crate) struct Disk {
    root: PathBuf,
    control: Control,
    mirror: Mutex<Mirror>,
    /// The file whose sync failed.
    failed: AtomicU64,
}

/// What is to become of a sync.
pub(crate) enum Syncing {
    /// The kernel's business.
    Elsewhere,
    /// Nothing happens, and the caller believes otherwise.
    Swallowed,
    /// It is refused with this `errno`.
    Fails(c_int),
    /// It is done.
    File(Sync),
    /// It is done.
    Directory(u64, PathBuf),
}

/// How something lost a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unnamed {
    Removed,
    /// In one step with the name's going to another file.
    Replaced,
}

/// The disk, if the environment describes one.
pub(crate) fn disk() -> Option<&'static Disk> {
    static DISK: OnceLock<Option<Disk>> = OnceLock::new();
    DISK.get_or_init(Disk::from_environment).as_ref()
}

impl Disk {
    fn from_environment() -> Option<Self> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        let (root, at) = (path("HITHER_DISK_ROOT")?, path("HITHER_DISK_MIRROR")?);
        let control = Control::open(&path("HITHER_DISK_CONTROL")?).unwrap_or_else(|| die("there is no control page"));
        let mirror = Mirror::begin(at, root.clone()).unwrap_or_else(|error| die(&format!("no mirror: {error}")));
        Some(Self { root, control, mirror: Mutex::new(mirror), failed: AtomicU64::new(0) })
    }

    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is open there, and under which name, if it is on this disk.
    fn on_disk(&self, fd: RawFd) -> Option<(stat, PathBuf)> {
        let found = sys::stat_of(fd)?;
        if !sys::is_regular(&found) && !sys::is_directory(&found) {
            return None;
        }
        let path = sys::path_of(fd).ok()?;
        // What has no name any more is gone after a loss of power, whatever is written to it.
        (path.starts_with(&self.root) && found.st_nlink > 0).then_some((found, path))
    }

    /// Why a write to a descriptor is refused, if it is.
    pub(crate) fn refuses_write(&self, fd: RawFd) -> Option<c_int> {
        let reason = self.control.get(Place::RefuseWrites) as c_int;
        (reason != 0 && self.on_disk(fd).is_some()).then_some(reason)
    }

    /// Why opening a file is refused, if it is.
    pub(crate) fn refuses_open(&self, directory: RawFd, path: &CStr, flags: c_int) -> Option<c_int> {
        let reason = self.control.get(Place::RefuseWrites) as c_int;
        let new = reason != 0 && flags & libc::O_CREAT != 0 && sys::stat_at(directory, path).is_none();
        let is_here = Path::new(std::ffi::OsStr::new(path.to_str().ok()?)).starts_with(&self.root);
        (new && is_here).then_some(reason)
    }

    /// Bytes up to `end`, or up to where the descriptor now stands, were written.
    pub(crate) fn wrote(&self, fd: RawFd, bytes: u64, begin: Option<u64>) {
        let Some((found, _)) = self.on_disk(fd) else { return };
        self.control.count(Place::Writes);
        // SAFETY: it only asks.
        let here = || unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) }.cast_unsigned().saturating_sub(bytes);
        let begin = begin.unwrap_or_else(here);
        self.keep(self.mirror().wrote(found.st_ino, begin, begin + bytes));
        // SAFETY: it only asks.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        if flags & libc::O_DSYNC != 0 {
            self.synced_by_itself(fd);
        }
    }

    /// A write that is a sync too.
    pub(crate) fn synced_by_itself(&self, fd: RawFd) {
        if let Syncing::File(sync) = self.begin_sync(fd) {
            self.keep(self.mirror().end_sync(fd, sync));
        }
    }

    /// The length of a file was set, or a part of it zeroed.
    pub(crate) fn changed(&self, fd: RawFd) {
        if let Some((found, _)) = self.on_disk(fd) {
            self.keep(self.mirror().changed(found.st_ino, found.st_size.cast_unsigned()));
        }
    }

    /// A name that stood for this was removed or taken over by another file.
    pub(crate) fn unnamed(&self, what: &stat, path: &CStr, how: Unnamed) {
        let here = std::fs::metadata(&self.root).is_ok_and(|root| root.dev() == what.st_dev);
        if here && (sys::is_directory(what) || what.st_nlink == 1) {
            self.keep(self.mirror().gone(what.st_ino, how == Unnamed::Removed));
            if Path::new(OsStr::from_bytes(path.to_bytes())).starts_with(self.root.join("log")) {
                self.control.count(Place::Removed);
            }
        }
    }

    /// What becomes of a sync that is about to begin.
    pub(crate) fn begin_sync(&self, fd: RawFd) -> Syncing {
        let Some((found, path)) = self.on_disk(fd) else { return Syncing::Elsewhere };
        self.control.count(Place::Syncs);
        if self.failed.load(Ordering::SeqCst) == found.st_ino {
            self.control.count(Place::Repeated);
        }
        match self.control.get(Place::DelaySyncs) {
            0 => {}
            longer => std::thread::sleep(Duration::from_micros(longer)),
        }
        let is_meant = self.is_meant(&path);
        if is_meant && self.control.get(Place::Swallow) != 0 {
            return Syncing::Swallowed;
        }
        let fails = is_meant && self.control.is_due(Place::FailSync);
        if fails {
            self.failed.store(found.st_ino, Ordering::SeqCst);
            self.control.set(Place::FailedAt, sys::now());
        }
        if sys::is_directory(&found) {
            return if fails { Syncing::Fails(libc::EIO) } else { Syncing::Directory(found.st_ino, path) };
        }
        let begun = self.mirror().begin_sync(found.st_ino, found.st_size.cast_unsigned());
        match begun {
            Ok(sync) if fails => {
                self.keep(self.mirror().fail_sync(sync));
                Syncing::Fails(libc::EIO)
            }
            Ok(sync) => Syncing::File(sync),
            Err(error) => die(&format!("no mirror: {error}")),
        }
    }

    /// The kernel has done it.
    pub(crate) fn end_sync(&self, fd: RawFd, syncing: Syncing) {
        match syncing {
            Syncing::File(sync) => self.keep(self.mirror().end_sync(fd, sync)),
            Syncing::Directory(inode, path) => self.keep(self.mirror().sync_directory(fd, inode, &path)),
            Syncing::Elsewhere | Syncing::Swallowed | Syncing::Fails(_) => {}
        }
    }

    /// Whether `fd` may be mapped for writing.
    pub(crate) fn is_mapped_unseen(&self, fd: RawFd) -> bool {
        self.on_disk(fd).is_some()
    }

    fn is_meant(&self, path: &Path) -> bool {
        let part = path.strip_prefix(&self.root).ok().and_then(|path| path.components().next());
        let part = part.map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        match self.control.get(Place::Target) {
            1 => part == "log",
            2 => part.starts_with("state-"),
            _ => true,
        }
    }

    /// A mirror that is not exact would prove nothing.
    fn keep(&self, result: std::io::Result<()>) {
        result.unwrap_or_else(|error| die(&format!("the mirror cannot be kept: {error}")));
    }
}

/// Ends the process: a disk that does not do what the test believes makes every result worthless.
pub(crate) fn die(what: &str) -> ! {
    eprintln!("hither-faulty-disk: {what}");
    std::process::abort()
}
