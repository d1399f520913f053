//! What a node does beside serving clients, on a thread of its own: the admin port, and the renewal of certificates.

use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use tokio::sync::watch;

use super::NodeError;
use crate::identity::Identity;

/// Between two looks at the age of certificates: a small part of the ten days in which one may be renewed.
const RENEWAL_LOOK: Duration = Duration::from_secs(60 * 60);

pub(super) fn start(
    identity: Identity,
    admin: Option<(TcpListener, Router)>,
    stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, NodeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NodeError::Thread)?;
    std::thread::Builder::new()
        .name("hither-duties".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let mut until = stopped.clone();
                tokio::select! {
                    () = renew(&identity) => {}
                    () = serve(admin, stopped) => {}
                    _ = until.wait_for(|stopped| *stopped) => {}
                }
            });
        })
        .map_err(NodeError::Thread)
}

async fn renew(identity: &Identity) {
    loop {
        tokio::time::sleep(RENEWAL_LOOK).await;
        if let Err(error) = identity.renew_if_due() {
            tracing::error!(%error, "a certificate could not be renewed; trying again in an hour");
        }
    }
}

async fn serve(admin: Option<(TcpListener, Router)>, mut stopped: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let Some((listener, router)) = admin else { return stop.await };
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router).with_graceful_shutdown(stop).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin port is closed");
    }
    // Whatever became of the port, the other duties go on until the node stops.
    std::future::pending::<()>().await;
}
