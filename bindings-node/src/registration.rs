//! Registering instances.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hither::{Error, Instance, InstanceStatus, Registered, Registration};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::client::NativeClient;
use crate::hear::{self, invalid};
use crate::port::{Queue, value};
use crate::runtime;
use crate::tell;

/// What to register; see `RegisterOptions` in TypeScript.
#[napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "TypeScript's `RegisterOptions` has the words")]
pub struct RawRegistration {
    pub service: String,
    pub id: Option<String>,
    pub port: Option<u32>,
    pub address: Option<String>,
    pub scheme: Option<String>,
    pub record: RawRecord,
    pub ttl_ms: Option<f64>,
    pub lease: Option<String>,
    pub permanent: bool,
    pub timeout_ms: Option<f64>,
}

/// Fields of a record: those that are there are set.
#[napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "TypeScript's `Record` has the words")]
pub struct RawRecord {
    pub endpoints: Option<Vec<String>>,
    pub version: Option<String>,
    pub tags: Option<Vec<String>>,
    pub metadata: Option<HashMap<String, String>>,
    pub zone: Option<String>,
    pub region: Option<String>,
    pub weight: Option<u32>,
    pub status: Option<String>,
}

impl TryFrom<RawRegistration> for Registration {
    type Error = Error;

    fn try_from(raw: RawRegistration) -> Result<Self, Error> {
        let mut registration = Self::new(raw.service);
        if let Some(id) = raw.id {
            registration = registration.id(id);
        }
        if let Some(port) = raw.port {
            registration = registration.port(u16::try_from(port).map_err(|_| invalid("port must be 1 to 65535"))?);
        }
        if let Some(address) = raw.address {
            registration = registration.address(address);
        }
        if let Some(scheme) = raw.scheme {
            registration = registration.scheme(scheme);
        }
        let RawRecord { endpoints, version, tags, metadata, zone, region, weight, status } = raw.record;
        if status.is_some() {
            return Err(invalid("an instance begins as passing; update its status after that"));
        }
        registration = endpoints.into_iter().flatten().fold(registration, Self::endpoint);
        registration = version.into_iter().fold(registration, Self::version);
        registration = tags.into_iter().flatten().fold(registration, Self::tag);
        registration = metadata
            .into_iter()
            .flatten()
            .fold(registration, |registration, (name, value)| registration.metadata(name, value));
        registration = zone.into_iter().fold(registration, Self::zone);
        registration = region.into_iter().fold(registration, Self::region);
        registration = weight.into_iter().fold(registration, Self::weight);
        if let Some(ttl) = raw.ttl_ms {
            registration = registration.ttl(hear::duration(ttl));
        }
        if let Some(lease) = hear::lease(raw.lease)? {
            registration = registration.lease(lease);
        }
        Ok(if raw.permanent { registration.permanent() } else { registration })
    }
}

impl RawRecord {
    fn change(self, instance: &mut Instance) -> Result<(), Error> {
        if let Some(endpoints) = self.endpoints {
            instance.endpoints =
                endpoints.iter().map(|endpoint| endpoint.parse()).collect::<Result<_, _>>().map_err(Error::from)?;
        }
        if let Some(metadata) = self.metadata {
            instance.metadata = metadata.into_iter().collect::<BTreeMap<_, _>>();
        }
        set(&mut instance.version, self.version);
        set(&mut instance.tags, self.tags);
        set(&mut instance.zone, self.zone);
        set(&mut instance.region, self.region);
        set(&mut instance.weight, self.weight);
        set(&mut instance.status, self.status.as_deref().map(InstanceStatus::from));
        Ok(())
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

#[napi]
impl NativeClient {
    /// Registers an instance. Brings a [`NativeRegistered`].
    #[napi(catch_unwind)]
    pub fn register(&self, call: u32, registration: RawRegistration) {
        let (client, queue) = (self.client.clone(), Arc::clone(&self.queue));
        self.queue.run(call, async move {
            let timeout = registration.timeout_ms;
            let registered = hear::within(timeout, client.register(registration.try_into()?)).await?;
            Ok(value(NativeRegistered { kept: Mutex::new(Some(Arc::new(registered))), queue }))
        });
    }
}

/// A registered instance.
#[napi]
#[derive(Debug)]
pub struct NativeRegistered {
    kept: Mutex<Option<Arc<Registered>>>,
    queue: Arc<Queue>,
}

#[napi]
impl NativeRegistered {
    /// `[json, epoch]`
    #[napi(catch_unwind, ts_return_type = "[string, bigint]")]
    pub fn instance(&self) -> (String, u64) {
        self.kept.lock().as_ref().map_or_else(Default::default, |registered| {
            let instance = registered.instance();
            (instance.to_json(), instance.epoch.0)
        })
    }

    /// How it stands.
    #[napi(getter, catch_unwind)]
    pub fn state(&self) -> &'static str {
        self.kept.lock().as_ref().map_or("deregistered", |registered| registered.state().as_str())
    }

    /// Notes each loss and each return: true and false, until it is over. It holds the registration.
    #[napi(catch_unwind)]
    pub fn follow(&self, call: u32) {
        let Some(registered) = self.kept.lock().clone() else { return };
        let queue = Arc::clone(&self.queue);
        let mut told = runtime::follow(|tell| async move {
            loop {
                registered.lost().await;
                // Who no longer reads has ended this.
                let _ = tell.send(true);
                if !registered.found().await {
                    return;
                }
                let _ = tell.send(false);
            }
        });
        self.queue.run(call, async move {
            while let Some(lost) = told.recv().await {
                queue.note(call, value(lost));
            }
            Ok(value(tell::NOTHING))
        });
    }

    /// Changes its record.
    #[napi(catch_unwind)]
    pub fn update(&self, call: u32, record: RawRecord, timeout: Option<f64>) {
        let kept = self.kept.lock().clone();
        self.queue.run(call, async move {
            let registered = kept.ok_or_else(over)?;
            // The core checks what this makes of the record; what does not parse is found out here first.
            record.clone().change(&mut registered.instance())?;
            let change = |instance: &mut Instance| drop(record.change(instance));
            hear::within(timeout, registered.update(change)).await?;
            Ok(value(tell::NOTHING))
        });
    }

    /// Takes it out of the registry: whether it was there.
    #[napi(catch_unwind)]
    pub fn deregister(&self, call: u32, timeout: Option<f64>) {
        let kept = self.kept.lock().clone();
        self.queue.run(call, async move {
            let registered = kept.ok_or_else(over)?;
            hear::within(timeout, registered.deregister()).await.map(value)
        });
    }

    /// Lets go of it: it is deregistered in the background, unless it is tied to something else.
    #[napi(catch_unwind)]
    pub fn release(&self) {
        self.kept.lock().take();
    }
}

fn over() -> Error {
    Error::new(hither::ErrorCode::NotFound, "the registration was released")
}
