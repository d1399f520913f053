//! What every client command shares: where the server is, and the form of the output.

use std::time::Duration;

use clap::Args;
use hither::Client;

use crate::exit::Failure;
use crate::output::{Format, Printer};

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The server: hither://HOST:PORT[,HOST:PORT...]/NAMESPACE, HOST:PORT, or an enrolment string. Without it,
    /// $HITHER_URL, then the current context.
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) server: Option<String>,
    /// Use this context instead of the current one.
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "server", help_heading = "Global options")]
    pub(crate) context: Option<String>,
    /// The namespace; keys of different namespaces never meet.
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(crate) namespace: Option<String>,
    /// How long to wait, such as 500ms or 10s: for a server (then exit with 5), for its answer or, in a watch, for the
    /// next change (then exit with 124).
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, help_heading = "Global options")]
    pub(crate) timeout: Option<Duration>,
    /// The form of the output: a table on a terminal, plain in a pipe, unless said otherwise.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", help_heading = "Global options")]
    pub(crate) output: Option<Format>,
    /// The form of log lines, on stderr.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Global options")]
    pub(crate) log_format: Option<crate::logging::LogFormat>,
    /// What to log: error, warn, info, debug, trace, or a filter such as hither=debug.
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Global options")]
    pub(crate) log_level: Option<String>,
}

impl Global {
    /// A client of the server that was named.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder();
        if let Some(server) = &self.server {
            builder = builder.url(with_scheme(server));
        }
        if let Some(context) = &self.context {
            builder = builder.context(context);
        }
        if let Some(namespace) = &self.namespace {
            builder = builder.namespace(namespace);
        }
        if let Some(timeout) = self.timeout {
            builder = builder.connect_timeout(timeout).request_timeout(timeout);
        }
        Ok(builder.connect().await?)
    }

    /// Standard output in the chosen form.
    pub(crate) fn printer(&self) -> Printer {
        Printer::stdout(self.output)
    }
}

/// `host:port` is short for `hither://host:port`.
fn with_scheme(server: &str) -> String {
    if server.contains("://") { server.to_owned() } else { format!("hither://{server}") }
}

/// For clap: a duration such as `500ms` or `10s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    hither::parse_duration(text).map_err(|refusal| refusal.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_is_a_url() {
        assert_eq!(with_scheme("127.0.0.1:7400"), "hither://127.0.0.1:7400");
        assert_eq!(with_scheme("hither://a:1/ns"), "hither://a:1/ns");
    }
}
