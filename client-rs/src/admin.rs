//! How the cluster is doing, and who may speak to it.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use hither_client_core::{Enrolment, Error};
use hither_protocol::message::{
    ClientAdd, ClientAddReply, ClientInfo, ClientList, ClientListReply, ClientRevoke, ClientRevokeReply, Role, Status,
    StatusReply,
};
use hither_protocol::{ErrorCode, UnixMillis};

use crate::client::Client;
use crate::kv::Calling;

/// How long an enrolment string can be redeemed unless said otherwise: long enough to carry it to another machine.
const VALID: Duration = Duration::from_secs(60 * 60);

impl Client {
    /// How the node that this client is connected to is doing.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn status(&self) -> Result<StatusReply, Error> {
        self.ask(Status {}, None).await.map(|(_, reply)| reply)
    }

    /// Makes an enrolment string for a new identity. For admins.
    ///
    /// `name`: 1 to 63 of `a-z 0-9 . _ -`.
    pub fn client_add(&self, name: impl Into<String>) -> ClientAdds {
        ClientAdds { client: self.clone(), name: name.into(), role: Role::Client, valid: VALID }
    }

    /// The identities of the cluster, by name. For admins.
    ///
    /// # Errors
    /// `PermissionDenied`, and those of every call.
    pub async fn client_list(&self) -> Result<Vec<ClientInfo>, Error> {
        let (_, reply): (_, ClientListReply) = self.ask(ClientList {}, None).await?;
        Ok(reply.clients)
    }

    /// Revokes an identity: its connections are closed and it is refused from now on. For admins. Returns whether it
    /// had not been revoked before.
    ///
    /// # Errors
    /// `PermissionDenied`, `NotFound`, and those of every call. It is not retried after a lost connection.
    pub async fn client_revoke(&self, name: impl Into<String>) -> Result<bool, Error> {
        let (_, reply): (_, ClientRevokeReply) = self.ask(ClientRevoke { name: name.into() }, None).await?;
        Ok(reply.revoked)
    }
}

/// A new identity, to be awaited. Made by [`Client::client_add`].
#[must_use = "nothing is sent until it is awaited"]
#[derive(Clone, Debug)]
pub struct ClientAdds {
    client: Client,
    name: String,
    role: Role,
    valid: Duration,
}

impl ClientAdds {
    /// What it may do. Default: [`Role::Client`].
    pub const fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// How long the string can be redeemed, to the millisecond. Default: one hour.
    pub const fn valid(mut self, valid: Duration) -> Self {
        self.valid = valid;
        self
    }

    /// # Errors
    /// `PermissionDenied`, `InvalidName`, `AlreadyExists`, and those of every call. It is not retried after a lost
    /// connection.
    async fn add(self) -> Result<ClientAdded, Error> {
        let valid_ms = crate::lease::milliseconds(self.valid);
        let add = ClientAdd { name: self.name.clone(), role: self.role, valid_ms };
        let (_, reply): (_, ClientAddReply) = self.client.ask(add, None).await?;
        let cluster = match self.client.options().cluster {
            Some(cluster) => cluster,
            None => self.client.status().await?.cluster,
        };
        let mut endpoints = reply.endpoints.iter().map(|endpoint| endpoint.parse()).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            endpoints.clone_from(&self.client.options().endpoints);
        }
        let secret: Bytes = reply.secret;
        if secret.is_empty() {
            return Err(Error::unknown(ErrorCode::InvalidFrame, "the server sent no secret"));
        }
        let enrolment = Enrolment { endpoints, pin: reply.ca_pin, secret, cluster, name: self.name };
        Ok(ClientAdded { enrolment, role: self.role, expires_at: reply.expires_at })
    }
}

impl IntoFuture for ClientAdds {
    type Output = Result<ClientAdded, Error>;
    type IntoFuture = Calling<ClientAdded>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.add())
    }
}

/// A new identity that waits to be enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAdded {
    /// What the new client is given: its `Display` is one string that holds a secret.
    pub enrolment: Enrolment,
    /// What it may do.
    pub role: Role,
    /// When the string can no longer be redeemed.
    pub expires_at: UnixMillis,
}
