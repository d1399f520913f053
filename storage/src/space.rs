//! How much room the disk has.

use std::io;
use std::path::Path;

use rustix::fs::{statfs, statvfs};

/// Bytes that this process can still write below `path`.
///
/// # Errors
/// The file system does not say.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let of = statvfs(path)?;
    Ok(of.f_bavail.saturating_mul(of.f_frsize))
}

/// Why `path` is a poor place for data that must survive, if it is.
pub(crate) fn doubt(path: &Path) -> Option<&'static str> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    const NFS: u64 = 0x6969;
    #[expect(clippy::cast_sign_loss, reason = "a magic number, whatever its type on this target")]
    match statfs(path).ok()?.f_type as u64 {
        TMPFS | RAMFS => Some("is in memory: everything in it is gone after a reboot"),
        NFS => Some("is on NFS, whose locks and syncs cannot be relied on"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_told() {
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 0);
        assert!(free_bytes(Path::new("/nowhere/at/all")).is_err());
    }
}
