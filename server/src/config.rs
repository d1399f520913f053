//! What a node is told: defaults, then a file, then the environment, then flags; checked once, here.
//!
//! Every setting stands in one [table](setting::SETTINGS): its name in the file and in the environment, how it is read
//! and shown, and why its default is what it is. The annotated example file is made from that table.

mod file;
mod nearest;
mod setting;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hither_protocol::{PORT_ADMIN, PORT_CLIENT};

pub use units::{parse_bytes, parse_duration};

use crate::engine::Profile;
use setting::{SETTINGS, Setting};

/// Whose variables begin with `HITHER_` too: the client library's, and those that `hither watch --exec` sets.
const SECTIONS_OF_OTHERS: [&str; 2] = ["client", "event"];

/// Everything that can be set about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[node]`
    pub node: NodeConfig,
    /// `[clients]`
    pub clients: ClientsConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[raft]`
    pub raft: RaftConfig,
    /// `[state]`
    pub state: StateConfig,
    /// `[watch]`
    pub watch: WatchConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// `[node]`: where it lives and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The data directory.
    pub data: PathBuf,
    /// Where clients are listened for (QUIC, UDP).
    pub listen: SocketAddr,
    /// What clients are told to connect to, `host:port`; empty for the address that is listened on.
    pub advertise: String,
}

/// `[clients]`: what clients may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsConfig {
    /// Most connections at once.
    pub connections_max: usize,
    /// Most requests of one connection that are worked on at once; more are left unread.
    pub requests_in_flight_max: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the first message may take after the handshake.
    pub hello_timeout: Duration,
    /// How long a connection may be silent before it is given up.
    pub idle_timeout: Duration,
    /// Between two beats.
    pub beat_interval: Duration,
    /// How long a shutdown waits for requests under way.
    pub drain_timeout: Duration,
}

/// `[admin]`: the HTTP port for health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens (TCP); loopback, since it is plain HTTP. None where it is off.
    pub listen: Option<SocketAddr>,
}

/// `[raft]`: agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// Election times.
    pub profile: Profile,
    /// Proposals that may wait before callers are told that the server is busy.
    pub queue_max: usize,
    /// Log entries under way at once.
    pub entries_in_flight_max: usize,
    /// How long a proposal or a fresh read waits for agreement.
    pub patience: Duration,
    /// Entries of the log after which the state on disk is made to catch up.
    pub snapshot_entries: u64,
    /// Entries that are left in the log then.
    pub log_entries_kept: u64,
}

/// `[state]`: what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// Most bytes of keys and values.
    pub bytes_max: u64,
    /// Bytes of disk that must stay free, or puts are refused.
    pub disk_reserve: u64,
    /// How often the state on disk catches up with the one in memory.
    pub persist_interval: Duration,
    /// Longest time that what was written there stays volatile.
    pub flush_interval: Duration,
}

/// `[watch]`: what watchers can resume from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// Most bytes of history.
    pub history_bytes_max: u64,
    /// The oldest history.
    pub history_age_max: Duration,
    /// Between two looks whether there is more.
    pub trim_interval: Duration,
}

/// `[log]`: what the node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or a filter such as `info,hither_server::session=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object per line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: NodeConfig {
                data: PathBuf::from("hither-data"),
                listen: SocketAddr::from(([127, 0, 0, 1], PORT_CLIENT)),
                advertise: String::new(),
            },
            clients: ClientsConfig {
                connections_max: 20_000,
                requests_in_flight_max: 1_024,
                handshake_timeout: Duration::from_secs(5),
                hello_timeout: Duration::from_secs(3),
                idle_timeout: Duration::from_secs(10),
                beat_interval: Duration::from_secs(1),
                drain_timeout: Duration::from_secs(5),
            },
            admin: AdminConfig { listen: Some(SocketAddr::from(([127, 0, 0, 1], PORT_ADMIN))) },
            raft: RaftConfig {
                profile: Profile::Lan,
                queue_max: 16 * 1024,
                entries_in_flight_max: 16,
                patience: Duration::from_secs(5),
                snapshot_entries: 200_000,
                log_entries_kept: 100_000,
            },
            state: StateConfig {
                bytes_max: 8 << 30,
                disk_reserve: 512 << 20,
                persist_interval: Duration::from_millis(250),
                flush_interval: Duration::from_secs(60),
            },
            watch: WatchConfig {
                history_bytes_max: 256 << 20,
                history_age_max: Duration::from_secs(600),
                trim_interval: Duration::from_secs(1),
            },
            log: LogConfig { level: "info".to_owned(), format: LogFormat::Text },
        }
    }
}

/// Settings given on the command line: they win over every other source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--advertise`
    pub advertise: Option<String>,
    /// `--admin-listen`
    pub admin_listen: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--set SECTION.KEY=VALUE`: any setting, as section, key and value.
    pub set: Vec<(String, String, String)>,
}

/// Where a setting that cannot be used came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of a file, counted from 1.
    File(PathBuf, usize),
    /// A variable of the environment.
    Environment(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag => f.write_str("the command line"),
        }
    }
}

/// The settings cannot be used. The text names the place, what is wrong and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{origin}: {reason}")]
    Syntax {
        /// Where.
        origin: Source,
        /// What the parser said.
        reason: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting `{name}`; did you mean `{nearest}`?")]
    Unknown {
        /// Where.
        origin: Source,
        /// What was written.
        name: String,
        /// The valid name that is most like it.
        nearest: String,
    },
    /// The value does not fit the setting.
    #[error("{origin}: `{name}` cannot be `{value}`: {reason}")]
    Invalid {
        /// Where.
        origin: Source,
        /// The setting.
        name: String,
        /// What was written.
        value: String,
        /// What it must be.
        reason: String,
    },
}

impl Config {
    /// Reads every source: `file` if there is one, then `environment` (pairs of name and value, such as
    /// `std::env::vars()`), then the flags.
    ///
    /// # Errors
    /// [`ConfigError`], for the first thing that is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            config.read_file(path, &text)?;
        }
        config.read_environment(environment)?;
        config.read_flags(flags)?;
        Ok(config)
    }

    /// The annotated example file: every setting, its default and why.
    #[must_use]
    pub fn example() -> String {
        setting::example(&Self::default())
    }

    /// What clients are told to connect to, given where the node really listens.
    #[must_use]
    pub fn advertised(&self, bound: SocketAddr) -> String {
        if self.node.advertise.is_empty() { bound.to_string() } else { self.node.advertise.clone() }
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        for item in file::items(path, text)? {
            self.set(item.origin, &item.section, &item.key, &item.value)?;
        }
        Ok(())
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix("HITHER_") else { continue };
            let Some((section, key)) = rest.split_once('_') else { continue };
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            // Other variables begin with HITHER_ too, such as HITHER_URL and the client's: those of our sections are
            // ours, and what is nearly one of ours.
            let ours = SETTINGS.iter().any(|setting| setting.section == section);
            let slip = || {
                let name = format!("{section}.{key}");
                SETTINGS.iter().any(|setting| setting.key == key && nearest::is_slip(&name, &setting.name()))
            };
            if ours || (!SECTIONS_OF_OTHERS.contains(&section.as_str()) && slip()) {
                self.set(Source::Environment(name.clone()), &section, &key, &value)?;
            }
        }
        Ok(())
    }

    fn read_flags(&mut self, flags: &Overrides) -> Result<(), ConfigError> {
        let data = flags.data.as_ref().map(|data| data.display().to_string());
        let named = [
            ("node", "data", &data),
            ("node", "listen", &flags.listen),
            ("node", "advertise", &flags.advertise),
            ("admin", "listen", &flags.admin_listen),
            ("log", "level", &flags.log_level),
            ("log", "format", &flags.log_format),
        ];
        for (section, key, value) in named {
            if let Some(value) = value {
                self.set(Source::Flag, section, key, value)?;
            }
        }
        for (section, key, value) in &flags.set {
            self.set(Source::Flag, section, key, value)?;
        }
        // Not by way of text, which a path need not be.
        if let Some(data) = &flags.data {
            self.node.data.clone_from(data);
        }
        Ok(())
    }

    fn set(&mut self, origin: Source, section: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        let name = format!("{section}.{key}");
        let Some(setting) = SETTINGS.iter().find(|setting| setting.section == section && setting.key == key) else {
            // Within its section, if there is such a section.
            let near = |setting: &&Setting| setting.section == section;
            let anywhere = !SETTINGS.iter().any(|setting| near(&setting));
            let candidates = SETTINGS.iter().filter(|setting| anywhere || near(setting)).map(Setting::name);
            let nearest = nearest::nearest(&name, candidates).unwrap_or_default();
            return Err(ConfigError::Unknown { origin, name, nearest });
        };
        (setting.set)(self, value).map_err(|reason| ConfigError::Invalid {
            origin,
            name,
            value: value.chars().take(128).collect(),
            reason,
        })
    }
}

#[cfg(test)]
mod tests;
