//! The connections that are open, by what they are looked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hither_protocol::error::CloseCode;
use hither_state::watch::ConnectionId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection::Connection;
use crate::identity::{Book, Denied};

/// Connections that the applier wakes itself, so that an event sets out no later than the answer to its put; more of them
/// would hold it up.
const WOKEN_DIRECTLY_MAX: usize = 4;

/// All welcomed connections of this node.
#[derive(Default)]
pub(crate) struct Registry {
    open: Mutex<HashMap<ConnectionId, Arc<Connection>>>,
    last_id: AtomicU64,
    /// Connections to wake, left by the applier for the plane's own thread.
    woken: Mutex<Vec<ConnectionId>>,
    some_woken: Notify,
}

/// A connection in the registry. It leaves when this is dropped, whatever becomes of the task that serves it: whoever stays
/// there counts against those who come.
pub(super) struct Present {
    registry: Arc<Registry>,
    connection: Arc<Connection>,
}

impl Present {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.registry.open.lock().remove(&self.connection.id);
    }
}

impl Registry {
    /// A number that no other connection of this process has.
    pub(crate) fn next_id(&self) -> ConnectionId {
        ConnectionId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes up a connection, for as long as what this returns lives.
    pub(super) fn insert(self: &Arc<Self>, connection: Arc<Connection>) -> Present {
        self.open.lock().insert(connection.id, Arc::clone(&connection));
        Present { registry: Arc::clone(self), connection }
    }

    /// Connections open.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Connections that each identity has open.
    pub(crate) fn by_name(&self) -> HashMap<Arc<str>, u32> {
        let mut counts = HashMap::new();
        for connection in self.open.lock().values() {
            *counts.entry(Arc::clone(&connection.caller.name)).or_default() += 1;
        }
        counts
    }

    /// Closes the connections of every identity that the book no longer lets in.
    pub(crate) fn close_revoked(&self, book: &Book) {
        for connection in self.all() {
            match book.check(&connection.principal) {
                Ok(_) => {}
                Err(Denied::Revoked) => connection.close(CloseCode::IdentityRevoked),
                Err(Denied::Invalid) => connection.close(CloseCode::IdentityInvalid),
            }
        }
    }

    /// Called by the applier, on its own thread, once for each batch: wakes a few, or leaves a note and goes on. It never
    /// waits.
    pub(crate) fn wake(&self, connections: &[ConnectionId]) {
        if connections.len() <= WOKEN_DIRECTLY_MAX
            && let Some(open) = self.open.try_lock()
            && connections.iter().all(|id| open.contains_key(id))
        {
            return connections.iter().filter_map(|id| open.get(id)).for_each(|woken| woken.wake.notify_one());
        }
        self.woken.lock().extend_from_slice(connections);
        self.some_woken.notify_one();
    }

    /// Wakes every connection.
    pub(crate) fn wake_all(&self) {
        self.all().iter().for_each(|connection| connection.wake.notify_one());
    }

    /// Hands the notes of the applier out, on the plane's thread. `own` is told of the connection that is not a client's.
    pub(crate) async fn hand_out_wakes(&self, own: ConnectionId, tell_own: &Notify) {
        loop {
            self.some_woken.notified().await;
            let woken = std::mem::take(&mut *self.woken.lock());
            let open = self.open.lock();
            for id in woken {
                if id == own {
                    tell_own.notify_one();
                } else if let Some(connection) = open.get(&id) {
                    connection.wake.notify_one();
                }
            }
        }
    }

    /// Ends every request lane and waits until the clients have the last answers.
    pub(crate) async fn end_lanes(&self) {
        let connections = self.all();
        for connection in &connections {
            connection.lane.wanted.notify_one();
        }
        for connection in &connections {
            if connection.lane.is_open.load(Ordering::Relaxed) {
                connection.lane.reached.notified().await;
            }
        }
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        self.open.lock().values().cloned().collect()
    }

    /// Requests under way on all connections.
    pub(crate) fn requests_in_flight(&self) -> usize {
        self.all().iter().map(|connection| connection.in_flight.len()).sum()
    }
}
