//! `hither discover`: the instances of a service, as a program would find them.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hither::{InstanceFilter, Pick, ServiceView};
use serde_json::json;

use crate::exit::Failure;
use crate::instance::{COLUMNS, pair, row};
use crate::output::Format;
use crate::session::{Global, duration};

#[derive(Args, Debug)]
#[command(after_help = "\
In a pipe it prints a URL a line; with -o json what a program sees, the age of the view too. Without any instance it
exits with 5.

Examples:
  hither discover api
  hither discover api --tag blue --zone a -o json
  curl \"$(hither discover api --one)/health\"
  hither discover api --wait 3 --timeout 30s")]
pub(crate) struct DiscoverArgs {
    /// The service.
    service: String,
    /// Only those with this tag; may be repeated: all of them.
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Only those with this in their metadata; may be repeated: all of it.
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Only those of this version; may be repeated: any of them.
    #[arg(long = "service-version", value_name = "VERSION")]
    version: Vec<String>,
    /// Only those in this zone; may be repeated: any of them.
    #[arg(long)]
    zone: Vec<String>,
    /// Only those in this region; may be repeated: any of them.
    #[arg(long)]
    region: Vec<String>,
    /// Only those of this status (passing, warning, critical, draining, maintenance, suspect); may be repeated.
    #[arg(long)]
    status: Vec<String>,
    /// Wait until there are so many that work.
    #[arg(long, value_name = "N")]
    wait: Option<usize>,
    /// Pick one of them at random, by weight.
    #[arg(long)]
    one: bool,
    /// Refuse what is older than this.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_staleness: Option<Duration>,
}

impl DiscoverArgs {
    fn filter(&self) -> InstanceFilter {
        let filter = self.tag.iter().fold(InstanceFilter::new(), InstanceFilter::tag);
        let filter = self.metadata.iter().fold(filter, |filter, (name, value)| filter.metadata(name, value));
        let filter = self.version.iter().fold(filter, InstanceFilter::version);
        let filter = self.zone.iter().fold(filter, InstanceFilter::zone);
        let filter = self.region.iter().fold(filter, InstanceFilter::region);
        self.status.iter().fold(filter, |filter, status| filter.status(status.as_str()))
    }
}

pub(crate) async fn run(global: &Global, args: DiscoverArgs) -> Result<(), Failure> {
    let client = global.connect().await?;
    let result = discover(global, &client, &args).await;
    client.close().await;
    result
}

async fn discover(global: &Global, client: &hither::Client, args: &DiscoverArgs) -> Result<(), Failure> {
    let view = match args.wait {
        Some(count) => {
            let mut waits = client.wait_for(&args.service, count).filter(args.filter());
            if let Some(timeout) = global.timeout {
                waits = waits.timeout(timeout);
            }
            waits.await?
        }
        None => {
            let mut discovers = client.discover(&args.service).filter(args.filter());
            if let Some(age) = args.max_staleness {
                discovers = discovers.max_staleness(age);
            }
            discovers.await?
        }
    };
    for invalid in view.invalid.iter() {
        eprintln!("hint: {} is no service record: {}", invalid.key, invalid.reason);
    }
    if args.one {
        let picked = client.pick(&args.service, &Pick::random().filter(args.filter()))?;
        let url = picked.url().unwrap_or_default();
        global.printer().fact(&url, &*picked, &url)?;
        return Ok(());
    }
    show(global, &view)?;
    if view.is_empty() { Err(Failure::from(view.nobody())) } else { Ok(()) }
}

fn show(global: &Global, view: &Arc<ServiceView>) -> Result<(), Failure> {
    let mut printer = global.printer();
    match printer.format() {
        Format::Table => {
            let items: Vec<_> = view.instances.iter().map(|instance| ((), row(instance))).collect();
            printer.rows(&COLUMNS, &items)?;
        }
        Format::Json | Format::Jsonl => {
            let instances: Vec<&hither::Instance> = view.instances.iter().map(|instance| &**instance).collect();
            let invalid: Vec<_> = view
                .invalid
                .iter()
                .map(|invalid| json!({ "key": invalid.key.to_string(), "reason": invalid.reason }))
                .collect();
            let record = json!({
                "service": &*view.service,
                "revision": view.revision.0,
                "state": view.state.as_str(),
                "age_ms": u64::try_from(view.age().as_millis()).unwrap_or(u64::MAX),
                "source": view.source.as_str(),
                "instances": instances,
                "invalid": invalid,
            });
            printer.fact("", &record, "")?;
        }
        Format::Plain => {
            let items: Vec<_> = view.instances.iter().filter_map(|instance| Some(((), [instance.url()?]))).collect();
            printer.rows(&["URL"], &items)?;
        }
    }
    Ok(())
}
