//! A node to test against, and a client that does no more than it is told.

mod client;
mod server;

use std::time::Duration;

pub use client::{Client, Incoming, Stranger, closed_with, enrol, frame_of, hello};
pub use server::Server;

/// How long anything may take before a test fails: far longer than it should, on a machine that has other work.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
