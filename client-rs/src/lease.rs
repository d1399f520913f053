//! Leases.

use std::time::Duration;

use hither_client_core::{Error, OnLoss};
use hither_protocol::message::{
    LeaseGrant, LeaseGrantReply, LeaseInfo, LeaseInfoReply, LeaseKind, LeaseList, LeaseListReply, LeaseRenew,
    LeaseRenewReply, LeaseRevoke, LeaseRevokeReply, LeaseStatus,
};
use hither_protocol::{ErrorCode, LeaseId};
use tokio::sync::{oneshot, watch};

use crate::client::{Client, unanswered};
use crate::driver::{Command, Granted};

/// Leases asked for at once when all are listed.
const PAGE: u32 = 1_000;

impl Client {
    /// A lease that is kept alive in the background for as long as the [`Lease`] is held and the client is connected.
    ///
    /// `ttl`: how long it outlives silence, to the millisecond; 1 s to 24 h, beyond which the server clamps it.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, Error> {
        self.keep_lease(ttl, OnLoss::Revoke).await
    }

    pub(crate) async fn keep_lease(&self, ttl: Duration, on_loss: OnLoss) -> Result<Lease, Error> {
        let (reply, answer) = oneshot::channel();
        let id = self.number();
        let mut granting = Granting { client: self, answer };
        self.send(Command::Lease { id, ttl, on_loss, reply })?;
        let (granted, lost) = (&mut granting.answer).await.unwrap_or_else(|_| Err(unanswered()))?;
        Ok(Lease { client: self.clone(), granted, lost, released: false })
    }

    /// Grants a lease that nobody keeps: it ends after `ttl` unless [`lease_renew`](Self::lease_renew) is called, by
    /// anyone, in time.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn lease_grant(&self, ttl: Duration) -> Result<LeaseGrantReply, Error> {
        let grant = LeaseGrant { ttl_ms: milliseconds(ttl), kind: LeaseKind::Ttl };
        self.ask(grant, None).await.map(|(_, reply)| reply)
    }

    /// Lets a lease live another full TTL from now.
    ///
    /// # Errors
    /// `LeaseNotFound`, and those of every call.
    pub async fn lease_renew(&self, lease: LeaseId) -> Result<LeaseRenewReply, Error> {
        self.ask(LeaseRenew { lease }, None).await.map(|(_, reply)| reply)
    }

    /// Ends a lease now and deletes its keys, in one revision.
    ///
    /// # Errors
    /// `LeaseNotFound`, and those of every call.
    pub async fn lease_revoke(&self, lease: LeaseId) -> Result<LeaseRevokeReply, Error> {
        self.ask(LeaseRevoke { lease }, None).await.map(|(_, reply)| reply)
    }

    /// A lease and its keys.
    ///
    /// # Errors
    /// `LeaseNotFound`, and those of every call.
    pub async fn lease_info(&self, lease: LeaseId) -> Result<LeaseInfoReply, Error> {
        self.ask(LeaseInfo { lease, keys: true }, None).await.map(|(_, reply)| reply)
    }

    /// Every lease of the namespace, by id. Read page by page: leases that come or go meanwhile may be missed.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn lease_list(&self) -> Result<Vec<LeaseStatus>, Error> {
        let mut leases: Vec<LeaseStatus> = Vec::new();
        loop {
            let after = leases.last().map(|lease| lease.lease);
            let (_, page): (_, LeaseListReply) = self.ask(LeaseList { after, limit: PAGE }, None).await?;
            let empty = page.leases.is_empty();
            leases.extend(page.leases);
            if !page.more || empty {
                return Ok(leases);
            }
        }
    }
}

/// A lease that was asked for. Nobody else knows of it until it is taken from here: dropped before, it is let go of.
struct Granting<'a> {
    client: &'a Client,
    answer: oneshot::Receiver<Granted>,
}

impl Drop for Granting<'_> {
    fn drop(&mut self) {
        // From here on the answer finds nobody, and the driver revokes the lease. It may have come already.
        self.answer.close();
        if let Ok(Ok((granted, _))) = self.answer.try_recv() {
            // A driver that is gone has ended the session, and the lease with it.
            let _ = self.client.send(Command::Release { lease: granted.lease, revoke: true });
        }
    }
}

/// A lease that this client keeps alive. Keys written with it ([`Puts::lease`](crate::Puts::lease)) live for as long
/// as it does.
///
/// Dropping it lets go of it: it is revoked in the background, and ends with its TTL if no server can be reached.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    granted: LeaseGrantReply,
    lost: watch::Receiver<bool>,
    released: bool,
}

impl Lease {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> LeaseId {
        self.granted.lease
    }

    /// Its time to live, as the server granted it.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        Duration::from_millis(self.granted.ttl_ms)
    }

    /// Whether it must be taken as lost: see [`lost`](Self::lost).
    #[must_use]
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Waits until the lease must be taken as lost: it was revoked, its session ended, or no server has confirmed it
    /// for so long that it may end soon. That is counted from when the confirmed sign of life was sent, and ends a
    /// tenth of the TTL, at least 500 ms, before the server could let it expire. A lost lease never comes back.
    ///
    /// The future stands for itself: it may outlive the handle, and resolves when that is dropped or revoked.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lost = self.lost.clone();
        async move {
            // A driver that is gone keeps nothing alive.
            let _ = lost.wait_for(|lost| *lost).await;
        }
    }

    /// Resolves when it is lost, apart from it.
    pub(crate) fn losing(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut lost = self.lost.clone();
        async move {
            // A driver that is gone keeps nothing alive.
            let _ = lost.wait_for(|lost| *lost).await;
        }
    }

    /// Ends it now and deletes its keys.
    ///
    /// # Errors
    /// `LeaseNotFound` if it had ended already, and those of every call.
    pub async fn revoke(mut self) -> Result<LeaseRevokeReply, Error> {
        let revoked = self.client.lease_revoke(self.id()).await;
        let over = match &revoked {
            Ok(_) => true,
            Err(error) => error.code() == ErrorCode::LeaseNotFound,
        };
        // If it did not work, dropping tries once more in the background.
        self.released = over;
        if over {
            let _ = self.client.send(Command::Release { lease: self.id(), revoke: false });
        }
        revoked
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.released {
            // A driver that is gone has ended the session, and the lease with it.
            let _ = self.client.send(Command::Release { lease: self.id(), revoke: true });
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
