//! Registering instances of services: a thin form, a record on a lease.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hither_client_core::{Error, Instance, ServiceEndpoint};
use hither_protocol::message::{Compare, Delete, Put, TxnOp};
use hither_protocol::{ErrorCode, KeyRange, LeaseId, Revision};

use crate::client::Client;
use crate::lease::Lease;

/// How long an instance outlives silence unless said otherwise.
const INSTANCE_TTL: Duration = Duration::from_secs(10);

impl Client {
    /// Registers an instance of a service: writes its record at `services/{service}/{id}`, tied as the registration
    /// says.
    ///
    /// # Errors
    /// `InvalidName` and `InvalidArgument` for the record, `LeaseNotFound`, and those of any write.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Error> {
        let Registration { instance, tie, error } = registration;
        if let Some(error) = error {
            return Err(error);
        }
        instance.check()?;
        let lease = match tie {
            Tie::Kept(ttl) => Some(Held::Kept(self.lease(ttl).await?)),
            Tie::Given(lease) => Some(Held::Given(lease)),
            Tie::Free => None,
        };
        let id = lease.as_ref().map(Held::id);
        let reply = self.put(instance.key(), instance.to_json()).lease(id).await?;
        Ok(Registered { client: self.clone(), instance, revision: reply.revision, lease })
    }

    /// The registered instances of a service, by id. A record that cannot be read is left out and logged.
    ///
    /// # Errors
    /// `InvalidName`, and those of every call.
    pub async fn instances(&self, service: impl AsRef<str>) -> Result<Vec<Instance>, Error> {
        let service = service.as_ref();
        Instance::new(service, "x").check()?;
        let reply = self.range(Instance::range_of(service)).await?;
        let read = |entry: hither_protocol::Entry| match Instance::from_json(&entry.value) {
            Ok(instance) => Some(instance),
            Err(refusal) => {
                tracing::warn!(key = %entry.key, %refusal, "a service record that cannot be read is left out");
                None
            }
        };
        Ok(reply.entries.into_iter().filter_map(read).collect())
    }

    /// The services that have instances, and how many, by name.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn services(&self) -> Result<BTreeMap<String, usize>, Error> {
        let reply = self.range(KeyRange::prefix("services/")).keys_only().await?;
        let mut services = BTreeMap::new();
        for entry in reply.entries {
            let key = std::str::from_utf8(entry.key.as_bytes()).unwrap_or_default();
            let mut parts = key.split('/').skip(1);
            if let (Some(service), Some(_), None) = (parts.next(), parts.next(), parts.next()) {
                *services.entry(service.to_owned()).or_default() += 1;
            }
        }
        Ok(services)
    }
}

/// What to register: a record, and what it is tied to.
#[derive(Clone, Debug)]
pub struct Registration {
    instance: Instance,
    tie: Tie,
    error: Option<Error>,
}

#[derive(Clone, Copy, Debug)]
enum Tie {
    Kept(Duration),
    Given(LeaseId),
    Free,
}

impl Registration {
    /// An instance of `service` with a random id, tied to a lease of 10 s that the client keeps alive.
    #[must_use]
    pub fn new(service: impl Into<String>) -> Self {
        let id = uuid::Uuid::now_v7().to_string();
        let mut instance = Instance::new(service, id);
        instance.started_at = rfc3339(SystemTime::now());
        Self { instance, tie: Tie::Kept(INSTANCE_TTL), error: None }
    }

    /// The whole record, as it is to be stored.
    #[must_use]
    pub const fn of(instance: Instance) -> Self {
        Self { instance, tie: Tie::Kept(INSTANCE_TTL), error: None }
    }

    /// Its id, unique in its service. One that is registered already is replaced.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.instance.id = id.into();
        self
    }

    /// Adds an endpoint: `scheme://host:port`, or `host:port` for `tcp`. What cannot be read is reported by
    /// [`Client::register`].
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl AsRef<str>) -> Self {
        match endpoint.as_ref().parse::<ServiceEndpoint>() {
            Ok(endpoint) => self.instance.endpoints.push(endpoint),
            Err(refusal) => self.error = self.error.or(Some(refusal.into())),
        }
        self
    }

    /// The version of the service's software.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.instance.version = version.into();
        self
    }

    /// Adds a word to select it by.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.instance.tags.push(tag.into());
        self
    }

    /// Adds anything else about it.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.instance.metadata.insert(name.into(), value.into());
        self
    }

    /// Where it runs.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.instance.zone = zone.into();
        self
    }

    /// Its share of the load, relative to the others'. Default 1.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.instance.weight = weight;
        self
    }

    /// How long it outlives silence; the client keeps it alive meanwhile. Default 10 s.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.tie = Tie::Kept(ttl);
        self
    }

    /// Tied to a lease that the caller has: it lives as long as that.
    #[must_use]
    pub const fn lease(mut self, lease: LeaseId) -> Self {
        self.tie = Tie::Given(lease);
        self
    }

    /// Tied to nothing: it stays until it is deregistered, whatever becomes of this process.
    #[must_use]
    pub const fn permanent(mut self) -> Self {
        self.tie = Tie::Free;
        self
    }
}

/// A registered instance. What it is tied to is let go of when this is dropped: a lease that was made for it is revoked
/// in the background, a permanent registration and one on a given lease stay.
#[derive(Debug)]
pub struct Registered {
    client: Client,
    instance: Instance,
    revision: Revision,
    lease: Option<Held>,
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
    /// The record, as it was stored.
    #[must_use]
    pub const fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The revision that registered it.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The lease that it is tied to.
    #[must_use]
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease.as_ref().map(Held::id)
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
    /// Those of any write.
    pub async fn deregister(self) -> Result<bool, Error> {
        let key = self.instance.key();
        let removed = match &self.lease {
            None => self.client.delete(key).await?.deleted > 0,
            Some(held) => {
                let delete = Delete { range: KeyRange::One(key.clone()), previous: false };
                let mine = Compare::Lease(key, Some(held.id()));
                self.client.txn().when(mine).then(TxnOp::Delete(delete)).await?.succeeded
            }
        };
        if let Some(Held::Kept(lease)) = self.lease {
            match lease.revoke().await {
                Err(error) if error.code() != ErrorCode::LeaseNotFound => return Err(error),
                _ => {}
            }
        }
        Ok(removed)
    }

    /// Replaces the record, if it is still this registration's: `false` if not, and nothing was written.
    ///
    /// # Errors
    /// As [`Client::register`].
    pub async fn update(&mut self, change: impl FnOnce(&mut Instance)) -> Result<bool, Error> {
        let mut instance = self.instance.clone();
        change(&mut instance);
        instance.check()?;
        let key = self.instance.key();
        if instance.key() != key {
            return Err(Error::new(ErrorCode::InvalidArgument, "a registration keeps its service and id"));
        }
        let lease = self.lease();
        let put = Put { key: key.clone(), value: instance.to_json().into(), lease, previous: false };
        let reply = self.client.txn().when(Compare::Lease(key, lease)).then(TxnOp::Put(put)).await?;
        if reply.succeeded {
            self.instance = instance;
            self.revision = reply.revision;
        }
        Ok(reply.succeeded)
    }
}

/// UTC to the second, as people and tools read it.
fn rfc3339(time: SystemTime) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    OffsetDateTime::from(time)
        .replace_nanosecond(0)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}
