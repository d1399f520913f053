//! Logs: on stderr, as text or JSON.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging. `level` may be a filter such as `warn,hither=debug`; what does not parse is an error that names it.
/// Raft tells its life at `info`, and warns of what every first start brings with it: without being asked for by name it
/// only says what went wrong.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), String> {
    let level = if level.contains("openraft") { level.to_owned() } else { format!("{level},openraft=error") };
    let filter = EnvFilter::builder().parse(&level).map_err(|error| {
        format!("the log level `{level}` does not read: {error}; use error, warn, info, debug or trace")
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_timer(SystemTime)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // A second start in one process keeps the first: only tests do that.
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    Ok(())
}
