//! Finding services: JavaScript's copy of a view, kept by differences, and picking out of it.
//!
//! Which instance is picked and which a filter lets through is decided in the core; this side names them by their place
//! in the list that JavaScript was told last. Views are told only when JavaScript asks, on its own thread, so that it
//! has always applied what was told before.

use std::collections::HashMap;
use std::sync::Arc;

use hither::{Client, Delta, Error, Instance, InstanceFilter, Pick, Service, ServiceUpdate, ServiceView, ServiceWatch};
use napi::Env;
use napi::bindgen_prelude::{Array, Null, ToNapiValue, Unknown};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::client::NativeClient;
use crate::hear;
use crate::port::{Queue, Tell, later, value};
use crate::runtime;
use crate::tell;

/// Which instances; see `Filter` in TypeScript.
#[napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "TypeScript's `Filter` has the words")]
pub struct RawFilter {
    pub tags: Vec<String>,
    pub metadata: HashMap<String, String>,
    pub versions: Vec<String>,
    pub zones: Vec<String>,
    pub regions: Vec<String>,
    pub statuses: Vec<String>,
}

impl From<RawFilter> for InstanceFilter {
    fn from(raw: RawFilter) -> Self {
        let filter = raw.tags.into_iter().fold(Self::new(), Self::tag);
        let filter = raw.metadata.into_iter().fold(filter, |filter, (name, value)| filter.metadata(name, value));
        let filter = raw.versions.into_iter().fold(filter, Self::version);
        let filter = raw.zones.into_iter().fold(filter, Self::zone);
        let filter = raw.regions.into_iter().fold(filter, Self::region);
        raw.statuses.iter().fold(filter, |filter, status| filter.status(status.as_str()))
    }
}

/// A way of picking, with its turn and what its filter let through last.
#[napi]
#[derive(Debug)]
pub struct NativePick {
    pick: Pick,
}

#[napi]
impl NativePick {
    /// In turn or at random.
    #[napi(constructor, catch_unwind)]
    pub fn new(random: bool, filter: Option<RawFilter>) -> Self {
        let pick = if random { Pick::random() } else { Pick::round_robin() };
        Self { pick: filter.map_or(pick.clone(), |filter| pick.filter(filter.into())) }
    }
}

/// A view, for its age, which goes on.
#[napi]
#[derive(Debug)]
pub struct NativeView {
    view: Arc<ServiceView>,
}

#[napi]
impl NativeView {
    /// Milliseconds since it was last known to be the present.
    #[napi(getter, catch_unwind)]
    pub fn age(&self) -> f64 {
        tell::milliseconds(self.view.age())
    }
}

/// JavaScript's copy of the view of one service.
#[napi]
#[derive(Debug)]
pub struct NativeService {
    room: Arc<Room>,
    queue: Arc<Queue>,
    picked: Mutex<Picked>,
}

#[derive(Debug)]
struct Room {
    client: Client,
    service: String,
    told: Mutex<Told>,
    /// What a call found: it stands where the subscription has ended since.
    found: Mutex<Option<Arc<ServiceView>>>,
}

/// What JavaScript was told last.
#[derive(Debug, Default)]
struct Told {
    view: Option<Arc<ServiceView>>,
    /// After the place that was named last: where the next turn is, most often.
    next: usize,
}

/// What the last pick brought, where JavaScript must ask for it.
#[derive(Debug)]
enum Picked {
    Nothing,
    Instance(Arc<Instance>),
    Error(Error),
}

/// A pick brought an instance that JavaScript was not told of.
const UNTOLD: i32 = -1;
/// A pick brought an error.
const FAILED: i32 = -2;

#[napi]
impl NativeClient {
    /// A service's copy. Nothing is subscribed to yet.
    #[napi(catch_unwind)]
    pub fn service(&self, service: String) -> NativeService {
        let (told, found) = (Mutex::default(), Mutex::default());
        let room = Arc::new(Room { client: self.client.clone(), service, told, found });
        NativeService { room, queue: Arc::clone(&self.queue), picked: Mutex::new(Picked::Nothing) }
    }

    /// The services that have instances: `[name, count]` each.
    #[napi(catch_unwind)]
    pub fn services(&self, call: u32, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let services = hear::within(timeout, client.services()).await?;
            let services: Vec<_> =
                services.into_iter().map(|(name, count)| (name, tell::count(count as u64))).collect();
            Ok(value(services))
        });
    }
}

#[napi]
impl NativeService {
    /// Waits until the view is known, and is as fresh as asked for. [`refresh`](Self::refresh) then brings it.
    #[napi(catch_unwind)]
    pub fn discover(&self, call: u32, max_staleness: Option<f64>, timeout: Option<f64>) {
        let room = Arc::clone(&self.room);
        self.queue.run(call, async move {
            let mut discover = room.client.discover(&room.service);
            if let Some(age) = max_staleness {
                discover = discover.max_staleness(hear::duration(age));
            }
            if let Some(timeout) = timeout {
                discover = discover.timeout(hear::duration(timeout));
            }
            *room.found.lock() = Some(discover.await?);
            Ok(value(tell::NOTHING))
        });
    }

    /// Waits until so many instances work.
    #[napi(catch_unwind)]
    pub fn wait_for(&self, call: u32, count: f64, filter: Option<RawFilter>, timeout: Option<f64>) {
        let room = Arc::clone(&self.room);
        self.queue.run(call, async move {
            let count = usize::try_from(hear::whole(count)).unwrap_or(usize::MAX);
            let mut wait = room.client.wait_for(&room.service, count);
            if let Some(filter) = filter {
                wait = wait.filter(filter.into());
            }
            if let Some(timeout) = timeout {
                wait = wait.timeout(hear::duration(timeout));
            }
            wait.await?;
            Ok(value(tell::NOTHING))
        });
    }

    /// What is different from what was told last: null if nothing is, undefined if nothing is known of the service.
    #[napi(catch_unwind)]
    pub fn refresh<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let found = self.room.found.lock().take();
        let Some(view) = self.room.client.view(&self.room.service).or(found) else {
            self.room.told.lock().view = None;
            return tell::NOTHING.into_unknown(env);
        };
        let mut told = self.room.told.lock();
        let before = match &told.view {
            Some(before) if Arc::ptr_eq(before, &view) => return Null.into_unknown(env),
            Some(before) => &*before.instances,
            None => &[],
        };
        let delta = Delta::between(before, &view.instances);
        told.view = Some(Arc::clone(&view));
        difference(env, &view, &delta)
    }

    /// The places of the instances that a filter lets through, in what was told last.
    #[napi(catch_unwind)]
    pub fn select(&self, filter: RawFilter) -> Vec<u32> {
        let filter = InstanceFilter::from(filter);
        let told = self.room.told.lock();
        let instances = told.view.iter().flat_map(|view| view.instances.iter());
        instances.zip(0..).filter(|(instance, _)| filter.matches(instance)).map(|(_, at)| at).collect()
    }

    /// Picks an instance, not one with these ids as long as there is another: its place in what was told last, or one of the
    /// negative numbers.
    #[napi(catch_unwind)]
    pub fn pick(&self, pick: &NativePick, besides: Option<Vec<String>>) -> i32 {
        let besides = besides.unwrap_or_default();
        match self.room.client.pick_besides(&self.room.service, &pick.pick, &besides) {
            Ok(instance) => self.room.place(&instance).unwrap_or_else(|| {
                *self.picked.lock() = Picked::Instance(instance);
                UNTOLD
            }),
            Err(error) => {
                *self.picked.lock() = Picked::Error(error);
                FAILED
            }
        }
    }

    /// After a pick that was untold, and after a refresh: its place, or again untold if it is gone already.
    #[napi(catch_unwind)]
    pub fn picked(&self) -> i32 {
        match &*self.picked.lock() {
            Picked::Instance(instance) => self.room.place(instance).unwrap_or(UNTOLD),
            _ => UNTOLD,
        }
    }

    /// After a pick or a keep that failed: why.
    #[napi(catch_unwind)]
    pub fn failure<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        match &*self.picked.lock() {
            Picked::Error(error) => tell::error(env, error),
            _ => Null.into_unknown(env),
        }
    }

    /// Keeps the view up to date for as long as what this returns lives. Null if that failed.
    #[napi(catch_unwind)]
    pub fn keep(&self) -> Option<NativeKept> {
        match self.room.client.service(&self.room.service) {
            Ok(service) => Some(NativeKept { service: Mutex::new(Some(service)) }),
            Err(error) => {
                *self.picked.lock() = Picked::Error(error);
                None
            }
        }
    }

    /// Opens a watch of the service. Brings a [`NativeServiceWatch`].
    #[napi(catch_unwind)]
    pub fn watch(&self, call: u32, filter: Option<RawFilter>, min_interval: f64, timeout: Option<f64>) {
        let (room, queue) = (Arc::clone(&self.room), Arc::clone(&self.queue));
        self.queue.run(call, async move {
            let mut watch = room.client.watch_service(&room.service).min_interval(hear::duration(min_interval));
            if let Some(filter) = filter {
                watch = watch.filter(filter.into());
            }
            if let Some(timeout) = timeout {
                watch = watch.timeout(hear::duration(timeout));
            }
            let open = Arc::new(tokio::sync::Mutex::new(Some(watch.await?)));
            Ok(value(NativeServiceWatch { open, queue }))
        });
    }
}

impl Room {
    /// Where an instance is in what JavaScript was told, if it is there as it is now.
    fn place(&self, instance: &Arc<Instance>) -> Option<i32> {
        let mut told = self.told.lock();
        let instances = &told.view.as_ref()?.instances;
        let is_at = |at: usize| instances.get(at).is_some_and(|other| Arc::ptr_eq(other, instance));
        let at = match [told.next, 0].into_iter().find(|at| is_at(*at)) {
            Some(at) => at,
            None => {
                instances.binary_search_by(|other| other.id.as_str().cmp(&instance.id)).ok().filter(|at| is_at(*at))?
            }
        };
        told.next = at + 1;
        i32::try_from(at).ok()
    }
}

/// What keeps the view of a service up to date.
#[napi]
#[derive(Debug)]
pub struct NativeKept {
    service: Mutex<Option<Service>>,
}

#[napi]
impl NativeKept {
    /// Lets go of it.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.service.lock().take();
    }
}

/// An open watch of a service.
#[napi]
#[derive(Debug)]
pub struct NativeServiceWatch {
    open: Arc<tokio::sync::Mutex<Option<ServiceWatch>>>,
    queue: Arc<Queue>,
}

#[napi]
impl NativeServiceWatch {
    /// Waits for the next difference; null at the end. One call at a time.
    #[napi(catch_unwind)]
    pub fn next(&self, call: u32) {
        let open = Arc::clone(&self.open);
        self.queue.run(call, async move {
            let mut open = open.lock().await;
            let next = match open.as_mut() {
                Some(watch) => watch.next().await.transpose()?,
                None => None,
            };
            Ok(update(next))
        });
    }

    /// Closes it.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        let open = Arc::clone(&self.open);
        // Not under a call's number: a call for updates, which has the lock, was taken back before.
        runtime::spawn(async move {
            open.lock().await.take();
        });
    }
}

fn update(update: Option<ServiceUpdate>) -> Tell {
    later(move |env| match update {
        Some(ServiceUpdate { view, added, changed, removed }) => {
            difference(env, &view, &Delta { added, changed, removed })
        }
        None => Null.into_unknown(env),
    })
}

/// `[added, changed, removed, revision, state, source, invalid, view]`; of the first two records and epochs, of the
/// third ids.
fn difference<'env>(env: &'env Env, view: &Arc<ServiceView>, delta: &Delta) -> napi::Result<Unknown<'env>> {
    let removed: Vec<&str> = delta.removed.iter().map(|instance| instance.id.as_str()).collect();
    let mut invalid = env.create_array(0)?;
    for record in view.invalid.iter() {
        invalid.insert((tell::key(env, &record.key)?, record.reason.as_str()).into_unknown(env)?)?;
    }
    let told = (
        records(env, &delta.added)?,
        records(env, &delta.changed)?,
        removed,
        view.revision.0,
        view.state.as_str(),
        view.source.as_str(),
        invalid,
        NativeView { view: Arc::clone(view) },
    );
    told.into_unknown(env)
}

/// `[json, epochs]`. A record is JSON already, with fields that this version may not know, and nothing makes objects of
/// ten thousand of them as quickly as JavaScript's own parser.
fn records<'env>(env: &'env Env, instances: &[Arc<Instance>]) -> napi::Result<Array<'env>> {
    let mut json = String::from("[");
    for instance in instances {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&instance.to_json());
    }
    json.push(']');
    let mut told = env.create_array(2)?;
    told.set(0, json)?;
    told.set(1, instances.iter().map(|instance| instance.epoch.0).collect::<Vec<u64>>())?;
    Ok(told)
}
