//! Every setting of a client, with its default and its reason.

use std::time::Duration;

use hither_protocol::{ClusterId, ErrorCode, Namespace, Refusal, Revision};

use crate::duration::parse_duration;
use crate::url::{Endpoint, Url};

/// The settings of a client. Times are those of the client's own monotonic clock.
///
/// Each has one name in the builder, in the query of a URL (`?request_timeout=2s`) and in the environment
/// (`HITHER_CLIENT_REQUEST_TIMEOUT=2s`), and takes effect in that order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The servers to begin with; a greeting names the others. One at least.
    pub endpoints: Vec<Endpoint>,
    /// The namespace of everything that this client does. Default `default`.
    pub namespace: Namespace,
    /// The cluster that must answer, if it is known.
    pub cluster: Option<ClusterId>,
    /// The software's name and version, for the server's logs.
    pub agent: String,
    /// How long connecting may take in all, and, up to 5 s, each attempt to reach one server. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a call may take in all: waiting for a connection, sending, retrying, answering. Default 5 s.
    pub request_timeout: Duration,
    /// The first wait before another attempt to connect. Default 50 ms.
    pub backoff_min: Duration,
    /// The longest wait before another attempt. Default 10 s: a server that comes back is found within that.
    pub backoff_max: Duration,
    /// How long the session outlives silence, and with it what is bound to it. Default 10 s; 1 s to 24 h.
    pub session_ttl: Duration,
    /// The interval of the server's beats. Default: as the server announces it (1 s). After
    /// [`BEATS_MISSED_MAX`] of them without a sign of life that was due the client looks for another server.
    pub beat_interval: Option<Duration>,
    /// Whether identical watches of this client share one stream. Default true.
    pub share_watches: bool,
    /// Most requests on their way at once; others wait in the client. Default and most 1,000: below the 1,024 that a
    /// session remembers.
    pub in_flight_max: usize,
    /// Most requests that wait in the client; a further one fails with `ServerBusy`. Default 65,536.
    pub waiting_max: usize,
    /// Events that wait for the application in one watch before the server is asked to hold the rest. Default 1,024.
    pub watch_events_max: usize,
    /// The same in bytes. Default 4 MiB.
    pub watch_bytes_max: usize,
    /// Keys that one watch remembers so that a reset becomes the exact difference: some 100 bytes and the key each.
    /// Beyond it, a reset is told as a new snapshot. Default 1,000,000.
    pub watch_keys_max: usize,
    /// Bytes of values that one shared watch keeps so that another can join it; beyond it, the next identical watch
    /// opens a stream of its own. Default 16 MiB.
    pub watch_shared_bytes_max: usize,
    /// How long the view of a service that nobody asks for is kept up to date. Default 10 min.
    pub view_idle: Duration,
    /// How long an instance that expired is still shown, as suspect, where it is likelier that the registry lost it
    /// than that it died. Default 30 s; 0 shows it no longer.
    pub view_hold: Duration,
    /// What the views of all services may take in memory, in bytes, roughly. Beyond it those that nobody waits for are
    /// dropped, the longest unused first; a service that is larger alone cannot be viewed. Default 256 MiB.
    pub view_bytes_max: usize,
    /// Whether servers that a greeting names are used too. Default true; switch it off where servers are reached
    /// through something that gives them other addresses.
    pub learn_servers: bool,
    /// The newest revision that the caller knows of: reads of this client are never older. Default 0.
    pub seen: Revision,
}

/// Beats without any sign of life after which a server counts as silent.
pub const BEATS_MISSED_MAX: u32 = 3;
/// The interval of beats until a server announced another.
pub const BEAT_DEFAULT: Duration = Duration::from_secs(1);
/// The interval of keep-alives while the client holds a session or leases: three fit in the second of silence after
/// which a server suspects it.
pub const KEEP_ALIVE_HOLDING: Duration = Duration::from_millis(300);
/// The interval of keep-alives otherwise: three fit in the ten seconds after which an idle connection ends.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(3);
/// The most of [`Options::in_flight_max`].
pub const IN_FLIGHT_MAX: usize = 1_000;

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            namespace: Namespace::default(),
            cluster: None,
            agent: concat!("hither-core/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(10),
            session_ttl: Duration::from_secs(10),
            beat_interval: None,
            share_watches: true,
            in_flight_max: IN_FLIGHT_MAX,
            waiting_max: 65_536,
            watch_events_max: 1_024,
            watch_bytes_max: 4 << 20,
            watch_keys_max: 1_000_000,
            watch_shared_bytes_max: 16 << 20,
            view_idle: Duration::from_secs(600),
            view_hold: Duration::from_secs(30),
            view_bytes_max: 256 << 20,
            learn_servers: true,
            seen: Revision::ZERO,
        }
    }
}

impl Options {
    /// The names that [`set`](Self::set) knows: those of URL queries, and after `HITHER_CLIENT_`, in capitals, those
    /// of the environment.
    pub const NAMES: &[&str] = &[
        "connect_timeout",
        "request_timeout",
        "backoff_min",
        "backoff_max",
        "session_ttl",
        "beat_interval",
        "share_watches",
        "in_flight_max",
        "waiting_max",
        "watch_events_max",
        "watch_bytes_max",
        "watch_keys_max",
        "watch_shared_bytes_max",
        "view_idle",
        "view_hold",
        "view_bytes_max",
        "learn_servers",
    ];

    /// Sets one option by its name.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is not in [`NAMES`](Self::NAMES) or a value that does not read.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let named = |refusal: Refusal| invalid(format!("option {name}: {}", refusal.detail));
        let duration = || parse_duration(value).map_err(named);
        let number = || value.parse().map_err(|_| invalid(format!("option {name}: {value:?} is no number")));
        let truth = || {
            value.parse::<bool>().map_err(|_| invalid(format!("option {name}: {value:?} is neither true nor false")))
        };
        match name {
            "connect_timeout" => self.connect_timeout = duration()?,
            "request_timeout" => self.request_timeout = duration()?,
            "backoff_min" => self.backoff_min = duration()?,
            "backoff_max" => self.backoff_max = duration()?,
            "session_ttl" => self.session_ttl = duration()?,
            "beat_interval" => self.beat_interval = Some(duration()?),
            "share_watches" => self.share_watches = truth()?,
            "view_idle" => self.view_idle = duration()?,
            "view_hold" => self.view_hold = duration()?,
            "view_bytes_max" => self.view_bytes_max = number()?,
            "learn_servers" => self.learn_servers = truth()?,
            "in_flight_max" => self.in_flight_max = number()?,
            "waiting_max" => self.waiting_max = number()?,
            "watch_events_max" => self.watch_events_max = number()?,
            "watch_bytes_max" => self.watch_bytes_max = number()?,
            "watch_keys_max" => self.watch_keys_max = number()?,
            "watch_shared_bytes_max" => self.watch_shared_bytes_max = number()?,
            _ => return Err(invalid(format!("there is no option {name}; there are {}", Self::NAMES.join(", ")))),
        }
        Ok(())
    }

    /// Takes servers, namespace and options from a URL.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    pub fn set_url(&mut self, url: &Url) -> Result<(), Refusal> {
        self.endpoints.clone_from(&url.endpoints);
        if let Some(namespace) = &url.namespace {
            self.namespace = namespace.clone();
        }
        url.options.iter().try_for_each(|(name, value)| self.set(name, value))
    }

    /// Takes options from environment variables; `lookup` is given each name.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    pub fn set_environment(&mut self, mut lookup: impl FnMut(&str) -> Option<String>) -> Result<(), Refusal> {
        for name in Self::NAMES {
            let variable = format!("HITHER_CLIENT_{}", name.to_ascii_uppercase());
            if let Some(value) = lookup(&variable) {
                self.set(name, &value).map_err(|refusal| invalid(format!("{variable}: {}", refusal.detail)))?;
            }
        }
        Ok(())
    }

    /// Whether the options make sense together.
    ///
    /// # Errors
    /// `InvalidArgument` that names the option.
    pub fn check(&self) -> Result<(), Refusal> {
        let not_zero = [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("backoff_min", self.backoff_min),
            ("view_idle", self.view_idle),
        ];
        if let Some((name, _)) = not_zero.iter().find(|(_, duration)| duration.is_zero()) {
            return Err(invalid(format!("option {name} must be more than 0")));
        }
        if self.backoff_max < self.backoff_min {
            return Err(invalid("option backoff_max is less than backoff_min"));
        }
        let counts = [("watch_events_max", self.watch_events_max), ("watch_bytes_max", self.watch_bytes_max)];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(invalid(format!("option {name} must be more than 0")));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight_max) {
            return Err(invalid(format!("option in_flight_max must be 1 to {IN_FLIGHT_MAX}")));
        }
        if self.endpoints.is_empty() {
            return Err(invalid("no server is named"));
        }
        Ok(())
    }
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_set_by_name_from_a_url_or_the_environment() {
        let mut options = Options::default();
        for name in Options::NAMES {
            let set = ["7s", "7", "false"].iter().any(|value| options.set(name, value).is_ok());
            assert!(set, "{name}");
        }
        let mut options = Options::default();
        options
            .set_environment(|name| (name == "HITHER_CLIENT_BACKOFF_MAX").then(|| "1s".to_owned()))
            .expect("a good variable");
        options.set_url(&"hither://a/prod?backoff_min=10ms".parse().unwrap()).expect("a good URL");
        assert_eq!((options.backoff_min, options.backoff_max), (Duration::from_millis(10), Duration::from_secs(1)));
        assert_eq!(options.namespace.as_str(), "prod");
        options.check().expect("good options");
    }

    #[test]
    fn a_wrong_option_is_named() {
        let mut options = Options::default();
        let detail = options.set("backof_min", "1s").unwrap_err().detail;
        assert!(detail.contains("no option backof_min"), "{detail}");
        let detail = options.set("backoff_min", "soon").unwrap_err().detail;
        assert!(detail.contains("backoff_min") && detail.contains("soon"), "{detail}");
        let detail = options.set_environment(|_| Some("x".to_owned())).unwrap_err().detail;
        assert!(detail.starts_with("HITHER_CLIENT_CONNECT_TIMEOUT"), "{detail}");
    }
}
