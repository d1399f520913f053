//! The driver of Rust: does what it is told over the crate `hither`, and judges nothing.

mod args;
mod keys;
mod leases;
mod process;
mod registry;
mod show;
mod watches;

use std::collections::HashMap;
use std::sync::Arc;

use hither::{Client, Error, Lease, Registered, States};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use self::args::Args;
pub(crate) use self::process::{Ending, serve};
use self::registry::OpenServiceWatch;
use self::watches::OpenWatch;

/// What it can carry out.
pub(crate) const OPS: &[&str] = &[
    "probe",
    "cancel",
    "reset",
    "exit",
    "connect",
    "close",
    "release",
    "state",
    "state.next",
    "metrics",
    "kv.get",
    "kv.put",
    "kv.delete",
    "kv.list",
    "kv.txn",
    "lease.grant",
    "lease.renew",
    "lease.revoke",
    "lease.lost",
    "lease.info",
    "watch.open",
    "watch.next",
    "watch.close",
    "register",
    "update",
    "drain",
    "deregister",
    "registration.state",
    "registration.lost",
    "discover",
    "view",
    "wait_for",
    "pick",
    "service.watch.open",
    "service.watch.next",
    "service.watch.close",
    "worker",
];

/// One line to a driver.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Its number.
    pub(crate) id: u64,
    /// What to do.
    pub(crate) op: String,
    /// The handle to do it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) on: Option<String>,
    /// The name of the handle that is made.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub(crate) named: Option<String>,
    /// Arguments.
    #[serde(default)]
    pub(crate) args: Map<String, Value>,
}

/// Why an operation did not return.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error.
    Library(Box<Error>),
    /// Rust has no such thing.
    Unsupported(&'static str),
    /// The request makes no sense, or the driver erred.
    Crash(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(Box::new(error))
    }
}

pub(crate) fn crash(text: impl Into<String>) -> Failure {
    Failure::Crash(text.into())
}

pub(crate) type Done = Result<Value, Failure>;

/// What names stand for.
#[derive(Clone)]
enum Handle {
    Client(Client, Arc<AsyncMutex<States>>),
    Lease(Arc<Lease>),
    Watch(Arc<OpenWatch>),
    Registered(Arc<Registered>),
    ServiceWatch(Arc<OpenServiceWatch>),
}

/// Carries out requests, any number at once.
#[derive(Default)]
pub(crate) struct Driver {
    handles: Mutex<HashMap<String, Handle>>,
    under_way: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    ending: Mutex<Option<Ending>>,
}

impl Driver {
    /// Carries out one request; returns the answer without its number.
    pub(crate) async fn answer(&self, request: Request) -> Value {
        let (cancel, cancelled) = oneshot::channel();
        self.under_way.lock().insert(request.id, cancel);
        let done = tokio::select! {
            done = self.carry_out(&request) => Some(done),
            // The future of the operation is dropped: that is how Rust cancels.
            Ok(()) = cancelled => None,
        };
        self.under_way.lock().remove(&request.id);
        match done {
            Some(Ok(value)) => json!({ "ok": value }),
            Some(Err(Failure::Library(error))) => json!({ "err": show::error(&error) }),
            Some(Err(Failure::Unsupported(why))) => json!({ "unsupported": why }),
            Some(Err(Failure::Crash(text))) => json!({ "crash": text }),
            None => json!({ "cancelled": true }),
        }
    }

    async fn carry_out(&self, request: &Request) -> Done {
        let args = Args(&request.args);
        let on = || request.on.as_deref().ok_or_else(|| crash(format!("{}: `on` is missing", request.op)));
        let named = || request.named.clone().ok_or_else(|| crash(format!("{}: `as` is missing", request.op)));
        match request.op.as_str() {
            "probe" => self.probe(),
            "cancel" => {
                let target = self.under_way.lock().remove(&args.number("id")?);
                Ok(json!({ "found": target.is_some_and(|cancel| cancel.send(()).is_ok()) }))
            }
            "reset" => {
                self.close_all().await;
                Ok(json!({}))
            }
            "exit" => self.exit(self.client(on()?)?, &args).await,
            "worker" => process::worker(&args).await,

            "connect" => {
                let mut builder = Client::builder().url(args.text("url")?);
                if let Some(context) = args.text_maybe("context")? {
                    builder = builder.context(context);
                }
                let client = builder.connect().await?;
                let state = client.state();
                self.adopt(&named()?, client);
                Ok(json!({ "state": state.as_str() }))
            }
            "close" => {
                self.client(on()?)?.close().await;
                Ok(json!({}))
            }
            "release" => {
                self.handles.lock().remove(on()?).ok_or_else(|| crash("no such handle"))?;
                Ok(json!({}))
            }
            "state" => Ok(json!({ "state": self.client(on()?)?.state().as_str() })),
            "state.next" => {
                let Handle::Client(_, states) = self.handle(on()?)? else { return Err(crash("no client")) };
                let mut states = states.lock().await;
                let changed = args.wait(states.changed()).await?;
                Ok(match changed {
                    None => json!({ "none": "timeout" }),
                    Some(None) => json!({ "none": "end" }),
                    Some(Some(state)) => json!({ "state": state.as_str() }),
                })
            }
            "metrics" => Ok(show::metrics(&self.client(on()?)?.metrics())),

            "kv.get" => keys::get(&self.client(on()?)?, &args).await,
            "kv.put" => keys::put(&self.client(on()?)?, &args).await,
            "kv.delete" => keys::delete(&self.client(on()?)?, &args).await,
            "kv.list" => keys::list(&self.client(on()?)?, &args).await,
            "kv.txn" => keys::txn(&self.client(on()?)?, &args).await,

            "lease.grant" => {
                let client = self.client(on()?)?;
                let ttl = args.time("ttl_ms")?.ok_or_else(|| crash("ttl_ms is missing"))?;
                if !args.flag("keep", true)? {
                    let granted = client.lease_grant(ttl).await?;
                    return Ok(json!({ "lease": granted.lease.to_string(), "ttl_ms": granted.ttl_ms }));
                }
                let lease = client.lease(ttl).await?;
                let ttl_ms = u64::try_from(lease.ttl().as_millis()).unwrap_or(u64::MAX);
                let shown = json!({ "lease": lease.id().to_string(), "ttl_ms": ttl_ms });
                self.keep(named()?, Handle::Lease(Arc::new(lease)));
                Ok(shown)
            }
            "lease.renew" => leases::renew(&self.client(on()?)?, &args).await,
            "lease.info" => leases::info(&self.client(on()?)?, &args).await,
            "lease.revoke" => {
                let name = on()?;
                match self.handle(name)? {
                    Handle::Client(client, _) => leases::revoke(&client, &args).await,
                    Handle::Lease(lease) => {
                        self.handles.lock().remove(name);
                        let lease = Arc::into_inner(lease).ok_or_else(|| crash("the lease is being waited on"))?;
                        Ok(json!({ "deleted": lease.revoke().await?.deleted }))
                    }
                    _ => Err(crash(format!("{name} is no lease"))),
                }
            }
            "lease.lost" => {
                let Handle::Lease(lease) = self.handle(on()?)? else { return Err(crash("no lease")) };
                let lost = args.wait(lease.lost()).await?;
                Ok(lost.map_or_else(|| json!({ "none": "timeout" }), |()| json!({ "lost": true })))
            }

            "watch.open" => {
                let (watch, revision) = watches::open(&self.client(on()?)?, &args).await?;
                self.keep(named()?, Handle::Watch(Arc::new(watch)));
                Ok(json!({ "revision": revision }))
            }
            "watch.next" => {
                let Handle::Watch(watch) = self.handle(on()?)? else { return Err(crash("no watch")) };
                watch.next(&args).await
            }
            "watch.close" => {
                let Some(Handle::Watch(watch)) = self.handles.lock().remove(on()?) else {
                    return Err(crash("no watch"));
                };
                watch.close().await;
                Ok(json!({}))
            }

            "register" => {
                let (registered, shown) = registry::register(&self.client(on()?)?, &args).await?;
                self.keep(named()?, Handle::Registered(Arc::new(registered)));
                Ok(shown)
            }
            "update" => registry::update(&*self.registered(on()?)?, &args).await,
            "drain" => {
                let registered = self.registered(on()?)?;
                registered.drain().await?;
                Ok(registry::registered_now(&registered))
            }
            "deregister" => Ok(json!({ "removed": self.registered(on()?)?.deregister().await? })),
            "registration.state" => {
                let registered = self.registered(on()?)?;
                Ok(json!({ "state": registered.state().as_str(), "epoch": registered.epoch().0 }))
            }
            "registration.lost" => {
                let lost = args.wait(self.registered(on()?)?.lost()).await?;
                Ok(lost.map_or_else(|| json!({ "none": "timeout" }), |()| json!({ "lost": true })))
            }
            "discover" => registry::discover(&self.client(on()?)?, &args).await,
            "view" => registry::local_view(&self.client(on()?)?, &args),
            "wait_for" => registry::wait_for(&self.client(on()?)?, &args).await,
            "pick" => registry::pick(&self.client(on()?)?, &args),
            "service.watch.open" => {
                let watch = registry::open(&self.client(on()?)?, &args).await?;
                self.keep(named()?, Handle::ServiceWatch(Arc::new(watch)));
                Ok(json!({}))
            }
            "service.watch.next" => {
                let Handle::ServiceWatch(watch) = self.handle(on()?)? else { return Err(crash("no service watch")) };
                watch.next(&args).await
            }
            "service.watch.close" => {
                let Some(Handle::ServiceWatch(watch)) = self.handles.lock().remove(on()?) else {
                    return Err(crash("no service watch"));
                };
                watch.close().await;
                Ok(json!({}))
            }
            other => Err(crash(format!("there is no operation {other}"))),
        }
    }

    fn keep(&self, name: String, handle: Handle) {
        self.handles.lock().insert(name, handle);
    }

    fn handle(&self, name: &str) -> Result<Handle, Failure> {
        self.handles.lock().get(name).cloned().ok_or_else(|| crash(format!("there is no handle {name}")))
    }

    fn client(&self, name: &str) -> Result<Client, Failure> {
        match self.handle(name)? {
            Handle::Client(client, _) => Ok(client),
            _ => Err(crash(format!("{name} is no client"))),
        }
    }

    fn registered(&self, name: &str) -> Result<Arc<Registered>, Failure> {
        match self.handle(name)? {
            Handle::Registered(registered) => Ok(registered),
            _ => Err(crash(format!("{name} is no registration"))),
        }
    }

    /// Takes a client in under a name.
    pub(crate) fn adopt(&self, name: &str, client: Client) {
        let mut states = client.states();
        let _ = states.current();
        self.keep(name.to_owned(), Handle::Client(client, Arc::new(AsyncMutex::new(states))));
    }

    /// Closes every client and forgets every handle.
    pub(crate) async fn close_all(&self) {
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles.values() {
            if let Handle::Client(client, _) = handle {
                client.close().await;
            }
        }
    }
}
