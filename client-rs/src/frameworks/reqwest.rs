//! Requests to services by name: `svc://api/path` (feature `reqwest`).
//!
//! ```no_run
//! # async fn example(client: hither::Client) -> Result<(), hither::reqwest::Error> {
//! let http = hither::reqwest::Services::new(&client, reqwest::Client::new());
//! let response = http.get("svc://api/health").await?;
//! println!("{}", response.text().await?);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::reqwest::{Method, Request, Response, StatusCode, Url};
use hither_client_core::{Instance, InstanceFilter};
use hither_protocol::ErrorCode;

use crate::client::Client;
use crate::registry::Pick;

/// Times that one request is sent.
const ATTEMPTS: usize = 3;

/// How long a request waits before it is sent to an instance for the second time: all others have failed too.
const PAUSE: Duration = Duration::from_millis(50);

/// Sends requests to services by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    client: Client,
    http: ::reqwest::Client,
    pick: Arc<Pick>,
    attempts: usize,
    retries: Arc<AtomicU64>,
}

impl Services {
    /// Over an HTTP client, to instances picked at random by weight.
    #[must_use]
    pub fn new(client: &Client, http: ::reqwest::Client) -> Self {
        Self {
            client: client.clone(),
            http,
            pick: Arc::new(Pick::random()),
            attempts: ATTEMPTS,
            retries: Arc::default(),
        }
    }

    /// Only to these instances.
    #[must_use]
    pub fn filter(mut self, filter: InstanceFilter) -> Self {
        self.pick = Arc::new(Pick::random().filter(filter));
        self
    }

    /// How often one request is sent at most. Default 3.
    #[must_use]
    pub fn attempts(mut self, attempts: usize) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Requests that were sent to another instance, by this and its clones.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Asks for `svc://service/path`, or for any other URL as it stands.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn get(&self, url: &str) -> Result<Response, Error> {
        let url = Url::parse(url).map_err(|error| {
            let detail = format!("{url:?} is no URL: {error}");
            Error::Service(hither_client_core::Error::new(ErrorCode::InvalidArgument, detail))
        })?;
        self.execute(Request::new(Method::GET, url)).await
    }

    /// Sends a request to `svc://service/path`, or to any other URL as it stands.
    ///
    /// An instance that cannot be connected to is passed over for another, whatever the request. One that breaks off,
    /// or that answers 502, 503 or 504, is passed over if the request may be sent twice: its method is GET, HEAD,
    /// OPTIONS, TRACE, PUT or DELETE, and its body is no stream. When all have been asked, one that answered is asked
    /// again a moment later, rather than one that could not be reached. The last answer is returned as it came.
    ///
    /// # Errors
    /// `NoInstances` and whatever else finding the service comes to; what the last attempt failed with.
    pub async fn execute(&self, request: Request) -> Result<Response, Error> {
        if request.url().scheme() != "svc" {
            return Ok(self.http.execute(request).await?);
        }
        let service = request.url().host_str().unwrap_or_default().to_owned();
        // Waits only if nothing is known of the service yet.
        self.client.discover(&service).await?;
        let (mut tried, mut unreached) = (Vec::new(), Vec::new());
        let mut request = request;
        loop {
            let mut instance = self.client.pick_besides(&service, &self.pick, &tried)?;
            if tried.contains(&instance.id) {
                self.client.sleep(PAUSE).await;
                instance = self.client.pick_besides(&service, &self.pick, &unreached)?;
            }
            let base = instance.url().ok_or_else(|| listens_nowhere(&instance))?;
            tried.push(instance.id.clone());
            // None for a body that is a stream: it can be sent only once.
            let again = if tried.len() < self.attempts { request.try_clone() } else { None };
            *request.url_mut() = aimed(request.url(), &base)?;
            let repeatable = request.method().is_idempotent();
            let outcome = self.http.execute(request).await;
            let elsewhere = match &outcome {
                Ok(response) => repeatable && is_transient(response.status()),
                Err(error) => error.is_connect() || repeatable && (error.is_request() || error.is_timeout()),
            };
            request = match again {
                Some(again) if elsewhere => again,
                _ => return Ok(outcome?),
            };
            if outcome.is_err() {
                unreached.push(instance.id.clone());
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(service, id = instance.id, "a request is sent to another instance");
        }
    }
}

/// What a request to a service failed with.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Finding an instance.
    Service(hither_client_core::Error),
    /// Asking it.
    Http(::reqwest::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Service(error) => Some(error),
            Self::Http(error) => Some(error),
        }
    }
}

impl From<hither_client_core::Error> for Error {
    fn from(error: hither_client_core::Error) -> Self {
        Self::Service(error)
    }
}

impl From<::reqwest::Error> for Error {
    fn from(error: ::reqwest::Error) -> Self {
        Self::Http(error)
    }
}

/// The URL of a service at one of its instances.
fn aimed(url: &Url, base: &str) -> Result<Url, hither_client_core::Error> {
    let invalid = |error| {
        let detail = format!("{base} is no address for HTTP: {error}");
        hither_client_core::Error::new(ErrorCode::InvalidArgument, detail)
    };
    let mut aimed = Url::parse(base).map_err(invalid)?;
    aimed.set_path(url.path());
    aimed.set_query(url.query());
    Ok(aimed)
}

fn listens_nowhere(instance: &Instance) -> hither_client_core::Error {
    hither_client_core::Error::new(ErrorCode::InvalidArgument, format!("{} listens nowhere", instance.key()))
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
