//! Where a client comes from.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use hither_client_core::{Enrolment, Error, Options, Url};
use hither_protocol::{ErrorCode, Namespace, Revision};

use crate::client::Client;
use crate::context::{Context, Contexts};
use crate::driver::{self, Kept};
use crate::enrol;
use crate::identity::Identity;

/// Connects to the cluster that `HITHER_URL` names, or else to that of the current context, which `hither dev` writes.
///
/// # Errors
/// `Unauthenticated` without an identity (it names the command to run), `Unavailable` if no server answers within
/// 5 s, and those of [`ClientBuilder::connect`].
pub async fn connect() -> Result<Client, Error> {
    Client::builder().connect().await
}

/// Settings of a client to come. Each overrides what a URL, the environment or the default says.
#[derive(Clone, Debug, Default)]
#[must_use = "it does nothing until it connects"]
pub struct ClientBuilder {
    url: Option<String>,
    context: Option<String>,
    identity: Option<Identity>,
    namespace: Option<String>,
    connect_timeout: Option<Duration>,
    request_timeout: Option<Duration>,
    backoff: Option<(Duration, Duration)>,
    beat_interval: Option<Duration>,
    session_ttl: Option<Duration>,
    share_watches: Option<bool>,
    seen: Option<Revision>,
    agent: Option<String>,
    options: Vec<(String, String)>,
    contexts: Option<Contexts>,
    runtime: Option<tokio::runtime::Handle>,
}

impl ClientBuilder {
    /// The servers: `hither://host:port[,host:port...]/namespace?option=value`; or an enrolment string, which is
    /// redeemed once and kept as a context. Default: `HITHER_URL`, then the context's servers.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The context that servers and identity come from. Default: the current one.
    pub fn context(mut self, name: impl Into<String>) -> Self {
        self.context = Some(name.into());
        self
    }

    /// The identity to show. Default: the context's.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The namespace of everything that the client does. Default: the URL's, then the context's, then `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// How long connecting may take in all. Default 5 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How long a call may take in all, unless it says otherwise. Default 5 s.
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// The first and the longest wait between attempts to connect. Default 50 ms and 10 s.
    pub const fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = Some((min, max));
        self
    }

    /// The interval of beats: after three without a sign of life, another server is looked for. Default: the
    /// server's, 1 s.
    pub const fn beat_interval(mut self, interval: Duration) -> Self {
        self.beat_interval = Some(interval);
        self
    }

    /// How long the session, and what is bound to it, outlives silence. Default 10 s.
    pub const fn session_ttl(mut self, ttl: Duration) -> Self {
        self.session_ttl = Some(ttl);
        self
    }

    /// Whether identical watches share one stream. Default true.
    pub const fn share_watches(mut self, share: bool) -> Self {
        self.share_watches = Some(share);
        self
    }

    /// The newest revision that the caller knows of: no read of this client is older.
    pub const fn seen(mut self, revision: Revision) -> Self {
        self.seen = Some(revision);
        self
    }

    /// The software's name and version, for the server's logs. Default: this crate's.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = Some(agent.into());
        self
    }

    /// Any option by its name; see [`Options::NAMES`].
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Where contexts are kept. Default: this user's folder; see [`context`](crate::context).
    pub fn contexts(mut self, contexts: Contexts) -> Self {
        self.contexts = Some(contexts);
        self
    }

    /// The Tokio runtime that the client's background task runs on. Default: the one that `connect` is called in.
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Connects: returns when a server has greeted the client.
    ///
    /// # Errors
    /// `InvalidArgument` and `InvalidName` for a setting, `NotFound` for a context, `Unauthenticated` and
    /// `IdentityInvalid` for the identity, `ClusterMismatch` if the server's certificate is of another CA,
    /// `ProtocolMismatch` if it is no Hither server, and `Unavailable` if nobody answers within the connect timeout.
    pub async fn connect(mut self) -> Result<Client, Error> {
        let runtime = self.runtime.take().map_or_else(tokio::runtime::Handle::try_current, Ok).map_err(|error| {
            Error::caused_by(ErrorCode::InvalidArgument, "name a Tokio runtime, or connect in one", error)
        })?;
        let connecting = AbortOnDrop(runtime.spawn(self.connect_here()));
        connecting.await
    }

    async fn connect_here(self) -> Result<Client, Error> {
        let (options, identity, kept) = self.resolve().await?;
        driver::start(options, identity, kept).await
    }

    /// What all settings together say.
    async fn resolve(mut self) -> Result<(Options, Identity, Option<Kept>), Error> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let agent = concat!("hither-rs/", env!("CARGO_PKG_VERSION")).to_owned();
        let mut options = Options { agent, ..Options::default() };
        options.set_environment(environment)?;
        // A context that was asked for by name comes before the environment.
        let url = self.url.take().or_else(|| environment("HITHER_URL").filter(|_| self.context.is_none()));
        let contexts = self.contexts.take().or_else(Contexts::of_user);
        let mut servers: Option<Url> = None;
        let used = match &url {
            Some(text) if Enrolment::is_one(text.trim()) => {
                let timeout = self.connect_timeout.unwrap_or(options.connect_timeout);
                let contexts = contexts.as_ref().ok_or_else(no_folder)?;
                Some(enrol::redeem(&text.trim().parse()?, contexts, timeout).await?)
            }
            Some(text) => {
                let url: Url = text.trim().parse()?;
                let used = self.context_for(contexts.as_ref(), Some(&url))?;
                servers = Some(url);
                used
            }
            None => self.context_for(contexts.as_ref(), None)?,
        };
        if let Some((_, context)) = &used {
            options.endpoints.clone_from(&context.servers);
            if let Some(namespace) = &context.namespace {
                options.namespace = namespace.clone();
            }
        }
        if let Some(url) = &servers {
            options.set_url(url)?;
        }
        let kept = match (&self.identity, &used, contexts) {
            (None, Some((name, _)), Some(contexts)) => Some(Kept { contexts, name: name.clone() }),
            _ => None,
        };
        let identity = self.identity.clone().or_else(|| used.map(|(_, context)| context.identity));
        let identity = identity.ok_or_else(no_identity)?;
        options.cluster = Some(identity.cluster());
        self.override_in(&mut options)?;
        if options.endpoints.is_empty() {
            return Err(no_server());
        }
        options.check()?;
        Ok((options, identity, kept))
    }

    /// The context to use: the one named; for a URL, one that has its server; else the current one.
    fn context_for(&self, contexts: Option<&Contexts>, url: Option<&Url>) -> Result<Option<(String, Context)>, Error> {
        if let Some(name) = &self.context {
            let contexts = contexts.ok_or_else(no_folder)?;
            return contexts.load(name).map(|context| Some((name.clone(), context)));
        }
        let Some(contexts) = contexts else { return Ok(None) };
        match url {
            Some(_) if self.identity.is_some() => Ok(None),
            Some(url) => match contexts.serving(&url.endpoints)? {
                Some(used) => Ok(Some(used)),
                None => contexts
                    .load_current()
                    .map(|used| used.map(|(name, context)| (name, Context { namespace: None, ..context }))),
            },
            None => contexts.load_current(),
        }
    }

    fn override_in(self, options: &mut Options) -> Result<(), Error> {
        for (name, value) in &self.options {
            options.set(name, value)?;
        }
        if let Some(namespace) = self.namespace {
            options.namespace = namespace.parse::<Namespace>()?;
        }
        if let Some((min, max)) = self.backoff {
            (options.backoff_min, options.backoff_max) = (min, max);
        }
        options.connect_timeout = self.connect_timeout.unwrap_or(options.connect_timeout);
        options.request_timeout = self.request_timeout.unwrap_or(options.request_timeout);
        options.beat_interval = self.beat_interval.or(options.beat_interval);
        options.session_ttl = self.session_ttl.unwrap_or(options.session_ttl);
        options.share_watches = self.share_watches.unwrap_or(options.share_watches);
        options.seen = self.seen.unwrap_or(options.seen);
        options.agent = self.agent.unwrap_or_else(|| std::mem::take(&mut options.agent));
        Ok(())
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Client, Error>>);

impl Future for AbortOnDrop {
    type Output = Result<Client, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|ended| ended.unwrap_or_else(|_| Err(crate::client::closed())))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn no_identity() -> Error {
    let detail = "there is no identity to show: on the server's machine run `hither dev`; elsewhere, run `hither client \
                  add NAME` on the server and give its line as the URL or in HITHER_URL";
    Error::new(ErrorCode::Unauthenticated, detail)
}

fn no_folder() -> Error {
    let detail = "neither XDG_CONFIG_HOME nor HOME says where contexts are kept";
    Error::new(ErrorCode::IdentityInvalid, detail)
}

fn no_server() -> Error {
    let detail = "no server is named: run `hither dev`, or set HITHER_URL to hither://host:port";
    Error::new(ErrorCode::InvalidArgument, detail)
}
