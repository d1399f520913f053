//! Who may speak to the cluster.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::op;
use crate::codec::Message;
use crate::{ClusterId, UnixMillis};

/// What an identity may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Data and services.
    Client,
    /// Those, and cluster, backup and identities.
    Admin,
}

impl Role {
    /// The word for it, as it stands in the certificate: `hither://CLUSTER/{admin,client}/NAME`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Admin => "admin",
        }
    }
}

/// Redeems an enrolment secret for a certificate. The only message that needs no identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// The single-use secret.
    pub secret: Bytes,
    /// A certificate signing request, DER. Only its public key counts; the server names the identity.
    pub csr: Bytes,
}

/// Answers [`Enrol`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolReply {
    /// The cluster.
    pub cluster: ClusterId,
    /// The name that the certificate carries.
    pub name: String,
    /// The role that it carries.
    pub role: Role,
    /// The client certificate, DER.
    pub certificate: Bytes,
    /// The cluster's client-facing CA, DER.
    pub ca: Bytes,
    /// When the certificate ends.
    pub expires_at: UnixMillis,
    /// Client addresses of the nodes, `host:port`.
    pub endpoints: Vec<String>,
}

/// Asks for a fresh certificate for the identity that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewIdentity {
    /// A certificate signing request, DER.
    pub csr: Bytes,
}

/// Answers [`RenewIdentity`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewIdentityReply {
    /// The client certificate, DER.
    pub certificate: Bytes,
    /// The cluster's client-facing CA, DER.
    pub ca: Bytes,
    /// When the certificate ends.
    pub expires_at: UnixMillis,
}

/// Makes an enrolment secret for a new identity. For admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAdd {
    /// The name: 1 to 63 of `a-z 0-9 . _ -`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Milliseconds for which the secret can be redeemed.
    pub valid_ms: u64,
}

/// Answers [`ClientAdd`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAddReply {
    /// The single-use secret: shown once, kept only as a hash.
    pub secret: Bytes,
    /// SHA-256 of the CA's DER: what the enrolling client pins.
    pub ca_pin: [u8; 32],
    /// When the secret ends.
    pub expires_at: UnixMillis,
    /// Client addresses of the nodes, `host:port`.
    pub endpoints: Vec<String>,
}

/// Lists identities. For admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientList {}

/// Answers [`ClientList`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientListReply {
    /// All of them, by name.
    pub clients: Vec<ClientInfo>,
}

/// An identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether its secret was redeemed.
    pub enrolled: bool,
    /// Whether it was revoked.
    pub revoked: bool,
    /// When it was added.
    pub created_at: UnixMillis,
    /// When its newest certificate ends.
    pub expires_at: Option<UnixMillis>,
    /// Connections it has open at the node that answers.
    pub connections: u32,
}

/// Revokes an identity: its connections are closed and it is refused from now on. For admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRevoke {
    /// Its name.
    pub name: String,
}

/// Answers [`ClientRevoke`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRevokeReply {
    /// Whether it had not been revoked before.
    pub revoked: bool,
}

impl Message for Enrol {
    const OP: u16 = op::ENROL;
}
impl Message for RenewIdentity {
    const OP: u16 = op::RENEW_IDENTITY;
}
impl Message for ClientAdd {
    const OP: u16 = op::CLIENT_ADD;
}
impl Message for ClientList {
    const OP: u16 = op::CLIENT_LIST;
}
impl Message for ClientRevoke {
    const OP: u16 = op::CLIENT_REVOKE;
}
