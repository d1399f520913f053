//! What a loss of power leaves of a directory: what the mirror of the disk has of it, and any part of what was not synced.
//!
//! At its strictest a disk has nothing that was not synced. Every disk has more, and in an order of its own: a block that
//! was written later, a name that is gone before what replaces it is there, a length without its bytes. So each of
//! these is decided by chance. That a file has another name than before is one step: it has one of the two, and what it
//! takes the name of is there until then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;

/// What a disk writes at once, at the least, and loses or keeps as a whole.
const BLOCK_BYTES: usize = 4096;
/// Room, and no data.
const RESERVE: &str = "reserve";

/// What is left of writes that were not synced when power fails.
#[derive(Debug)]
pub enum Left<'a> {
    /// Nothing.
    Nothing,
    /// Any of it: blocks, lengths, and names that came, went or changed.
    Some(&'a mut SmallRng),
}

/// What a loss of power took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    /// Blocks of the log that had something written to them that is not there.
    pub log_blocks: u64,
    /// Tables of the state that are gone, or other than they were.
    pub tables: usize,
    /// Names that had come, gone or changed and were not synced: any of that may be undone.
    pub names: usize,
}

impl std::ops::AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.log_blocks += other.log_blocks;
        self.tables += other.tables;
        self.names += other.names;
    }
}

/// Writes to `after` what is left of `data`.
pub(crate) fn what_is_left(mirror: &Path, data: &Path, after: &Path, left: Left<'_>) -> io::Result<Lost> {
    let chance = match left {
        Left::Nothing => None,
        Left::Some(rng) => Some(rng),
    };
    let mut cut = Cut { mirror, live: HashMap::new(), chance, moved: HashMap::new(), names: 0 };
    cut.find(data)?;
    let root = Thing::of_mirror(mirror.join("root"), &cut.live)?;
    cut.directory(&root, after)?;
    let names = cut.names;
    Ok(Lost { names, ..compare(data, after)? })
}

/// A file or directory, by what it is.
struct Thing {
    /// What it is in the mirror; none if the mirror never saw it.
    object: Option<u64>,
    /// Where the mirror has what was synced of it.
    synced: PathBuf,
    /// Where it was when the power failed, if it still had a name.
    live: Option<PathBuf>,
    is_directory: bool,
}

impl Thing {
    fn of_mirror(synced: PathBuf, live: &HashMap<u64, PathBuf>) -> io::Result<Self> {
        let metadata = fs::metadata(&synced)?;
        let object = metadata.ino();
        let live = live.get(&object).cloned();
        Ok(Self { object: Some(object), synced, live, is_directory: metadata.is_dir() })
    }
}

struct Cut<'a> {
    mirror: &'a Path,
    /// What is in the directory, by what it is in the mirror.
    live: HashMap<u64, PathBuf>,
    chance: Option<&'a mut SmallRng>,
    /// Whether what became of the name of a thing is on the disk.
    moved: HashMap<u64, bool>,
    names: usize,
}

impl Cut<'_> {
    fn find(&mut self, path: &Path) -> io::Result<()> {
        if let Some(object) = self.thing(path.to_owned())?.object {
            self.live.insert(object, path.to_owned());
        }
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                self.find(&entry?.path())?;
            }
        }
        Ok(())
    }

    fn thing(&self, path: PathBuf) -> io::Result<Thing> {
        let metadata = fs::symlink_metadata(&path)?;
        let synced = self.mirror.join("inodes").join(metadata.ino().to_string());
        let object = fs::metadata(&synced).ok().map(|object| object.ino());
        Ok(Thing { object, synced, live: Some(path), is_directory: metadata.is_dir() })
    }

    /// Each name that is on both sides for the same thing, and of the others those that chance leaves.
    fn directory(&mut self, of: &Thing, to: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(to)?;
        let synced = if of.object.is_some() { names(&of.synced)? } else { BTreeSet::new() };
        let live = of.live.as_deref().map(names).transpose()?.unwrap_or_default();
        for name in synced.union(&live) {
            let was = synced.contains(name).then(|| Thing::of_mirror(of.synced.join(name), &self.live)).transpose()?;
            let is = of.live.as_ref().filter(|_| live.contains(name)).map(|live| self.thing(live.join(name)));
            let left = match (was, is.transpose()?) {
                (Some(was), Some(is)) if was.object == is.object => Some(was),
                (was, is) => {
                    self.names += 1;
                    let is_replaced = is.is_some();
                    let came = is.filter(|is| self.has_moved(is.object));
                    came.or_else(|| was.filter(|was| !self.has_left(was, is_replaced)))
                }
            };
            match left {
                Some(left) if left.is_directory => self.directory(&left, &to.join(name))?,
                Some(left) => self.file(&left, &to.join(name))?,
                None => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, of: &Thing, to: &Path) -> io::Result<()> {
        if of.object.is_some() {
            fs::copy(&of.synced, to)?;
        } else {
            File::create_new(to)?;
        }
        fs::set_permissions(to, fs::Permissions::from_mode(0o600))?;
        let is_room = to.file_name().is_some_and(|name| name == RESERVE);
        match (&of.live, self.chance.as_deref_mut()) {
            (Some(live), Some(rng)) if !is_room => keep_some(&self.mirror.join("inodes"), live, to, rng),
            _ => Ok(()),
        }
    }

    /// Whether a thing has gone from where it was, to which nothing else has come.
    fn has_left(&mut self, was: &Thing, is_replaced: bool) -> bool {
        let removed = was.object.map(|object| self.mirror.join("removed").join(object.to_string()));
        let by_itself = !is_replaced || was.live.is_some() || removed.is_some_and(|noted| noted.exists());
        by_itself && self.has_moved(was.object)
    }

    fn has_moved(&mut self, object: Option<u64>) -> bool {
        let Some(rng) = self.chance.as_deref_mut() else { return false };
        match object {
            Some(object) => *self.moved.entry(object).or_insert_with(|| rng.random()),
            None => rng.random(),
        }
    }
}

/// A length that was set may be on the disk, and each block that differs.
fn keep_some(inodes: &Path, live: &Path, to: &Path, rng: &mut SmallRng) -> io::Result<()> {
    let (was, file) = (fs::read(live)?, File::options().write(true).open(to)?);
    let noted = inodes.join(format!("{}.cut", fs::metadata(live)?.ino()));
    let cut = fs::read_to_string(noted).ok().and_then(|text| text.parse().ok());
    if cut.is_some_and(|cut: u64| file.metadata().is_ok_and(|file| cut < file.len())) && rng.random() {
        file.set_len(cut.unwrap_or_default())?;
    }
    let synced = fs::read(to)?;
    for (number, block) in was.chunks(BLOCK_BYTES).enumerate() {
        let at = number * BLOCK_BYTES;
        if synced.get(at..at + block.len()) != Some(block) && rng.random() {
            file.write_all_at(block, at as u64)?;
        }
    }
    Ok(())
}

fn names(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// What of log and tables was there and is not.
fn compare(before: &Path, after: &Path) -> io::Result<Lost> {
    let mut lost = Lost::default();
    for (name, path) in files(before)? {
        let is_table = name.extension().is_some_and(|end| end == "sst");
        let is_segment = name.starts_with("log") && name.extension().is_some_and(|end| end == "seg");
        if !is_table && !is_segment {
            continue;
        }
        let (was, is) = (fs::read(path)?, fs::read(after.join(name)).ok());
        if is_table {
            lost.tables += usize::from(is != Some(was));
        } else {
            let is = is.unwrap_or_default();
            let blocks = was.chunks(BLOCK_BYTES).enumerate();
            let gone = blocks.filter(|(number, block)| {
                // A block that is not there is zeros.
                let rest = is.get(number * BLOCK_BYTES..).unwrap_or_default();
                let (same, beyond) = block.split_at(block.len().min(rest.len()));
                same != &rest[..same.len()] || beyond.iter().any(|&byte| byte != 0)
            });
            lost.log_blocks += gone.count() as u64;
        }
    }
    Ok(lost)
}

/// Every file below `directory`, by its name from there.
pub(crate) fn files(directory: &Path) -> io::Result<BTreeMap<PathBuf, PathBuf>> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.strip_prefix(directory).expect("it was found there").to_owned(), path);
            }
        }
    }
    Ok(found)
}
