//! What the disk would hold if power failed now.
//!
//! Files are kept by what they are, not by their names: `objects/N` has the synced contents of one, whatever became of
//! its names since. `names/N` has what a directory was called to hold when it was last synced: hard links to objects,
//! and symbolic links to directories. `root` is the directory itself. So a name without a synced file is an empty file,
//! and a synced file without a synced name is nowhere: what a file system may do, at its strictest.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

const COPY_BYTES: usize = 1 << 20;

/// The mirror of one directory.
pub(crate) struct Mirror {
    at: PathBuf,
    root: PathBuf,
    /// By inode. A number that is used again is first forgotten, when the last name of its file goes.
    known: HashMap<u64, Known>,
    last: u64,
}

struct Known {
    id: u64,
    unsynced: Unsynced,
    /// Bytes of it that are in the mirror.
    synced_bytes: u64,
}

/// What of a file the mirror does not have.
#[derive(Default)]
pub(crate) struct Unsynced {
    /// Anything may have changed, its length too.
    all: bool,
    ranges: Vec<(u64, u64)>,
}

/// What a sync that has begun will have made durable when it returns: nothing that was written since.
pub(crate) struct Sync {
    inode: u64,
    id: u64,
    unsynced: Unsynced,
    bytes: u64,
}

impl Mirror {
    /// Takes what is there now for durable.
    pub(crate) fn begin(at: PathBuf, root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(at.join("objects"))?;
        fs::create_dir_all(at.join("names"))?;
        let mut mirror = Self { at, root, known: HashMap::new(), last: 0 };
        if mirror.root.is_dir() {
            mirror.take_in(&mirror.root.clone())?;
        }
        Ok(mirror)
    }

    fn take_in(&mut self, directory: &Path) -> io::Result<u64> {
        let id = self.directory(fs::metadata(directory)?.ino(), directory)?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if metadata.is_dir() {
                let inner = self.take_in(&path)?;
                symlink(format!("../{inner}"), self.names(id).join(entry.file_name()))?;
            } else if metadata.is_file() {
                let file = self.file(metadata.ino())?;
                fs::copy(&path, self.object(file))?;
                if let Some(known) = self.known.get_mut(&metadata.ino()) {
                    (known.unsynced, known.synced_bytes) = (Unsynced::default(), metadata.len());
                }
                fs::hard_link(self.object(file), self.names(id).join(entry.file_name()))?;
            }
        }
        Ok(id)
    }

    /// Bytes of a file were written.
    pub(crate) fn wrote(&mut self, inode: u64, from: u64, to: u64) -> io::Result<()> {
        self.file(inode)?;
        let Some(known) = self.known.get_mut(&inode) else { return Ok(()) };
        match known.unsynced.ranges.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => known.unsynced.ranges.push((from, to)),
        }
        Ok(())
    }

    /// A file was changed in another way.
    pub(crate) fn changed(&mut self, inode: u64) {
        if let Some(known) = self.known.get_mut(&inode) {
            known.unsynced.all = true;
        }
    }

    /// The last name of a file, or a directory, is gone.
    pub(crate) fn gone(&mut self, inode: u64) {
        self.known.remove(&inode);
    }

    /// A sync of a file begins. What it takes is not unsynced any more, however the sync ends: a kernel that could not
    /// write pages takes them for clean.
    pub(crate) fn begin_sync(&mut self, inode: u64, bytes: u64) -> io::Result<Sync> {
        let id = self.file(inode)?;
        let unsynced = self.known.get_mut(&inode).map(|known| std::mem::take(&mut known.unsynced)).unwrap_or_default();
        Ok(Sync { inode, id, unsynced, bytes })
    }

    /// The kernel has said that it succeeded.
    pub(crate) fn end_sync(&mut self, fd: RawFd, sync: Sync) -> io::Result<()> {
        let Sync { inode, id, unsynced, bytes } = sync;
        // The descriptor itself may be for writing only.
        let from = File::open(format!("/proc/self/fd/{fd}"))?;
        let to = File::options().write(true).open(self.object(id))?;
        let ranges = if unsynced.all { vec![(0, bytes)] } else { unsynced.ranges };
        for (begin, end) in ranges {
            copy(&from, &to, begin, end.min(bytes))?;
        }
        let Some(known) = self.known.get_mut(&inode) else { return Ok(()) };
        // Another sync may have been faster and known of more.
        known.synced_bytes = if unsynced.all { bytes } else { known.synced_bytes.max(bytes) };
        to.set_len(known.synced_bytes)
    }

    /// The names in a directory were synced.
    pub(crate) fn sync_directory(&mut self, fd: RawFd, inode: u64, path: &Path) -> io::Result<()> {
        let id = self.directory(inode, path)?;
        let names = self.names(id);
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/self/fd/{fd}"))? {
            let entry = entry?;
            // Gone again meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            let (name, new) = (names.join(entry.file_name()), self.at.join("new-name"));
            if metadata.is_dir() {
                let inner = self.directory(metadata.ino(), &path.join(entry.file_name()))?;
                let target = PathBuf::from(format!("../{inner}"));
                if fs::read_link(&name).ok().as_ref() != Some(&target) {
                    symlink(target, &new)?;
                    fs::rename(&new, &name)?;
                }
            } else if metadata.is_file() {
                let object = self.file(metadata.ino()).map(|file| self.object(file))?;
                if fs::symlink_metadata(&name).ok().map(|old| old.ino()) != Some(fs::metadata(&object)?.ino()) {
                    fs::hard_link(&object, &new)?;
                    fs::rename(&new, &name)?;
                }
            }
            held.insert(entry.file_name());
        }
        // Last, so that a renamed file has both names rather than none if this is cut short.
        for entry in fs::read_dir(&names)? {
            let entry = entry?;
            if !held.contains(&entry.file_name()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn object(&self, id: u64) -> PathBuf {
        self.at.join("objects").join(id.to_string())
    }

    fn names(&self, id: u64) -> PathBuf {
        self.at.join("names").join(id.to_string())
    }

    fn file(&mut self, inode: u64) -> io::Result<u64> {
        if let Some(known) = self.known.get(&inode) {
            return Ok(known.id);
        }
        self.last += 1;
        let id = self.last;
        File::create_new(self.object(id))?;
        // What was done to it before it was seen is not known.
        let unsynced = Unsynced { all: true, ranges: Vec::new() };
        self.known.insert(inode, Known { id, unsynced, synced_bytes: 0 });
        Ok(id)
    }

    fn directory(&mut self, inode: u64, path: &Path) -> io::Result<u64> {
        if let Some(known) = self.known.get(&inode) {
            return Ok(known.id);
        }
        self.last += 1;
        let id = self.last;
        fs::create_dir(self.names(id))?;
        self.known.insert(inode, Known { id, unsynced: Unsynced::default(), synced_bytes: 0 });
        if path == self.root {
            symlink(format!("names/{id}"), self.at.join("root"))?;
        }
        Ok(id)
    }
}

fn copy(from: &File, to: &File, mut begin: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(end.saturating_sub(begin) as usize)];
    while begin < end {
        let most = buffer.len().min((end - begin) as usize);
        let read = from.read_at(&mut buffer[..most], begin)?;
        if read == 0 {
            break;
        }
        to.write_all_at(&buffer[..read], begin)?;
        begin += read as u64;
    }
    Ok(())
}
