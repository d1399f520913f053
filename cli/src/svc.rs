//! `hither svc`: services and their instances.

use clap::{Args, Subcommand};
use hither::{Client, Instance, KeyRange, Revision, ServiceUpdate, ViewState};
use serde_json::json;

use crate::exit::Failure;
use crate::instance::{COLUMNS, Changes, Described, Keeping, endpoints, row};
use crate::output::Format;
use crate::session::Global;
use crate::signal;

#[derive(Debug, Subcommand)]
pub(crate) enum Svc {
    /// Register an instance, and hold the registration until Ctrl-C unless told otherwise.
    Register(Register),
    /// Change the record of an instance.
    Update {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        changes: Changes,
    },
    /// Send an instance no new work: its status becomes draining (`svc update --status passing` undoes it).
    Drain {
        #[command(flatten)]
        which: Which,
    },
    /// Take an instance out. It leaves behind when, at stopped/SERVICE/ID, for 10 minutes.
    Deregister {
        #[command(flatten)]
        which: Which,
        /// Only if it is this registration of its id.
        #[arg(long, value_name = "REV")]
        epoch: Option<u64>,
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
  hither svc register api --port 8080                                until Ctrl-C, at this machine's address
  hither svc register api --id node1 --endpoint grpc://10.0.0.5:9000 --permanent
  hither svc register api --id node1 --endpoint 10.0.0.5:8080 --ttl 30s")]
pub(crate) struct Register {
    /// The service.
    service: String,
    /// The port that it listens on.
    #[arg(long)]
    port: Option<u16>,
    /// Where it listens: HOST:PORT or SCHEME://HOST:PORT; may be repeated.
    #[arg(long, required_unless_present = "port", value_name = "ENDPOINT")]
    endpoint: Vec<String>,
    #[command(flatten)]
    described: Described,
    #[command(flatten)]
    keeping: Keeping,
}

#[derive(Args, Debug)]
pub(crate) struct Which {
    /// The service.
    service: String,
    /// The instance.
    id: String,
}

pub(crate) async fn run(global: &Global, command: Svc) -> Result<(), Failure> {
    let client = global.connect().await?;
    let result = match command {
        Svc::Register(args) => register(global, &client, args).await,
        Svc::Update { which, changes } => update(global, &client, &which, |of| changes.apply(of)).await,
        Svc::Drain { which } => {
            update(global, &client, &which, |of| of.status = hither::InstanceStatus::Draining).await
        }
        Svc::Deregister { which, epoch } => deregister(global, &client, &which, epoch.map(Revision)).await,
        Svc::Ls { service } => list(global, &client, service.as_deref()).await,
        Svc::Watch { service, count } => watch(global, &client, &service, count).await,
    };
    client.close().await;
    result
}

async fn register(global: &Global, client: &Client, args: Register) -> Result<(), Failure> {
    let mut registration = args.described.registration(&args.service, args.port);
    for endpoint in &args.endpoint {
        registration = registration.endpoint(endpoint);
    }
    let Keeping { permanent, ttl } = args.keeping;
    if permanent {
        registration = registration.permanent();
    }
    let mut kept = if permanent { "until it is deregistered".to_owned() } else { "until Ctrl-C".to_owned() };
    if let Some(ttl) = ttl {
        let lease = client.lease_grant(ttl).await?.lease;
        registration = registration.lease(lease);
        kept = format!("with lease {lease}");
    }
    // Others may see the registration, and ask this process to stop, before the answer is here.
    let asked_to_stop = signal::asked_to_stop();
    let registered = client.register(registration).await?;
    let instance = registered.instance();
    let key = instance.key();
    global.printer().fact(format_args!("{key} is registered {kept}"), &instance, &key)?;
    if permanent || ttl.is_some() {
        return Ok(());
    }
    tokio::select! {
        () = asked_to_stop => {
            registered.deregister().await?;
            Ok(())
        }
        failure = over(&registered) => Err(failure),
    }
}

/// Says when it is lost and when it is back, until it is over for good.
async fn over(registered: &hither::Registered) -> Failure {
    let key = registered.instance().key();
    loop {
        registered.lost().await;
        eprintln!("hint: {key} is lost, no server confirmed it in time; it is registered again as soon as one answers");
        if !registered.found().await {
            return Failure::conflict(format!("Conflict (4003): {key} is another registration's by now"));
        }
        eprintln!("hint: {key} is registered again");
    }
}

async fn update(
    global: &Global,
    client: &Client,
    which: &Which,
    change: impl Fn(&mut Instance),
) -> Result<(), Failure> {
    let instance = client.update_instance(&which.service, &which.id, change).await?;
    let key = instance.key();
    global.printer().fact(format_args!("{key} is {}", instance.status), &instance, &key)?;
    Ok(())
}

async fn deregister(global: &Global, client: &Client, which: &Which, epoch: Option<Revision>) -> Result<(), Failure> {
    let Which { service, id } = which;
    if !client.deregister(service, id, epoch).await? {
        return Err(Failure::not_found(format!("NotFound (4001): {service} has no instance {id}")));
    }
    let key = Instance::key_of(service, id);
    global.printer().fact(format_args!("{key} is gone"), &json!({ "deleted": 1 }), 1)?;
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
    global.printer().rows(&COLUMNS, &items)?;
    Ok(())
}

async fn watch(global: &Global, client: &Client, service: &str, count: Option<u64>) -> Result<(), Failure> {
    let mut watch = client.watch_service(service).await?;
    let mut stop = std::pin::pin!(signal::asked_to_stop());
    let mut show = Show { global, left: count, state: ViewState::Synced };
    while show.left != Some(0) {
        let update = tokio::select! {
            update = watch.next() => match update {
                Some(update) => update?,
                None => return Ok(()),
            },
            failure = crate::watch::nothing_for(global.timeout) => return Err(failure),
            () = &mut stop => return Ok(()),
        };
        show.update(&update)?;
    }
    Ok(())
}

/// Shows the changes of a service.
struct Show<'a> {
    global: &'a Global,
    left: Option<u64>,
    state: ViewState,
}

impl Show<'_> {
    fn update(&mut self, update: &ServiceUpdate) -> Result<(), Failure> {
        let revision = update.view.revision;
        let changes = update.added.iter().map(|of| ("up", of));
        let changes = changes.chain(update.changed.iter().map(|of| ("changed", of)));
        for (word, instance) in changes.chain(update.removed.iter().map(|of| ("down", of))) {
            if self.left == Some(0) {
                return Ok(());
            }
            self.left = self.left.map(|left| left - 1);
            let mut printer = self.global.printer();
            let key = instance.key();
            let record = json!({ "type": word, "revision": revision.0, "instance": &**instance });
            match (printer.format(), word) {
                // The word, and what is worth a look beside it.
                (Format::Table, "down") => printer.fact(format_args!("{revision:>8}  {word:<8}  {key}"), &(), "")?,
                (Format::Table, _) => {
                    let line =
                        format_args!("{revision:>8}  {word:<8}  {key}  {}  {}", endpoints(instance), instance.status);
                    printer.fact(line, &(), "")?;
                }
                _ => printer.fact("", &record, format_args!("{word} {}", instance.id))?,
            }
        }
        if update.view.state != self.state {
            self.state = update.view.state;
            let age = update.view.age().as_millis();
            eprintln!("hint: what is known of {} is {}, {age} ms old", update.view.service, self.state.as_str());
        }
        Ok(())
    }
}
