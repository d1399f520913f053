//! A registered instance.

use std::sync::{Mutex, PoisonError};

use hither_client_core::{Error, Instance, ServiceEndpoint, SessionState};
use hither_protocol::message::{Compare, Delete, Put, Relation, TxnOp, TxnResult};
use hither_protocol::{ErrorCode, KeyRange, LeaseId, Revision};

use super::registration::{Listens, Registration, Tie};
use crate::client::Client;
use crate::lease::Lease;

impl Client {
    /// Registers an instance of a service: writes its record at `services/{service}/{id}`, tied as the registration
    /// says.
    ///
    /// # Errors
    /// `InvalidName` and `InvalidArgument` for the record, `LeaseNotFound`, and those of any write.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Error> {
        let Registration { mut instance, tie, listens, error } = registration;
        if let Some(error) = error {
            return Err(error);
        }
        if let Some(Listens { scheme, host, port }) = listens {
            let host = match host {
                Some(host) => host,
                None => super::address::own(&self.options().endpoints).await?,
            };
            instance.endpoints.insert(0, ServiceEndpoint { scheme, host, port });
        }
        instance.check()?;
        let lease = match tie {
            Tie::Kept(ttl) => Some(Held::Kept(self.lease(ttl).await?)),
            Tie::Given(lease) => Some(Held::Given(lease)),
            Tie::Free => None,
        };
        let id = lease.as_ref().map(Held::id);
        let reply = self.put(instance.key(), instance.to_json()).lease(id).previous().await?;
        instance.epoch = reply.previous.map_or(reply.revision, |entry| entry.create_revision);
        self.wrote(&instance.service, reply.revision);
        Ok(Registered { client: self.clone(), inner: Mutex::new(Inner { instance, gone: false }), lease })
    }
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegistrationState {
    /// It is in the registry.
    Registered,
    /// No server answers. It is still in the registry, as far as is known.
    Suspended,
    /// It must be taken as gone from the registry. It is declared again as soon as possible.
    Lost,
    /// It was taken out.
    Deregistered,
}

impl RegistrationState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Suspended => "suspended",
            Self::Lost => "lost",
            Self::Deregistered => "deregistered",
        }
    }
}

/// A registered instance. What it is tied to is let go of when this is dropped: a lease that was made for it is revoked
/// in the background, a permanent registration and one on a given lease stay.
#[derive(Debug)]
pub struct Registered {
    client: Client,
    inner: Mutex<Inner>,
    lease: Option<Held>,
}

#[derive(Debug)]
struct Inner {
    instance: Instance,
    gone: bool,
}

#[derive(Debug)]
enum Held {
    Kept(Lease),
    Given(LeaseId),
}

impl Held {
    const fn id(&self) -> LeaseId {
        match self {
            Self::Kept(lease) => lease.id(),
            Self::Given(lease) => *lease,
        }
    }
}

impl Registered {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record, as it is stored.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.inner().instance.clone()
    }

    /// The revision that created its key: which registration under its id it is.
    #[must_use]
    pub fn epoch(&self) -> Revision {
        self.inner().instance.epoch
    }

    /// The lease that it is tied to.
    #[must_use]
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease.as_ref().map(Held::id)
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> RegistrationState {
        let lost = matches!(&self.lease, Some(Held::Kept(lease)) if lease.is_lost());
        match (self.inner().gone, lost, self.client.state()) {
            (true, ..) => RegistrationState::Deregistered,
            (false, true, _) => RegistrationState::Lost,
            (false, false, SessionState::Connected) => RegistrationState::Registered,
            (false, false, _) => RegistrationState::Suspended,
        }
    }

    /// Waits until the registration must be taken as lost, as [`Lease::lost`] does. Never, if the client does not keep
    /// its lease.
    pub async fn lost(&self) {
        match &self.lease {
            Some(Held::Kept(lease)) => lease.lost().await,
            Some(Held::Given(_)) | None => std::future::pending().await,
        }
    }

    /// Deletes the record, if it is still this registration's. Returns whether it was there.
    ///
    /// # Errors
    /// `Conflict` if the id is another registration's by now; those of any write.
    pub async fn deregister(&self) -> Result<bool, Error> {
        let instance = self.instance();
        let key = instance.key();
        let delete = Delete { range: KeyRange::One(key.clone()), previous: false };
        let reply = self
            .client
            .txn()
            .when(Compare::CreateRevision(key.clone(), Relation::Equal, instance.epoch))
            .when(Compare::Lease(key.clone(), self.lease()))
            .then(TxnOp::Delete(delete))
            .or_else(TxnOp::Get(key))
            .await?;
        self.client.wrote(&instance.service, reply.revision);
        self.inner().gone = true;
        if !reply.succeeded && matches!(reply.results.first(), Some(TxnResult::Get(get)) if get.entry.is_some()) {
            return Err(taken(&instance));
        }
        Ok(reply.succeeded)
    }

    /// Wants nothing new: its status becomes draining.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub async fn drain(&self) -> Result<(), Error> {
        self.update(|instance| instance.status = hither_client_core::Status::Draining).await
    }

    /// Changes the record.
    ///
    /// # Errors
    /// `Conflict` if it is no longer this registration's; as [`Client::register`].
    pub async fn update(&self, change: impl FnOnce(&mut Instance)) -> Result<(), Error> {
        let before = self.instance();
        let mut instance = before.clone();
        change(&mut instance);
        instance.check()?;
        let key = before.key();
        if instance.key() != key {
            return Err(Error::new(ErrorCode::InvalidArgument, "a registration keeps its service and id"));
        }
        instance.epoch = before.epoch;
        let lease = self.lease();
        let put = Put { key: key.clone(), value: instance.to_json().into(), lease, previous: false };
        let same = Compare::CreateRevision(key.clone(), Relation::Equal, before.epoch);
        let reply = self.client.txn().when(same).when(Compare::Lease(key, lease)).then(TxnOp::Put(put)).await?;
        if !reply.succeeded {
            return Err(taken(&instance));
        }
        self.client.wrote(&instance.service, reply.revision);
        self.inner().instance = instance;
        Ok(())
    }
}

fn taken(instance: &Instance) -> Error {
    let detail = format!("{} is no longer what this registered (epoch {})", instance.key(), instance.epoch);
    Error::new(ErrorCode::Conflict, detail)
}
