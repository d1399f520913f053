//! Joins storage and server: what `dev`, `serve` and `cluster init` do alike.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hither_protocol::UnixMillis;
use hither_server::engine::{DiskReserve, Engine, EngineConfig, is_engine_thread};
use hither_server::raft::LogLimits;
use hither_server::{Config, ConfigError, Identity, IdentityError, Node, NodeError, Overrides, identity};
use hither_state::StateLimits;
use hither_state::watch::HubConfig;
use hither_storage::{DataDir, Reserve, StorageError, Vacancy};

use crate::context::{self, Kept};
use crate::exit::{Exit, Failure};
use crate::holder::{self, Protocol};
use crate::logging::{self, LogFormat};
use crate::session::Global;
use crate::signal;

/// A server to run.
pub(crate) struct Plan {
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// What the command line says.
    pub(crate) overrides: Overrides,
    /// The command, as the context remembers it.
    pub(crate) command: &'static str,
    /// The name of the context to write, if the user chose one.
    pub(crate) context: Option<String>,
    /// Make the node if the directory has none.
    pub(crate) create: bool,
}

/// `--log-format`, as the configuration reads it.
pub(crate) fn log_format(global: &Global) -> Option<String> {
    global.log_format.map(|format| match format {
        LogFormat::Text => "text".to_owned(),
        LogFormat::Json => "json".to_owned(),
    })
}

/// Runs the server until it is asked to stop or cannot go on.
pub(crate) fn run(plan: Plan) -> Result<(), Failure> {
    let config = load(&plan)?;
    abort_if_the_engine_panics();
    hither_server::raft::prepare();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(serve(plan, config))
}

/// Tokio would catch the panic, and the node would go on with half a command applied.
fn abort_if_the_engine_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if is_engine_thread() {
            std::process::abort();
        }
    }));
}

/// Makes the data directory of the first node, and nothing else.
pub(crate) fn create(plan: &Plan) -> Result<Identity, Failure> {
    let config = load(plan)?;
    let (data, identity) = make(&config.node.data)?;
    drop(data);
    Ok(identity)
}

fn load(plan: &Plan) -> Result<Config, Failure> {
    // A variable that is no text is none of ours.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = Config::load(plan.file.as_deref(), environment, &plan.overrides)?;
    let format = match config.log.format {
        hither_server::config::LogFormat::Text => LogFormat::Text,
        hither_server::config::LogFormat::Json => LogFormat::Json,
    };
    logging::start(format, &config.log.level).map_err(|error| Failure::new(Exit::Config, error))?;
    if config.node.listen.ip().is_unspecified() && config.node.advertise.is_empty() {
        return Err(Failure::new(
            Exit::Config,
            format!(
                "{} is no address to connect to: say with --advertise HOST:PORT where clients find this server",
                config.node.listen
            ),
        ));
    }
    Ok(config)
}

async fn serve(plan: Plan, config: Config) -> Result<(), Failure> {
    let (data, identity) = open(&config.node.data, plan.create)?;
    let directory = data.path().canonicalize().unwrap_or_else(|_| data.path().to_owned());
    let (log, state) = data.into_devices();
    let engine = Engine::start(engine_config(&config, &identity, &directory), log, state)
        .await
        .map_err(|error| Failure::new(Exit::Damaged, error.to_string()))?;
    let failed = engine.failed();
    let node = match Node::start(config, identity.clone(), engine.clone()).await {
        Ok(node) => node,
        Err(error) => {
            engine.shutdown().await;
            return Err(error.into());
        }
    };
    let kept = keep_context(&plan, &directory, node.client_addr(), &identity);
    announce(&node, &directory, kept.as_ref())?;
    tokio::select! {
        () = signal::asked_to_stop() => {
            tracing::info!("asked to stop: finishing what is under way");
            node.shutdown().await;
            Ok(())
        }
        // What the process holds can no longer be trusted: no drain, which would answer from it.
        failure = failed => Failure::new(Exit::Damaged, failure.to_string()).end_at_once(),
    }
}

fn engine_config(config: &Config, identity: &Identity, directory: &Path) -> EngineConfig {
    let reserve = Reserve::new(directory, config.state.disk_reserve);
    EngineConfig {
        profile: config.raft.profile,
        limits: StateLimits { state_bytes_max: config.state.bytes_max, ..StateLimits::default() },
        hub: HubConfig {
            history_bytes_max: usize::try_from(config.watch.history_bytes_max).unwrap_or(usize::MAX),
            history_age_max: config.watch.history_age_max,
            ..HubConfig::default()
        },
        queue_max: config.raft.queue_max,
        in_flight_max: config.raft.entries_in_flight_max,
        patience: config.raft.patience,
        log_limits: LogLimits {
            grown_entries: config.raft.snapshot_entries,
            kept_entries: config.raft.log_entries_kept,
            ..LogLimits::default()
        },
        persist_interval: config.state.persist_interval,
        flush_interval: config.state.flush_interval,
        trim_interval: config.watch.trim_interval,
        disk_reserve: Some(DiskReserve {
            free: Arc::new(move || reserve.keep()),
            bytes_min: config.state.disk_reserve,
        }),
        ..EngineConfig::single(identity.node(), identity.cluster())
    }
}

/// Opens the data of a node. Who holds them is found out before anything is touched.
fn open(path: &Path, create: bool) -> Result<(DataDir, Identity), Failure> {
    let data = match DataDir::open(path, None) {
        Err(StorageError::NotInitialised { .. }) if create => return make(path),
        Err(StorageError::NotInitialised { .. }) => {
            return Err(Failure::new(
                Exit::Config,
                format!(
                    "{} holds no node: begin a new cluster with `hither cluster init --data {0}` (joining another node's is not in this version)",
                    path.display()
                ),
            ));
        }
        opened => opened?,
    };
    let identity = identity::open(path)?.ok_or_else(|| {
        Failure::new(
            Exit::Damaged,
            format!("{}: the node's identity is missing: restore the folder `identity`", path.display()),
        )
    })?;
    if identity.cluster() != data.identity().cluster {
        return Err(StorageError::OtherCluster {
            path: path.to_owned(),
            found: data.identity().cluster.to_string(),
            expected: identity.cluster().to_string(),
        }
        .into());
    }
    Ok((data, identity))
}

/// Makes a node. The identity comes first: a start that is interrupted between the two goes on with it.
fn make(path: &Path) -> Result<(DataDir, Identity), Failure> {
    if DataDir::exists(path) {
        return Err(StorageError::AlreadyInitialised { path: path.to_owned() }.into());
    }
    // Held from here on: of two first starts at once, one makes the node and the other says who has it.
    let vacancy = Vacancy::claim(path)?;
    let identity = identity::initialise(path)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let whose = hither_storage::Identity { cluster: identity.cluster(), node: identity.node(), created };
    Ok((vacancy.create(whose)?, identity))
}

/// A context that cannot be written keeps nobody from being served.
fn keep_context(plan: &Plan, directory: &Path, bound: SocketAddr, identity: &Identity) -> Option<Kept> {
    let keep = || {
        let admin = identity.admin().map_err(|error| error.to_string())?;
        let identity = hither::Identity::from_der(admin.ca.to_vec(), admin.certificate.to_vec(), admin.key.to_vec());
        let identity = identity.map_err(|error| error.to_string())?;
        let server = reachable(bound).to_string().parse().map_err(|error: hither_protocol::Refusal| error.detail)?;
        context::keep(plan.command, directory, plan.context.as_deref(), server, identity)
            .map_err(|error| error.to_string())
    };
    keep().inspect_err(|error: &String| eprintln!("hither: no context was written: {error}")).ok()
}

/// Where this machine itself finds what listens on `bound`.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// One line for whoever waits for it; on a terminal a few more, to go on with.
fn announce(node: &Node, directory: &Path, kept: Option<&Kept>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "ready client=hither://{}", reachable(node.client_addr()))?;
    if let Some(admin) = node.admin_addr() {
        write!(out, " admin=http://{admin}")?;
    }
    if let Some(kept) = kept {
        write!(out, " context={}", kept.name)?;
    }
    writeln!(out, " data={}", directory.display())?;
    if out.is_terminal() {
        let flag = match kept {
            Some(Kept { current: Some(current), name }) => {
                writeln!(out, "\nThe current context stays `{current}`; this server's is `{name}`.")?;
                format!(" --context {name}")
            }
            _ => String::new(),
        };
        writeln!(out, "\nIn another terminal:")?;
        for command in ["kv put greeting hello", "kv get greeting", "watch greeting", "status"] {
            writeln!(out, "  hither{flag} {command}")?;
        }
        writeln!(out, "\nCtrl-C stops it; the data stay in {}.", directory.display())?;
    }
    out.flush()
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error.to_string())
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let message = match &error {
            StorageError::Held { path, pid: Some(pid) } => format!(
                "{} is in use by {}; stop it, or choose another directory with --data",
                path.display(),
                holder::process(*pid)
            ),
            other => other.to_string(),
        };
        let exit = match error.exit_code() {
            75 => Exit::Held,
            76 => Exit::Version,
            77 => Exit::Permissions,
            78 => Exit::Config,
            _ => Exit::Damaged,
        };
        Self::new(exit, message)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let exit = match &error {
            IdentityError::TooOpen { .. } => Exit::Permissions,
            IdentityError::Newer { .. } => Exit::Version,
            IdentityError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::Permissions,
            _ => Exit::Damaged,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Listen { what, address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                let (protocol, word, option) = if what.contains("admin") {
                    (Protocol::Tcp, "tcp", "--admin")
                } else {
                    (Protocol::Udp, "udp", "--port")
                };
                let who = holder::of_port(protocol, address);
                Self::new(
                    Exit::Held,
                    format!(
                        "port {}/{word} is in use by {who}; stop it, or choose another with {option}",
                        address.port()
                    ),
                )
            }
            NodeError::Identity(error) => error.into(),
            other => Self::failed(other.to_string()),
        }
    }
}
