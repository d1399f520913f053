//! A disk that forgets, refuses and fills up: the tester's side of the library `hither-faulty-disk`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hither_tests::node::Home;

use crate::cut;

#[path = "../disk/src/place.rs"]
mod place;

pub use self::place::Place;
pub use crate::cut::{Left, Lost};

/// The page that the library and this side share.
const PAGE_BYTES: usize = 4096;

/// The disk under the data directory of one home.
#[derive(Debug)]
pub struct FaultyDisk {
    data: PathBuf,
    mirror: PathBuf,
    page: PathBuf,
    control: File,
}

impl FaultyDisk {
    /// Every process started in this home from now on has its data on this disk.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn under(home: &mut Home) -> io::Result<Self> {
        let disk = Self::beneath(&home.file(""))?;
        disk.environment().into_iter().for_each(|(name, value)| home.set(name, value));
        Ok(disk)
    }

    /// A process that is started with its [environment](Self::environment) has this disk at `data` in a folder.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn beneath(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let (data, mirror, page) = (folder.join("data"), folder.join("mirror"), folder.join("disk-control"));
        let control = File::options().read(true).write(true).create_new(true).open(&page)?;
        control.write_all_at(&[0; PAGE_BYTES], 0)?;
        Ok(Self { data, mirror, page, control })
    }

    /// What a process has to be started with.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD", text(library())),
            ("HITHER_DISK_ROOT", text(&self.data)),
            ("HITHER_DISK_MIRROR", text(&self.mirror)),
            ("HITHER_DISK_CONTROL", text(&self.page)),
        ]
    }

    /// The directory on it.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
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

    /// Power fails: what was not synced is gone from the data directory, but for what is `left`. No process may run on it.
    ///
    /// Without a loss of power between them, what one process has not synced the next one has not either.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn cut_power(&self, left: Left<'_>) -> io::Result<Lost> {
        let after = self.data.with_extension("after");
        let lost = self.what_is_left(&after, left)?;
        fs::remove_dir_all(&self.data)?;
        fs::rename(&after, &self.data)?;
        // What is there now is what is on the disk.
        fs::remove_dir_all(&self.mirror)?;
        Ok(lost)
    }

    /// Writes to `after`, which is not there, what a loss of power would leave now.
    ///
    /// # Errors
    /// Those of the real disk.
    pub fn what_is_left(&self, after: &Path, left: Left<'_>) -> io::Result<Lost> {
        cut::what_is_left(&self.mirror, &self.data, after, left)
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
