//! A gRPC channel over all instances of a service (feature `tonic`).
//!
//! ```no_run
//! # async fn example(client: hither::Client) -> Result<(), hither::Error> {
//! let channel = hither::tonic::channel(&client, "greeter").await?;
//! // GreeterClient::new(channel), and every call goes to an instance that works.
//! # drop(channel);
//! # Ok(())
//! # }
//! ```

use ::tonic::transport::channel::Change as TonicChange;
use ::tonic::transport::{Channel, Endpoint};
use ::tower::discover::Change;
use futures_util::StreamExt;
use hither_client_core::{Error, Instance, InstanceFilter};
use hither_protocol::ErrorCode;

use super::tower::discover;
use crate::client::Client;

/// Changes that wait for the channel to take them.
const CHANGES: usize = 64;

/// A channel whose calls go to the instances of a service that want traffic, each to the one of two with fewer calls
/// under way. While there is no instance, calls wait. It follows the service until its last clone is gone.
///
/// # Errors
/// Those of [`Client::watch_service`].
pub async fn channel(client: &Client, service: impl AsRef<str>) -> Result<Channel, Error> {
    channel_with(client, service, InstanceFilter::default(), |endpoint| endpoint).await
}

/// The same for the instances that a filter lets through, each connected to as `configure` says: with TLS, with time
/// limits.
///
/// # Errors
/// Those of [`Client::watch_service`].
pub async fn channel_with(
    client: &Client,
    service: impl AsRef<str>,
    filter: InstanceFilter,
    configure: impl Fn(Endpoint) -> Endpoint + Send + 'static,
) -> Result<Channel, Error> {
    let watch = client.watch_service(service).filter(filter).await?;
    let mut changes = discover(watch, move |instance| endpoint(instance).map(&configure));
    let (channel, sender) = Channel::balance_channel(CHANGES);
    client.spawn(async move {
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = sender.closed() => return,
            };
            let change = match change {
                Some(Ok(Change::Insert(id, Ok(endpoint)))) => TonicChange::Insert(id, endpoint),
                Some(Ok(Change::Insert(id, Err(error)))) => {
                    tracing::warn!(id, %error, "an instance is left out of a channel");
                    continue;
                }
                Some(Ok(Change::Remove(id))) => TonicChange::Remove(id),
                Some(Err(error)) => {
                    tracing::warn!(%error, "a channel no longer follows its service");
                    return;
                }
                None => return,
            };
            if sender.send(change).await.is_err() {
                return;
            }
        }
    });
    Ok(channel)
}

/// Where an instance is called: its first endpoint that speaks gRPC or HTTP.
fn endpoint(instance: &Instance) -> Result<Endpoint, Error> {
    let url = instance.endpoints.iter().find_map(|endpoint| {
        let scheme = match endpoint.scheme.as_str() {
            "grpc" | "http" | "tcp" | "h2c" => "http",
            "grpcs" | "https" => "https",
            _ => return None,
        };
        let shown = endpoint.to_string();
        shown.split_once("://").map(|(_, address)| format!("{scheme}://{address}"))
    });
    let invalid = |detail: String| Error::new(ErrorCode::InvalidArgument, detail);
    let url = url.ok_or_else(|| invalid(format!("{} has no endpoint for gRPC", instance.key())))?;
    Endpoint::from_shared(url).map_err(|error| invalid(format!("{}: {error}", instance.key())))
}
