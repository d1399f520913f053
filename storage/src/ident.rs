//! The file `IDENT`: whose directory this is. Written once, read by people and by every later version.
//!
//! ```text
//! hither-data 1
//! cluster 0f6c…
//! node 1
//! created 1790000000000
//! crc32c 9bd1a5e0
//! ```
//!
//! The first line is all that a program may rely on when it does not know the format.

use std::fs;
use std::io;
use std::path::Path;

use hither_protocol::{ClusterId, NodeId, UnixMillis};

use crate::StorageError;
use crate::files::replace_file;

/// The format that this program writes, and the newest that it reads.
pub(crate) const FORMAT: u64 = 1;

pub(crate) const FILE: &str = "IDENT";

/// Whose data this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// When the directory was created.
    pub created: UnixMillis,
}

impl Identity {
    pub(crate) fn write(&self, directory: &Path) -> Result<(), StorageError> {
        let path = directory.join(FILE);
        replace_file(&path, self.encode().as_bytes()).map_err(StorageError::io(&path, "write"))
    }

    pub(crate) fn read(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::NotInitialised { path: directory.into() });
            }
            other => other.map_err(StorageError::io(&path, "read"))?,
        };
        let text = String::from_utf8_lossy(&text);
        let format = text.lines().next().and_then(|line| line.strip_prefix("hither-data ")?.parse().ok());
        match format {
            Some(found) if found > FORMAT => {
                Err(StorageError::NewerFormat { path: directory.into(), found, known: FORMAT })
            }
            Some(FORMAT) => Self::decode(&text).ok_or_else(|| StorageError::damaged(&path, "its checksum is wrong")),
            _ => Err(StorageError::damaged(&path, "it does not begin with the format of the directory")),
        }
    }

    fn encode(&self) -> String {
        let Self { cluster, node, created } = self;
        let text = format!("hither-data {FORMAT}\ncluster {cluster}\nnode {node}\ncreated {}\n", created.0);
        let crc = crc32c::crc32c(text.as_bytes());
        format!("{text}crc32c {crc:08x}\n")
    }

    fn decode(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let identity = Self {
            cluster: field("cluster")?.parse().ok()?,
            node: NodeId(field("node")?.parse().ok()?),
            created: UnixMillis(field("created")?.parse().ok()?),
        };
        (identity.encode() == text).then_some(identity)
    }

    /// The bytes by which the log and the state know that they belong together.
    pub(crate) fn row(&self) -> [u8; 32] {
        let mut row = [0; 32];
        row[..16].copy_from_slice(&self.cluster.0);
        row[16..24].copy_from_slice(&self.node.0.to_be_bytes());
        row[24..].copy_from_slice(&self.created.0.to_be_bytes());
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity =
        Identity { cluster: ClusterId(*b"0123456789abcdef"), node: NodeId(7), created: UnixMillis(1_790_000_000_000) };

    #[test]
    fn an_identity_reads_back_and_has_no_leftovers() {
        let directory = tempfile::tempdir().unwrap();
        IDENTITY.write(directory.path()).unwrap();
        assert_eq!(Identity::read(directory.path()).unwrap(), IDENTITY);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_flipped_bit_of_an_identity_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let good = IDENTITY.encode().into_bytes();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(directory.path().join(FILE), bad).unwrap();
            assert!(Identity::read(directory.path()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage_whatever_follows_the_first_line() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "hither-data 2\nsomething else\n").unwrap();
        let error = Identity::read(directory.path()).unwrap_err();
        assert!(matches!(error, StorageError::NewerFormat { found: 2, known: FORMAT, .. }), "{error}");
        assert_eq!(error.exit_code(), 76);
    }
}
