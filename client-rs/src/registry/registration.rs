//! What to register.

use std::time::{Duration, SystemTime};

use hither_client_core::{Error, Instance, ServiceEndpoint, Tie};
use hither_protocol::LeaseId;

/// How long an instance outlives silence unless said otherwise.
const INSTANCE_TTL: Duration = Duration::from_secs(10);
/// What a port without a scheme is taken for.
const SCHEME: &str = "http";

/// What to register: a record, and what it is tied to. To be given to [`Client::register`](crate::Client::register)(crate::Client::register).
#[derive(Clone, Debug)]
#[must_use = "nothing is registered until it is given to a client"]
pub struct Registration {
    pub(crate) instance: Instance,
    pub(crate) tie: Tie,
    pub(crate) listens: Option<Listens>,
    pub(crate) error: Option<Error>,
}

/// An endpoint that is not complete yet.
#[derive(Clone, Debug)]
pub(crate) struct Listens {
    pub(crate) scheme: String,
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

impl Default for Listens {
    fn default() -> Self {
        Self { scheme: SCHEME.to_owned(), host: None, port: 0 }
    }
}

impl Registration {
    /// An instance of `service` with a random id, tied to a lease of 10 s that the client keeps alive.
    pub fn new(service: impl Into<String>) -> Self {
        let id = uuid::Uuid::now_v7().to_string();
        let mut instance = Instance::new(service, id);
        instance.started_at = rfc3339(SystemTime::now());
        Self::of(instance)
    }

    /// The whole record, as it is to be stored.
    pub const fn of(instance: Instance) -> Self {
        Self { instance, tie: Tie::Kept(INSTANCE_TTL), listens: None, error: None }
    }

    /// Whether nothing was said of where it listens.
    #[cfg(feature = "axum")]
    pub(crate) fn listens_nowhere(&self) -> bool {
        self.instance.endpoints.is_empty() && self.listens.is_none()
    }

    /// Its id, unique in its service. One that is registered already is replaced.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.instance.id = id.into();
        self
    }

    /// The port that it listens on. Its address is found by itself unless [`address`](Self::address) names it: the one
    /// that leads to the server.
    pub fn port(mut self, port: u16) -> Self {
        self.listens.get_or_insert_default().port = port;
        self
    }

    /// The name or address that others reach it at, for [`port`](Self::port).
    pub fn address(mut self, host: impl Into<String>) -> Self {
        self.listens.get_or_insert_default().host = Some(host.into());
        self
    }

    /// What it speaks at its [`port`](Self::port). Default `http`.
    pub fn scheme(mut self, scheme: impl Into<String>) -> Self {
        self.listens.get_or_insert_default().scheme = scheme.into();
        self
    }

    /// Adds an endpoint: `scheme://host:port`, or `host:port` for `tcp`. What cannot be read is reported by
    /// [`Client::register`](crate::Client::register).
    pub fn endpoint(mut self, endpoint: impl AsRef<str>) -> Self {
        match endpoint.as_ref().parse::<ServiceEndpoint>() {
            Ok(endpoint) => self.instance.endpoints.push(endpoint),
            Err(refusal) => self.error = self.error.or(Some(refusal.into())),
        }
        self
    }

    /// The version of the service's software.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.instance.version = version.into();
        self
    }

    /// Adds a word to select it by.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.instance.tags.push(tag.into());
        self
    }

    /// Adds anything else about it.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.instance.metadata.insert(name.into(), value.into());
        self
    }

    /// Where it runs.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.instance.zone = zone.into();
        self
    }

    /// Where it runs.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.instance.region = region.into();
        self
    }

    /// Its share of the load, relative to the others'. Default 1.
    pub const fn weight(mut self, weight: u32) -> Self {
        self.instance.weight = weight;
        self
    }

    /// How long it outlives silence; the client keeps it alive meanwhile. Default 10 s.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.tie = Tie::Kept(ttl);
        self
    }

    /// Tied to a lease that the caller has: it lives as long as that.
    pub const fn lease(mut self, lease: LeaseId) -> Self {
        self.tie = Tie::Given(lease);
        self
    }

    /// Tied to nothing: it stays until it is deregistered, whatever becomes of this process.
    pub const fn permanent(mut self) -> Self {
        self.tie = Tie::Free;
        self
    }
}

/// UTC to the second, as people and tools read it.
pub(super) fn rfc3339(time: SystemTime) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    OffsetDateTime::from(time)
        .replace_nanosecond(0)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}
