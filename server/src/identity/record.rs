//! What the cluster keeps about identities: JSON documents in the server's own namespace.

use hither_protocol::message::Role;
use hither_protocol::{Key, UnixMillis};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// The prefix of identities' keys.
pub(crate) const IDENTITIES: &str = "identities/";
/// The prefix of enrolments' keys.
pub(super) const ENROLMENTS: &str = "enrolments/";

/// An identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentityRecord {
    #[serde(with = "role")]
    pub(crate) role: Role,
    /// Which of the identities of this name: only certificates of the same generation are its.
    pub(crate) generation: u64,
    pub(crate) created_at: UnixMillis,
    /// The identity that added it.
    pub(crate) created_by: String,
    pub(crate) enrolled: bool,
    pub(crate) revoked: bool,
    /// When its newest certificate ends.
    pub(crate) expires_at: Option<UnixMillis>,
    /// The enrolment that can still be redeemed for it: hash of its secret, in hexadecimal.
    pub(crate) enrolment: Option<String>,
}

/// A secret that was given out. Its key is the hash of the secret: 32 random bytes need no slow one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EnrolmentRecord {
    pub(super) name: String,
    pub(super) generation: u64,
    pub(super) expires_at: UnixMillis,
    /// Hash of the public key that redeemed it. The same key may ask again, since the answer may have been lost; no
    /// other one may.
    pub(super) redeemed_by: Option<String>,
}

pub(super) fn identity_key(name: &str) -> Key {
    format!("{IDENTITIES}{name}").into()
}

pub(super) fn enrolment_key(secret_hash: &str) -> Key {
    format!("{ENROLMENTS}{secret_hash}").into()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The role as its word, which people read in a backup.
mod role {
    use hither_protocol::message::Role;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(super) fn serialize<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(role.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "client" => Ok(Role::Client),
            "admin" => Ok(Role::Admin),
            other => Err(D::Error::custom(format!("there is no role `{other}`"))),
        }
    }
}
