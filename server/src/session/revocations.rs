//! Revocations, as they reach this node through the log, whoever asked for them and wherever: this node watches the
//! identities as a client would watch keys, and closes the connections of those that ended.

use std::sync::Arc;

use hither_protocol::message::{Filter, Mode, Start};
use hither_protocol::{KeyRange, Namespace, WatchId};
use hither_state::watch::{ConnectionId, Frames, SubscriberId, WatchSpec};
use tokio::sync::Notify;
use tokio::time::{Duration, sleep};

use super::Registry;
use crate::engine::Engine;
use crate::identity::{Book, IDENTITIES};

/// After this long everything is looked at again, though nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Watches in the hub that are the node's own and no client's: the one below.
pub(crate) const OWN_WATCHES: usize = 1;

/// Runs as long as the plane does. `own` is the number under which the hub knows this watch.
pub(crate) async fn revocations(
    engine: Engine,
    registry: Arc<Registry>,
    book: Book,
    own: ConnectionId,
    woken: Arc<Notify>,
) {
    let mut watch = None;
    loop {
        if watch.is_none() {
            watch = subscribe(&engine, own);
        }
        if watch.is_some_and(|id| drain(&engine, own, id)) {
            registry.close_revoked(&book);
        }
        tokio::select! {
            () = woken.notified() => {}
            () = sleep(LOOK_AGAIN) => registry.close_revoked(&book),
        }
    }
}

fn subscribe(engine: &Engine, own: ConnectionId) -> Option<SubscriberId> {
    let spec = WatchSpec {
        watch: WatchId(0),
        namespace: Namespace::system(),
        range: KeyRange::prefix(IDENTITIES),
        start: Start::Now,
        lineage: None,
        mode: Mode::Latest,
        filter: Filter::default(),
        previous: false,
        min_interval: Duration::ZERO,
    };
    let state = engine.machine().state.read();
    let mut hub = engine.machine().hub.lock();
    hub.subscribe(&state, own, spec, engine.now()).map(|(id, _)| id).ok()
}

/// Takes what the watch has to say; whether there was anything.
fn drain(engine: &Engine, own: ConnectionId, id: SubscriberId) -> bool {
    let mut something = false;
    loop {
        let state = engine.machine().state.read();
        let mut hub = engine.machine().hub.lock();
        hub.poll_ready(own, &mut Vec::new());
        match hub.poll_frames(&state, id, usize::MAX, engine.now()) {
            Frames::Frames { more, .. } => {
                something = true;
                if !more {
                    return true;
                }
            }
            Frames::Idle | Frames::NotBefore(_) | Frames::Ended(_) => return something,
        }
    }
}
