//! Files that are there whole or not at all, and secret from their first byte.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// For everyone to read.
pub(crate) const PUBLIC: u32 = 0o644;
/// For its owner only.
pub(crate) const SECRET: u32 = 0o600;

/// Makes a folder that only its owner can look into, and those above it.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file beside it, then renames that over it.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::now_v7().simple()));
    let beside = path.with_file_name(name);
    write_and_rename(&beside, path, bytes, mode).inspect_err(|_| {
        // What is left of it has no reader.
        let _ = fs::remove_file(&beside);
    })
}

fn write_and_rename(beside: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(beside, path)
}
