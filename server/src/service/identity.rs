//! Requests about identities: the book keeps them, the authority signs.

use hither_protocol::Refusal;
use hither_protocol::message::{Reply, Stamp};
use hither_state::door::{Caller, IdentityRequest};

use super::Service;

impl Service {
    pub(super) async fn identities(
        &self,
        caller: &Caller,
        request: IdentityRequest,
    ) -> Result<(Stamp, Reply), Refusal> {
        match request {
            IdentityRequest::Renew(renew) => {
                let (stamp, reply) = self.book.renew(caller, &renew).await?;
                Ok((stamp, Reply::RenewIdentity(reply)))
            }
            IdentityRequest::Add(add) => {
                let (stamp, reply) = self.book.add(caller, &add, self.endpoints()).await?;
                Ok((stamp, Reply::ClientAdd(reply)))
            }
            IdentityRequest::List(_) => {
                let (stamp, mut reply) = self.book.list().await?;
                let open = self.registry.by_name();
                for client in &mut reply.clients {
                    client.connections = open.get(client.name.as_str()).copied().unwrap_or(0);
                }
                Ok((stamp, Reply::ClientList(reply)))
            }
            IdentityRequest::Revoke(revoke) => {
                let (stamp, reply) = self.book.revoke(caller, &revoke).await?;
                // This node knows now; the others when the change reaches them.
                self.registry.close_revoked(&self.book);
                Ok((stamp, Reply::ClientRevoke(reply)))
            }
        }
    }
}
