//! `hither svc`: services and their instances.

use std::time::Duration;

use clap::{Args, Subcommand};
use hither::{Client, Event, Instance, KeyRange, Registration, UpdateKind};

use crate::exit::{Exit, Failure};
use crate::output::{Format, shown};
use crate::session::{Global, duration};
use crate::signal;

#[derive(Debug, Subcommand)]
pub(crate) enum Svc {
    /// Register an instance, and hold the registration until Ctrl-C unless told otherwise.
    Register(Register),
    /// Take an instance out.
    Deregister {
        /// The service.
        service: String,
        /// The instance.
        id: String,
    },
    /// List the instances of a service, or of all services.
    Ls {
        /// The service.
        service: Option<String>,
    },
    /// Follow the instances of a service.
    Watch {
        /// The service.
        service: String,
        /// End after so many changes.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hither svc register api --endpoint 10.0.0.5:8080                   until Ctrl-C
  hither svc register api --id node1 --endpoint grpc://10.0.0.5:9000 --permanent
  hither svc register api --id node1 --endpoint 10.0.0.5:8080 --ttl 30s")]
pub(crate) struct Register {
    /// The service.
    service: String,
    /// The instance, unique in its service; drawn if none is given.
    #[arg(long)]
    id: Option<String>,
    /// Where it listens: HOST:PORT or SCHEME://HOST:PORT; may be repeated.
    #[arg(long, required = true, value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    /// The version of its software.
    #[arg(long = "service-version", value_name = "VERSION", default_value = "")]
    version: String,
    /// A word to select it by; may be repeated.
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Anything else about it; may be repeated.
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Where it runs.
    #[arg(long, default_value = "")]
    zone: String,
    /// Its share of the load.
    #[arg(long, default_value_t = 1)]
    weight: u32,
    /// Return at once; it stays until it is deregistered.
    #[arg(long)]
    permanent: bool,
    /// Return at once; it stays for this long, and longer if its lease is renewed (`hither lease renew`).
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "permanent")]
    ttl: Option<Duration>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn run(global: &Global, command: Svc) -> Result<(), Failure> {
    let client = global.connect().await?;
    let result = match command {
        Svc::Register(args) => register(global, &client, args).await,
        Svc::Deregister { service, id } => deregister(global, &client, &service, &id).await,
        Svc::Ls { service } => list(global, &client, service.as_deref()).await,
        Svc::Watch { service, count } => watch(global, &client, &service, count).await,
    };
    client.close().await;
    result
}

async fn register(global: &Global, client: &Client, args: Register) -> Result<(), Failure> {
    let mut registration = Registration::new(&args.service).version(&args.version).zone(&args.zone).weight(args.weight);
    if let Some(id) = &args.id {
        registration = registration.id(id);
    }
    for endpoint in &args.endpoint {
        registration = registration.endpoint(endpoint);
    }
    for tag in &args.tag {
        registration = registration.tag(tag);
    }
    for (key, value) in &args.metadata {
        registration = registration.metadata(key, value);
    }
    if args.permanent {
        registration = registration.permanent();
    }
    let mut kept = if args.permanent { "until it is deregistered".to_owned() } else { "until Ctrl-C".to_owned() };
    if let Some(ttl) = args.ttl {
        let lease = client.lease_grant(ttl).await?.lease;
        registration = registration.lease(lease);
        kept = format!("with lease {lease}");
    }
    // Others may see the registration, and ask this process to stop, before the answer is here.
    let asked_to_stop = signal::asked_to_stop();
    let registered = client.register(registration).await?;
    announce(global, &registered.instance(), &kept)?;
    if args.permanent || args.ttl.is_some() {
        return Ok(());
    }
    tokio::select! {
        () = asked_to_stop => {
            registered.deregister().await?;
            Ok(())
        }
        () = registered.lost() => Err(Failure::new(
            Exit::Unavailable,
            "SessionExpired (4010): the registration is lost, no server confirmed it in time; register again",
        )),
    }
}

fn announce(global: &Global, instance: &Instance, kept: &str) -> Result<(), Failure> {
    let key = instance.key();
    global.printer().fact(format_args!("{key} is registered {kept}"), instance, &key)?;
    Ok(())
}

async fn deregister(global: &Global, client: &Client, service: &str, id: &str) -> Result<(), Failure> {
    let key = Instance::key_of(service, id);
    let reply = client.delete(key.clone()).await?;
    if reply.deleted == 0 {
        return Err(Failure::not_found(format!("NotFound (4001): {service} has no instance {id}")));
    }
    let record = serde_json::json!({ "deleted": reply.deleted, "revision": reply.revision.0 });
    global.printer().fact(format_args!("{key} is gone"), &record, reply.deleted)?;
    Ok(())
}

async fn list(global: &Global, client: &Client, service: Option<&str>) -> Result<(), Failure> {
    let range = service.map_or_else(|| KeyRange::prefix("services/"), Instance::range_of);
    let reply = client.range(range).await?;
    // A record that some other tool wrote and that is none does not hide the others.
    let items: Vec<_> = reply
        .entries
        .iter()
        .filter_map(|entry| match Instance::from_json(&entry.value) {
            Ok(instance) => {
                let row = row(&instance);
                Some((instance, row))
            }
            Err(refusal) => {
                eprintln!("hint: {} is no service record: {}", entry.key, refusal.detail);
                None
            }
        })
        .collect();
    global.printer().rows(&["ID", "SERVICE", "ENDPOINTS", "STATUS", "VERSION", "ZONE"], &items)?;
    Ok(())
}

fn row(instance: &Instance) -> [String; 6] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let endpoints: Vec<String> = instance.endpoints.iter().map(ToString::to_string).collect();
    let status = serde_json::to_value(&instance.status).ok();
    [
        instance.id.clone(),
        instance.service.clone(),
        or_dash(&endpoints.join(" ")),
        status.as_ref().and_then(|status| status.as_str()).unwrap_or("-").to_owned(),
        or_dash(&instance.version),
        or_dash(&instance.zone),
    ]
}

async fn watch(global: &Global, client: &Client, service: &str, count: Option<u64>) -> Result<(), Failure> {
    let mut watch = client.watch(Instance::range_of(service)).await?;
    let mut stop = std::pin::pin!(signal::asked_to_stop());
    let mut left = count;
    loop {
        if left == Some(0) {
            return Ok(());
        }
        let update = tokio::select! {
            update = watch.next() => match update {
                Some(update) => update?,
                None => return Ok(()),
            },
            failure = crate::watch::nothing_for(global.timeout) => return Err(failure),
            () = &mut stop => return Ok(()),
        };
        let mut printer = global.printer();
        if update.kind == UpdateKind::Reset {
            printer.reset(update.revision)?;
        }
        for event in &update.events {
            if left == Some(0) {
                return Ok(());
            }
            match (printer.format(), event) {
                (Format::Table, Event::Put { entry, .. }) => {
                    let line = Instance::from_json(&entry.value)
                        .map_or_else(|_| shown(&entry.value), |instance| row(&instance)[2].clone());
                    let word = if entry.version.0 == 1 { "up" } else { "changed" };
                    printer.fact(
                        format_args!("{:>8}  {word:<8}  {}  {line}", entry.mod_revision, entry.key),
                        &(),
                        "",
                    )?;
                }
                (Format::Table, Event::Delete { key, revision, .. }) => {
                    printer.fact(format_args!("{revision:>8}  {:<8}  {key}", "down"), &(), "")?;
                }
                _ => printer.event(event)?,
            }
            left = left.map(|left| left - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_a_pair() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err());
    }
}
