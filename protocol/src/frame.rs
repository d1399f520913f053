//! The frame: 16 bytes of header, then a body.

use bytes::{Buf, BufMut};

use crate::limits::FRAME_BYTES_MAX;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 16;

/// The header of a frame, little-endian on the wire:
/// `length u32, op u16, version u8, flags u8, id u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body that follows.
    pub length: u32,
    /// What the body is; with `version` it names one frozen type.
    pub op: u16,
    /// The version of the op.
    pub version: u8,
    /// See [`Flags`].
    pub flags: Flags,
    /// The request number or the watch id.
    pub id: u64,
}

/// The flags of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// The body begins with tagged [`Context`](crate::message::Context) fields.
    pub const CONTEXT: Self = Self(1);
    /// Another frame of the same reply, snapshot or reset follows.
    pub const MORE: Self = Self(2);

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The header announces a body over the limit. Nothing was allocated for it; the connection cannot go on, since where
/// the next frame begins is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes was announced, the limit is {FRAME_BYTES_MAX}")]
pub struct FrameTooLarge {
    /// The length announced.
    pub length: u32,
}

impl Header {
    /// Writes the 16 bytes.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&self.to_bytes());
    }

    /// The 16 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut out = &mut bytes[..];
        out.put_u32_le(self.length);
        out.put_u16_le(self.op);
        out.put_u8(self.version);
        out.put_u8(self.flags.0);
        out.put_u64_le(self.id);
        bytes
    }

    /// Reads the 16 bytes and checks the length they announce.
    ///
    /// # Errors
    /// [`FrameTooLarge`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameTooLarge> {
        let mut bytes = &bytes[..];
        let length = bytes.get_u32_le();
        if length as usize > FRAME_BYTES_MAX {
            return Err(FrameTooLarge { length });
        }
        Ok(Self {
            length,
            op: bytes.get_u16_le(),
            version: bytes.get_u8(),
            flags: Flags(bytes.get_u8()),
            id: bytes.get_u64_le(),
        })
    }
}
