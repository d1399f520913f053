//! A disk that forgets, refuses and fills up: the tester's side of the library `hither-faulty-disk`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hither_tests::node::Home;
use rand::Rng;
use rand::rngs::SmallRng;

#[path = "../disk/src/place.rs"]
mod place;

pub use self::place::Place;

/// The page that the library and this side share.
const PAGE_BYTES: usize = 4096;
/// What a disk writes at once, at the least, and loses or keeps as a whole.
const BLOCK_BYTES: usize = 4096;

/// What is left of writes that were not synced when power fails.
#[derive(Debug)]
pub enum Left<'a> {
    /// Nothing.
    Nothing,
    /// Any blocks, as a disk that writes in its own order leaves them.
    SomeBlocks(&'a mut SmallRng),
}

/// What a loss of power took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    /// Files that are gone, or shorter or other than they were.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
}

/// The disk under the data directory of one home.
#[derive(Debug)]
pub struct FaultyDisk {
    data: PathBuf,
    mirror: PathBuf,
    control: File,
}

impl FaultyDisk {
    /// Every process started in this home from now on has its data on this disk.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn under(home: &mut Home) -> io::Result<Self> {
        let folder = home.file("").canonicalize()?;
        let (data, mirror, page) = (folder.join("data"), folder.join("mirror"), folder.join("disk-control"));
        let control = File::options().read(true).write(true).create_new(true).open(&page)?;
        control.write_all_at(&[0; PAGE_BYTES], 0)?;
        home.set("LD_PRELOAD", library().to_string_lossy());
        home.set("HITHER_DISK_ROOT", data.to_string_lossy());
        home.set("HITHER_DISK_MIRROR", mirror.to_string_lossy());
        home.set("HITHER_DISK_CONTROL", page.to_string_lossy());
        Ok(Self { data, mirror, control })
    }

    /// Reads a number from the page.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn get(&self, place: Place) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, place as u64 * 8)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Writes a number onto the page.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn set(&self, place: Place, value: u64) -> io::Result<()> {
        self.control.write_all_at(&value.to_ne_bytes(), place as u64 * 8)
    }

    /// Power fails: what was not synced is gone from the data directory. No process may run on it.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn cut_power(&self, left: Left<'_>) -> io::Result<Lost> {
        let after = self.data.with_extension("after");
        restore(&self.mirror.join("root"), &after)?;
        let lost = compare(&self.data, &after)?;
        if let Left::SomeBlocks(rng) = left {
            keep_some(&self.data, &after, rng)?;
        }
        fs::remove_dir_all(&self.data)?;
        fs::rename(&after, &self.data)?;
        self.forget()?;
        Ok(lost)
    }

    /// What is in the directory counts as synced once a process starts on it again.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.mirror)
    }
}

/// Nanoseconds of the clock that `FailedAt` is of.
#[must_use]
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The library, built from this workspace: `HITHER_FAULTY_DISK` if set.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("HITHER_FAULTY_DISK") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "-p", "hither-faulty-disk", "--message-format=json-render-diagnostics"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "the faulty disk does not build:\n{}", String::from_utf8_lossy(&built.stderr));
        // One object of JSON per line; the path of the library is the only string that ends like this.
        let said = String::from_utf8_lossy(&built.stdout);
        let path = said.split('"').find(|text| text.ends_with("libhither_faulty_disk.so"));
        path.expect("cargo says where the library is").into()
    })
}

/// Copies the mirror, whose inner directories are links, as a tree.
fn restore(from: &Path, to: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if fs::metadata(&source)?.is_dir() {
            restore(&source, &target)?;
        } else {
            fs::copy(&source, &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// Every file below `directory`, by its name from there.
fn files(directory: &Path) -> io::Result<BTreeMap<PathBuf, u64>> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next)? {
            let (path, metadata) = (entry.as_ref().map_err(copy)?.path(), entry?.metadata()?);
            if metadata.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).expect("it was found there").to_owned();
                found.insert(name, metadata.size());
            }
        }
    }
    Ok(found)
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn compare(before: &Path, after: &Path) -> io::Result<Lost> {
    let left = files(after)?;
    let mut lost = Lost::default();
    for (name, bytes) in files(before)? {
        // Room, and no data.
        if name == Path::new("reserve") {
            continue;
        }
        let kept = left.get(&name).copied();
        let same = kept == Some(bytes) && fs::read(before.join(&name))? == fs::read(after.join(&name))?;
        if !same {
            lost.files += 1;
            lost.bytes += bytes.saturating_sub(kept.unwrap_or(0)).max(1);
        }
    }
    Ok(lost)
}

/// Of each file that has its name on both sides, some of the blocks that differ are kept as they were.
fn keep_some(before: &Path, after: &Path, rng: &mut SmallRng) -> io::Result<()> {
    for name in files(after)?.keys() {
        let (Ok(old), target) = (fs::read(before.join(name)), after.join(name)) else { continue };
        let new = fs::read(&target)?;
        let file = File::options().write(true).open(&target)?;
        for (number, block) in old.chunks(BLOCK_BYTES).enumerate() {
            let at = number * BLOCK_BYTES;
            let same = new.get(at..at + block.len()) == Some(block);
            if !same && rng.random() {
                file.write_all_at(block, at as u64)?;
            }
        }
    }
    Ok(())
}
