//! Registering, finding and following services.

use std::sync::Arc;

use hither::{
    Client, Instance, InstanceFilter, Pick, Registered, Registration, ServiceEndpoint, ServiceUpdate, ServiceView,
    ServiceWatch,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::args::Args;
use super::{Done, Failure, crash, show};

pub(crate) async fn register(client: &Client, args: &Args<'_>) -> Result<(Registered, Value), Failure> {
    let mut registration = Registration::new(args.text("service")?);
    type Set = fn(Registration, String) -> Registration;
    let texts: [(&str, Set); 6] = [
        ("id", Registration::id),
        ("address", Registration::address),
        ("scheme", Registration::scheme),
        ("version", Registration::version),
        ("zone", Registration::zone),
        ("region", Registration::region),
    ];
    for (name, set) in texts {
        if let Some(text) = args.text_maybe(name)? {
            registration = set(registration, text.to_owned());
        }
    }
    if let Some(port) = args.number_maybe("port")? {
        registration = registration.port(u16::try_from(port).map_err(|_| crash("port is no port"))?);
    }
    for endpoint in args.texts("endpoints")? {
        registration = registration.endpoint(endpoint);
    }
    for tag in args.texts("tags")? {
        registration = registration.tag(tag);
    }
    if let Some(metadata) = args.object("metadata")? {
        for name in metadata.0.keys() {
            registration = registration.metadata(name, metadata.text(name)?);
        }
    }
    if let Some(weight) = args.number_maybe("weight")? {
        registration = registration.weight(u32::try_from(weight).map_err(|_| crash("weight is no weight"))?);
    }
    if let Some(ttl) = args.time("ttl_ms")? {
        registration = registration.ttl(ttl);
    }
    if let Some(lease) = args.lease("lease")? {
        registration = registration.lease(lease);
    }
    if args.flag("permanent", false)? {
        registration = registration.permanent();
    }
    let registered = client.register(registration).await?;
    let shown = registered_now(&registered);
    Ok((registered, shown))
}

pub(crate) fn registered_now(registered: &Registered) -> Value {
    json!({ "instance": show::instance(&registered.instance()), "epoch": registered.epoch().0 })
}

pub(crate) async fn update(registered: &Registered, args: &Args<'_>) -> Done {
    let set = args.object("set")?.ok_or_else(|| crash("set is missing"))?;
    let mut changed = registered.instance();
    change(&mut changed, &set)?;
    registered.update(|instance| *instance = changed).await?;
    Ok(registered_now(registered))
}

fn change(instance: &mut Instance, set: &Args<'_>) -> Result<(), Failure> {
    for name in set.0.keys() {
        match name.as_str() {
            "version" => instance.version = set.text(name)?.to_owned(),
            "zone" => instance.zone = set.text(name)?.to_owned(),
            "region" => instance.region = set.text(name)?.to_owned(),
            "weight" => instance.weight = u32::try_from(set.number(name)?).map_err(|_| crash("weight is no weight"))?,
            "status" => instance.status = set.text(name)?.into(),
            "tags" => instance.tags = set.texts(name)?.into_iter().map(str::to_owned).collect(),
            "metadata" => {
                let metadata = set.object(name)?.ok_or_else(|| crash("metadata is missing"))?;
                let pairs = metadata.0.keys().map(|name| Ok((name.clone(), metadata.text(name)?.to_owned())));
                instance.metadata = pairs.collect::<Result<_, Failure>>()?;
            }
            "endpoints" => {
                let read = |text: &str| text.parse::<ServiceEndpoint>().map_err(hither::Error::from);
                instance.endpoints = set.texts(name)?.into_iter().map(read).collect::<Result<_, _>>()?;
            }
            _ => return Err(crash(format!("{name} is no field that a scenario sets"))),
        }
    }
    Ok(())
}

pub(crate) fn filter(args: &Args<'_>) -> Result<InstanceFilter, Failure> {
    let mut filter = InstanceFilter::new();
    let Some(args) = args.object("filter")? else { return Ok(filter) };
    for tag in args.texts("tags")? {
        filter = filter.tag(tag);
    }
    if let Some(metadata) = args.object("metadata")? {
        for name in metadata.0.keys() {
            filter = filter.metadata(name, metadata.text(name)?);
        }
    }
    if let Some(version) = args.text_maybe("version")? {
        filter = filter.version(version);
    }
    if let Some(zone) = args.text_maybe("zone")? {
        filter = filter.zone(zone);
    }
    if let Some(region) = args.text_maybe("region")? {
        filter = filter.region(region);
    }
    for word in args.texts("status")? {
        filter = filter.status(word);
    }
    Ok(filter)
}

pub(crate) async fn discover(client: &Client, args: &Args<'_>) -> Done {
    let mut discover = client.discover(args.text("service")?).filter(filter(args)?);
    if let Some(age) = args.time("max_staleness_ms")? {
        discover = discover.max_staleness(age);
    }
    if let Some(timeout) = args.time("timeout_ms")? {
        discover = discover.timeout(timeout);
    }
    Ok(view(&*discover.await?))
}

pub(crate) async fn wait_for(client: &Client, args: &Args<'_>) -> Done {
    let count = usize::try_from(args.number("count")?).map_err(|_| crash("count is no count"))?;
    let mut wait = client.wait_for(args.text("service")?, count).filter(filter(args)?);
    if let Some(timeout) = args.time("timeout_ms")? {
        wait = wait.timeout(timeout);
    }
    Ok(view(&*wait.await?))
}

pub(crate) fn local_view(client: &Client, args: &Args<'_>) -> Done {
    let known = client.view(args.text("service")?);
    Ok(json!({ "view": known.map_or(Value::Null, |known| view(&known)) }))
}

pub(crate) fn pick(client: &Client, args: &Args<'_>) -> Done {
    let pick = match args.text_maybe("policy")? {
        None | Some("round_robin") => Pick::round_robin(),
        Some("random") => Pick::random(),
        Some(_) => return Err(crash("policy is round_robin or random")),
    };
    let pick = pick.filter(filter(args)?);
    let service = args.text("service")?;
    let (mut ids, mut last) = (Vec::new(), None);
    for _ in 0..args.number_maybe("times")?.unwrap_or(1) {
        let instance = client.pick(service, &pick)?;
        ids.push(instance.id.clone());
        last = Some(instance);
    }
    Ok(json!({ "ids": ids, "instance": last.as_deref().map(show::instance) }))
}

fn view(view: &ServiceView) -> Value {
    let invalid = |invalid: &hither::Invalid| json!({ "key": show::text(&invalid.key), "reason": invalid.reason });
    json!({
        "service": &*view.service,
        "revision": view.revision.0,
        "state": view.state.as_str(),
        "age_ms": u64::try_from(view.age().as_millis()).unwrap_or(u64::MAX),
        "source": view.source.as_str(),
        "instances": instances(&view.instances),
        "invalid": view.invalid.iter().map(invalid).collect::<Vec<_>>(),
    })
}

fn instances(instances: &[Arc<Instance>]) -> Vec<Value> {
    instances.iter().map(|instance| show::instance(instance)).collect()
}

/// A service watch, that may be closed while somebody waits for its next update.
pub(crate) struct OpenServiceWatch {
    watch: Mutex<Option<ServiceWatch>>,
    closed: watch::Sender<bool>,
}

pub(crate) async fn open(client: &Client, args: &Args<'_>) -> Result<OpenServiceWatch, Failure> {
    let mut watch = client.watch_service(args.text("service")?).filter(filter(args)?);
    if let Some(interval) = args.time("min_interval_ms")? {
        watch = watch.min_interval(interval);
    }
    if let Some(timeout) = args.time("timeout_ms")? {
        watch = watch.timeout(timeout);
    }
    Ok(OpenServiceWatch { watch: Mutex::new(Some(watch.await?)), closed: watch::Sender::new(false) })
}

impl OpenServiceWatch {
    pub(crate) async fn next(&self, args: &Args<'_>) -> Done {
        let mut closed = self.closed.subscribe();
        let mut watch = self.watch.lock().await;
        let Some(watch) = watch.as_mut() else { return Ok(json!({ "none": "end" })) };
        let next = async {
            tokio::select! {
                next = watch.next() => next,
                _ = closed.wait_for(|closed| *closed) => None,
            }
        };
        Ok(match args.wait(next).await? {
            None => json!({ "none": "timeout" }),
            Some(None) => json!({ "none": "end" }),
            Some(Some(update)) => shown(&update?),
        })
    }

    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        drop(self.watch.lock().await.take());
    }
}

fn shown(update: &ServiceUpdate) -> Value {
    json!({
        "view": view(&update.view),
        "added": instances(&update.added),
        "changed": instances(&update.changed),
        "removed": instances(&update.removed),
    })
}
