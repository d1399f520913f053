//! What the disk would hold if power failed now.
//!
//! Files are kept by what they are, not by their names: `objects/N` has the synced contents of one, whatever became of
//! its names since. `names/N` has what a directory was called to hold when it was last synced: hard links to objects,
//! and symbolic links to directories. `root` is the directory itself. So a name without a synced file is an empty file,
//! and a synced file without a synced name is nowhere: what a file system may do, at its strictest.
//!
//! `inodes/I` links to what the file or directory of this inode is here, so that whoever cuts the power can tell which
//! names changed since, and a process that follows without a loss of power can go on. Beside it `I.cut` says how short
//! the file was since its last sync, and `I.lost` what a failed sync has left unwritten for good. `removed/O`, of an object's inode, tells what
//! was removed from what another file took the name of, which is one step.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::known::{Known, Ranges, Unsynced};

const COPY_BYTES: usize = 1 << 20;

/// The mirror of one directory.
pub(crate) struct Mirror {
    at: PathBuf,
    root: PathBuf,
    /// By inode. A number that is used again is first forgotten, when the last name of its file goes.
    known: HashMap<u64, Known>,
    last: u64,
}

/// What a sync that has begun will have made durable when it returns: nothing that was written since.
pub(crate) struct Sync {
    inode: u64,
    id: u64,
    unsynced: Unsynced,
    bytes: u64,
}

impl Mirror {
    /// Goes on with the mirror that another process has left, if no power was lost since. Else takes what is there now
    /// for durable.
    pub(crate) fn begin(at: PathBuf, root: PathBuf) -> io::Result<Self> {
        let goes_on = at.join("root").is_symlink();
        for part in ["objects", "names", "inodes", "removed"] {
            fs::create_dir_all(at.join(part))?;
        }
        let mut mirror = Self { at, root, known: HashMap::new(), last: 0 };
        if goes_on {
            mirror.go_on()?;
        } else if mirror.root.is_dir() {
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

    /// What the process before had written and not synced is still only in memory, whoever reads it.
    fn go_on(&mut self) -> io::Result<()> {
        let mut live = BTreeSet::new();
        inodes(&self.root, &mut live)?;
        for entry in fs::read_dir(self.at.join("inodes"))? {
            let path = entry?.path();
            let inode = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let Some(inode) = inode.filter(|inode| live.contains(inode)) else {
                fs::remove_file(path)?;
                continue;
            };
            if !path.is_symlink() {
                continue;
            }
            let target = fs::read_link(&path)?;
            let id = target.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
            let id = id.ok_or_else(|| io::Error::other(format!("{} is not of a mirror", target.display())))?;
            let metadata = fs::metadata(&path)?;
            let mut known = Known::new(id);
            if metadata.is_file() {
                known.synced_bytes = metadata.len();
                known.lost = Ranges::read(&path.with_extension("lost"))?;
                known.unsynced.all = true;
                known.unsynced.cut = cut(&path.with_extension("cut"));
            }
            self.known.insert(inode, known);
        }
        for part in ["objects", "names"] {
            for entry in fs::read_dir(self.at.join(part))? {
                let id = entry?.file_name().to_str().and_then(|name| name.parse().ok()).unwrap_or(0);
                self.last = self.last.max(id);
            }
        }
        Ok(())
    }

    /// Bytes of a file were written.
    pub(crate) fn wrote(&mut self, inode: u64, from: u64, to: u64) -> io::Result<()> {
        self.file(inode)?;
        let lost = self.inode(inode).with_extension("lost");
        let Some(known) = self.known.get_mut(&inode) else { return Ok(()) };
        if known.wrote(from, to) { known.lost.write(&lost) } else { Ok(()) }
    }

    /// A file was changed in another way, and is so long now.
    pub(crate) fn changed(&mut self, inode: u64, bytes: u64) -> io::Result<()> {
        let noted = self.inode(inode).with_extension("cut");
        let Some(known) = self.known.get_mut(&inode) else { return Ok(()) };
        known.unsynced.all = true;
        known.unsynced.cut = Some(known.unsynced.cut.map_or(bytes, |cut| cut.min(bytes)));
        // A sync that is under way may still fail.
        fs::write(&noted, cut(&noted).map_or(bytes, |cut| cut.min(bytes)).to_string())
    }

    /// The last name of a file, or a directory, is gone.
    pub(crate) fn gone(&mut self, inode: u64, is_removed: bool) -> io::Result<()> {
        if self.known.remove(&inode).is_none() {
            return Ok(());
        }
        let path = self.inode(inode);
        if is_removed {
            let object = fs::metadata(&path)?.ino();
            File::create(self.at.join("removed").join(object.to_string()))?;
        }
        remove(&path.with_extension("cut"))?;
        remove(&path.with_extension("lost"))?;
        remove(&path)
    }

    /// A sync of a file begins. What it takes is not unsynced any more, however the sync ends: a kernel that could not
    /// write pages takes them for clean.
    pub(crate) fn begin_sync(&mut self, inode: u64, bytes: u64) -> io::Result<Sync> {
        let id = self.file(inode)?;
        let unsynced = self.known.get_mut(&inode).map(|known| std::mem::take(&mut known.unsynced)).unwrap_or_default();
        Ok(Sync { inode, id, unsynced, bytes })
    }

    /// The kernel has said that it failed. No other sync writes what this one was to write.
    pub(crate) fn fail_sync(&mut self, sync: Sync) -> io::Result<()> {
        let lost = self.inode(sync.inode).with_extension("lost");
        let Some(known) = self.known.get_mut(&sync.inode) else { return Ok(()) };
        known.lost.add(sync.unsynced.ranges(sync.bytes));
        known.lost.write(&lost)
    }

    /// The kernel has said that it succeeded.
    pub(crate) fn end_sync(&mut self, fd: RawFd, sync: Sync) -> io::Result<()> {
        let Sync { inode, id, unsynced, bytes } = sync;
        // The descriptor itself may be for writing only.
        let from = File::open(format!("/proc/self/fd/{fd}"))?;
        let to = File::options().write(true).open(self.object(id))?;
        let cut = self.inode(inode).with_extension("cut");
        let known = self.known.get_mut(&inode);
        let ranges = Ranges::of(unsynced.ranges(bytes));
        let ranges = if let Some(known) = &known { ranges.without(&known.lost) } else { ranges };
        for (begin, end) in ranges.iter() {
            copy(&from, &to, begin, end.min(bytes))?;
        }
        let Some(known) = known else { return Ok(()) };
        // Another sync may have been faster and known of more.
        known.synced_bytes = if unsynced.all { bytes } else { known.synced_bytes.max(bytes) };
        to.set_len(known.synced_bytes)?;
        match (unsynced.cut, known.unsynced.cut) {
            (Some(_), None) => remove(&cut),
            (Some(_), Some(since)) => fs::write(cut, since.to_string()),
            (None, _) => Ok(()),
        }
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

    fn inode(&self, inode: u64) -> PathBuf {
        self.at.join("inodes").join(inode.to_string())
    }

    fn file(&mut self, inode: u64) -> io::Result<u64> {
        if let Some(known) = self.known.get(&inode) {
            return Ok(known.id);
        }
        self.last += 1;
        let id = self.last;
        File::create_new(self.object(id))?;
        symlink(format!("../objects/{id}"), self.inode(inode))?;
        let mut known = Known::new(id);
        // What was done to it before it was seen is not known.
        known.unsynced.all = true;
        self.known.insert(inode, known);
        Ok(id)
    }

    fn directory(&mut self, inode: u64, path: &Path) -> io::Result<u64> {
        if let Some(known) = self.known.get(&inode) {
            return Ok(known.id);
        }
        self.last += 1;
        let id = self.last;
        fs::create_dir(self.names(id))?;
        symlink(format!("../names/{id}"), self.inode(inode))?;
        self.known.insert(inode, Known::new(id));
        if path == self.root {
            symlink(format!("names/{id}"), self.at.join("root"))?;
        }
        Ok(id)
    }
}

/// The inodes of a directory and of all in it.
fn inodes(path: &Path, found: &mut BTreeSet<u64>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    found.insert(metadata.ino());
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            inodes(&entry?.path(), found)?;
        }
    }
    Ok(())
}

fn cut(noted: &Path) -> Option<u64> {
    fs::read_to_string(noted).ok()?.parse().ok()
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
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
