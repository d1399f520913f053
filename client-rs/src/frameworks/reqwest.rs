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

use ::reqwest::{Method, Request, Response, StatusCode, Url};
use hither_client_core::{Instance, InstanceFilter};
use hither_protocol::ErrorCode;

use crate::client::Client;
use crate::registry::Pick;

/// Instances that one request is tried at.
const ATTEMPTS: usize = 3;

/// Sends requests to services by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    client: Client,
    http: ::reqwest::Client,
    pick: Arc<Pick>,
    filter: InstanceFilter,
    attempts: usize,
    retries: Arc<AtomicU64>,
}

impl Services {
    /// Over an HTTP client, to instances picked at random by weight.
    #[must_use]
    pub fn new(client: &Client, http: ::reqwest::Client) -> Self {
        let filter = InstanceFilter::default();
        Self {
            client: client.clone(),
            http,
            pick: Arc::new(Pick::random()),
            filter,
            attempts: ATTEMPTS,
            retries: Arc::default(),
        }
    }

    /// Only to these instances.
    #[must_use]
    pub fn filter(mut self, filter: InstanceFilter) -> Self {
        self.pick = Arc::new(Pick::random().filter(filter.clone()));
        self.filter = filter;
        self
    }

    /// At most so many instances for one request. Default 3.
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
    /// OPTIONS, TRACE, PUT or DELETE, and its body is no stream. The last answer is returned as it came.
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
        let mut tried: Vec<String> = Vec::new();
        let mut request = Some(request);
        loop {
            let instance = self.choose(&service, &tried)?;
            let base = instance.url().ok_or_else(|| listens_nowhere(&instance))?;
            let again = tried.len() + 1 < self.attempts;
            // A body that is a stream can be sent only once.
            let Some(mut this) = request.take() else { return Err(listens_nowhere(&instance).into()) };
            request = this.try_clone().filter(|_| again);
            *this.url_mut() = aimed(this.url(), &base)?;
            let repeatable = this.method().is_idempotent();
            tried.push(instance.id.clone());
            let outcome = self.http.execute(this).await;
            let elsewhere = match &outcome {
                Ok(response) => repeatable && is_transient(response.status()),
                Err(error) => error.is_connect() || repeatable && (error.is_request() || error.is_timeout()),
            };
            if !elsewhere || request.is_none() {
                return Ok(outcome?);
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(service, id = instance.id, "a request is sent to another instance");
        }
    }

    /// One that was not tried yet, as long as there is one.
    fn choose(&self, service: &str, tried: &[String]) -> Result<Arc<Instance>, Error> {
        let picked = self.client.pick(service, &self.pick)?;
        if !tried.contains(&picked.id) {
            return Ok(picked);
        }
        let view = self.client.view(service).map(|view| view.filtered(&self.filter));
        let other = view.and_then(|view| view.candidates().iter().find(|other| !tried.contains(&other.id)).cloned());
        Ok(other.unwrap_or(picked))
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
