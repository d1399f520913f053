//! The shell of the core: one task that owns the core, the sockets and the timers of a client.

pub(crate) mod dial;

use std::sync::Arc;
use std::time::Duration;

use hither_client_core::{Error, Options, WatchSpec};
use hither_protocol::message::{LeaseGrantReply, Reply, Request, Stamp};
use hither_protocol::{LeaseId, Revision, SessionId};
use tokio::sync::{oneshot, watch};

use crate::client::Client;
use crate::identity::Identity;
use crate::mailbox::Mailbox;

/// What a call comes back with.
pub(crate) type Outcome = Result<(Stamp, Reply), Error>;

/// What a handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Sends a request.
    Call { id: u64, request: Request, timeout: Option<Duration>, reply: oneshot::Sender<Outcome> },
    /// Nobody waits for this call any more.
    Cancel { id: u64 },
    /// Opens the session, if there is none.
    Session { id: u64, reply: oneshot::Sender<Result<SessionId, Error>> },
    /// Grants a lease and keeps it.
    Lease { id: u64, ttl: Duration, reply: oneshot::Sender<Result<(LeaseGrantReply, watch::Receiver<bool>), Error>> },
    /// Keeps a lease no longer.
    Release { lease: LeaseId, revoke: bool },
    /// Opens a watch.
    Watch {
        id: u64,
        spec: WatchSpec,
        timeout: Option<Duration>,
        opened: oneshot::Sender<Result<Revision, Error>>,
        mailbox: Arc<Mailbox>,
    },
    /// The mailbox of a watch has room again.
    Drained { id: u64 },
    /// Closes a watch.
    Unwatch { id: u64 },
    /// Says goodbye and ends.
    Close { done: oneshot::Sender<()> },
}

/// Makes the client and its task, and waits for the first greeting.
pub(crate) async fn start(_options: Options, _identity: Identity, _context: Option<String>) -> Result<Client, Error> {
    Err(Error::new(hither_protocol::ErrorCode::Unsupported, "the driver is not written yet"))
}
