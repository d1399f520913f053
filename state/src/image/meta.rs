//! The one row that says what all the others are.

use std::io;

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{decode_body, encode_body};
use hither_protocol::{Lineage, Revision};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{State, StateLimits};

/// The format of this row and all others. A server that reads another one stops.
const IMAGE_FORMAT: u8 = 1;
/// Bytes of the checksum at the end.
const CHECKSUM_BYTES: usize = 8;

/// Where in the log an image was taken, and what of the state is in no other row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The last entry of the log in it.
    pub applied_index: u64,
    /// The store's revision.
    pub revision: Revision,
    /// The oldest revision that a watch can resume after.
    pub floor: Revision,
    /// Which history it is.
    pub lineage: Option<Lineage>,
    /// The bounds in force.
    pub limits: StateLimits,
    /// [`State::hash`].
    pub hash: u128,
    /// What the server keeps beside it: log id, membership.
    pub opaque: Bytes,
}

impl Meta {
    /// The meta row of `state`, which has applied the log up to `applied_index`.
    #[must_use]
    pub fn of(state: &State, applied_index: u64, opaque: Bytes) -> Self {
        Self {
            applied_index,
            revision: state.revision(),
            floor: state.floor(),
            lineage: state.lineage(),
            limits: state.limits(),
            hash: state.hash(),
            opaque,
        }
    }

    /// The row: format, content, checksum.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.extend_from_slice(&[IMAGE_FORMAT]);
        encode_body(&mut out, self);
        let checksum = xxh3_64(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.freeze()
    }

    /// Reads the row.
    ///
    /// # Errors
    /// `Unsupported` for another format, `InvalidData` for damage.
    pub fn decode(row: &[u8]) -> io::Result<Self> {
        let damaged =
            |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the meta row of the state {why}"));
        match row.first() {
            Some(&IMAGE_FORMAT) => {}
            Some(format) => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!(
                        "the state is of format {format}, this version reads format {IMAGE_FORMAT}; start the version \
                         that wrote it"
                    ),
                ));
            }
            None => return Err(damaged("is empty")),
        }
        let (content, checksum) = row.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("is cut off"))?;
        if xxh3_64(content).to_le_bytes() != *checksum {
            return Err(damaged("does not match its checksum"));
        }
        decode_body(&content[1..]).map_err(|error| damaged(&error.detail))
    }
}
