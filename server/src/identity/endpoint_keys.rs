//! Keys that must outlive the process: with them a restarted node can tell clients of before that their connections are
//! gone, in one packet, and take them back without a signature; without them they would wait for the idle timeout.

use std::fmt;

use zeroize::Zeroizing;

use super::IdentityError;
use super::authority::random;
use super::files::Folder;

const FILE: &str = "quic.key";
const RESET_BYTES: usize = 64;
const CONNECTION_ID_BYTES: usize = 8;

/// The keys of the QUIC endpoint.
pub(crate) struct EndpointKeys {
    reset: Zeroizing<[u8; RESET_BYTES]>,
    connection_id: u64,
}

impl EndpointKeys {
    pub(super) fn create(folder: &Folder) -> Result<(), IdentityError> {
        folder.write(FILE, &*Zeroizing::new(random::<{ RESET_BYTES + CONNECTION_ID_BYTES }>()))
    }

    pub(super) fn open(folder: &Folder) -> Result<Self, IdentityError> {
        let bytes = folder.read(FILE)?;
        let whole = bytes.first_chunk::<RESET_BYTES>().zip(bytes[RESET_BYTES.min(bytes.len())..].first_chunk());
        let Some((reset, connection_id)) = whole else {
            return Err(IdentityError::Damaged { path: folder.path(FILE), reason: "it is too short".to_owned() });
        };
        Ok(Self { reset: Zeroizing::new(*reset), connection_id: u64::from_le_bytes(*connection_id) })
    }

    /// Signs stateless resets.
    pub(crate) fn reset(&self) -> ring::hmac::Key {
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*self.reset)
    }

    /// What the keys of session tickets are derived from.
    pub(crate) fn tickets(&self) -> ring::hkdf::Prk {
        ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"hither session tickets").extract(&*self.reset)
    }

    /// Marks the connection ids that this node gave out.
    pub(crate) fn connection_id(&self) -> u64 {
        self.connection_id
    }
}

impl fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointKeys")
    }
}
