//! What commands say of an instance, and how they show one.

use std::time::Duration;

use clap::Args;
use hither::{Instance, InstanceStatus, Registration};

use crate::session::duration;

/// What an instance is, as `svc register` and `run` take it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Described {
    /// The instance, unique in its service; drawn if none is given.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The version of its software.
    #[arg(long = "service-version", value_name = "VERSION", default_value = "")]
    version: String,
    /// A word to select it by; may be repeated.
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Anything else about it; may be repeated.
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Where it runs, within the region.
    #[arg(long, default_value = "")]
    zone: String,
    /// Where it runs.
    #[arg(long, default_value = "")]
    region: String,
    /// Its share of the load; 0 takes none.
    #[arg(long, default_value_t = 1)]
    weight: u32,
    /// The name or address that others reach it at; found by itself if none is given.
    #[arg(long, value_name = "HOST")]
    address: Option<String>,
    /// What it speaks at its port.
    #[arg(long, default_value = "http")]
    scheme: String,
}

impl Described {
    /// A registration of it, with a port to listen on if one is given.
    pub(crate) fn registration(&self, service: &str, port: Option<u16>) -> Registration {
        let mut registration =
            Registration::new(service).version(&self.version).zone(&self.zone).region(&self.region).weight(self.weight);
        if let Some(id) = &self.id {
            registration = registration.id(id);
        }
        if let Some(port) = port {
            registration = registration.port(port).scheme(&self.scheme);
            if let Some(address) = &self.address {
                registration = registration.address(address);
            }
        }
        for tag in &self.tag {
            registration = registration.tag(tag);
        }
        for (key, value) in &self.metadata {
            registration = registration.metadata(key, value);
        }
        registration
    }
}

/// What `svc update` changes.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct Changes {
    /// How it is: passing, warning, critical, draining or maintenance.
    #[arg(long)]
    status: Option<String>,
    /// The version of its software.
    #[arg(long = "service-version", value_name = "VERSION")]
    version: Option<String>,
    /// Its tags, in place of those it has; may be repeated.
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Sets a name of its metadata; an empty value removes it; may be repeated.
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Where it runs, within the region.
    #[arg(long)]
    zone: Option<String>,
    /// Where it runs.
    #[arg(long)]
    region: Option<String>,
    /// Its share of the load; 0 takes none.
    #[arg(long)]
    weight: Option<u32>,
    /// Where it listens, in place of where it did; may be repeated.
    #[arg(long, value_name = "ENDPOINT", value_parser = endpoint)]
    endpoint: Vec<hither::ServiceEndpoint>,
}

impl Changes {
    pub(crate) fn apply(&self, instance: &mut Instance) {
        if let Some(status) = &self.status {
            instance.status = InstanceStatus::from(status.as_str());
        }
        if let Some(version) = &self.version {
            instance.version.clone_from(version);
        }
        if !self.tag.is_empty() {
            instance.tags.clone_from(&self.tag);
        }
        for (name, value) in &self.metadata {
            if value.is_empty() {
                instance.metadata.remove(name);
            } else {
                instance.metadata.insert(name.clone(), value.clone());
            }
        }
        if let Some(zone) = &self.zone {
            instance.zone.clone_from(zone);
        }
        if let Some(region) = &self.region {
            instance.region.clone_from(region);
        }
        instance.weight = self.weight.unwrap_or(instance.weight);
        if !self.endpoint.is_empty() {
            instance.endpoints.clone_from(&self.endpoint);
        }
    }
}

/// How long an instance is kept, and by whom.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Keeping {
    /// Return at once; it stays until it is deregistered.
    #[arg(long)]
    pub(crate) permanent: bool,
    /// Return at once; it stays for this long, and longer if its lease is renewed (`hither lease renew`).
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "permanent")]
    pub(crate) ttl: Option<Duration>,
}

pub(crate) const COLUMNS: [&str; 6] = ["ID", "SERVICE", "ENDPOINTS", "STATUS", "VERSION", "ZONE"];

/// An instance as a row under [`COLUMNS`].
pub(crate) fn row(instance: &Instance) -> [String; 6] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        instance.id.clone(),
        instance.service.clone(),
        or_dash(&endpoints(instance)),
        instance.status.to_string(),
        or_dash(&instance.version),
        or_dash(&instance.zone),
    ]
}

pub(crate) fn endpoints(instance: &Instance) -> String {
    let endpoints: Vec<String> = instance.endpoints.iter().map(ToString::to_string).collect();
    endpoints.join(" ")
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn endpoint(text: &str) -> Result<hither::ServiceEndpoint, String> {
    text.parse::<hither::ServiceEndpoint>().map_err(|refusal| refusal.detail)
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
