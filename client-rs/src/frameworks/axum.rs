//! Serving with axum, registered (feature `axum`).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::get};
//! use hither::Registration;
//!
//! let client = hither::connect().await?;
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
//! let app = Router::new().route("/", get(|| async { "hello" }));
//! hither::axum::serve(&client, Registration::new("api"), listener, app)
//!     .until(async { drop(tokio::signal::ctrl_c().await) })
//!     .await?;
//! # Ok(())
//! # }
//! ```

use std::future::{Future, IntoFuture, pending};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use ::axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::registry::Registration;

/// How long finders have to notice that an instance drains: a change reaches them within milliseconds, and who follows
/// with a `min_interval` has this long.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves `app` on `listener`, registered for as long as it does. Unless the registration says where it listens, its
/// port is the listener's, at this machine's own address.
pub fn serve(client: &Client, registration: Registration, listener: TcpListener, app: Router) -> Serving {
    Serving { client: client.clone(), registration, listener, app, drain: DRAIN, until: Box::pin(pending()) }
}

/// A server to be run by awaiting it. Made by [`serve`].
#[must_use = "nothing is served until it is awaited"]
pub struct Serving {
    client: Client,
    registration: Registration,
    listener: TcpListener,
    app: Router,
    drain: Duration,
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Serving {
    /// Ends it in good order when this resolves: the instance drains, so that finders send nothing new; it waits for
    /// them to notice; it deregisters; it takes no more connections and finishes the requests that it has.
    pub fn until(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Box::pin(stop);
        self
    }

    /// How long it waits between draining and deregistering. Default 1 s.
    pub const fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    async fn run(self) -> io::Result<()> {
        let Self { client, mut registration, listener, app, drain, until } = self;
        if registration.listens_nowhere() {
            let local = listener.local_addr()?;
            registration = registration.port(local.port());
            if !local.ip().is_unspecified() {
                registration = registration.address(local.ip().to_string());
            }
        }
        // Connections that come before the first `accept` wait in the listener.
        let registered = client.register(registration).await.map_err(io::Error::other)?;
        let (stop, stopping) = oneshot::channel::<()>();
        let stopped = async {
            // However it ends.
            let _ = stopping.await;
        };
        let serving = ::axum::serve(listener, app).with_graceful_shutdown(stopped).into_future();
        let leaving = async {
            until.await;
            // Without a server to tell, finders see it go when the process ends.
            if let Err(error) = registered.drain().await {
                tracing::warn!(%error, "an instance that stops could not drain");
            }
            client.sleep(drain).await;
            if let Err(error) = registered.deregister().await {
                tracing::warn!(%error, "an instance that stops could not be deregistered");
            }
            drop(stop);
            pending::<io::Result<()>>().await
        };
        tokio::select! {
            served = serving => served,
            never = leaving => never,
        }
    }
}

impl IntoFuture for Serving {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
