//! The load under which the power fails: writers whose keys are never used twice, and one watch over all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::ensure;
use hither::{Applied, Client, Event, Put, TxnOp, UpdateKind, Watch};
use parking_lot::Mutex;
use tokio::sync::RwLock;

use crate::ledger::Ledger;

/// All keys of the load begin with it.
pub const PREFIX: &str = "power/";
/// A value that most of the log is made of: its frames lie in several blocks, and segments fill up with them. It is deleted
/// seven writes later, so that reading everything back stays short.
const LARGE_BYTES: usize = 48 << 10;
/// A value that stays, so that tables have more than small ones.
const MEDIUM_BYTES: usize = 4 << 10;

/// What writers, watch and judge share.
#[derive(Debug, Default)]
pub struct Load {
    /// Ends the writers.
    pub stop: AtomicBool,
    /// Held by writers for each write, and by whoever wants none.
    pub gate: RwLock<()>,
    /// What was acknowledged.
    pub ledger: Mutex<Ledger>,
    /// What the watch told: revisions and keys.
    pub told: Mutex<Vec<(u64, String)>>,
    /// What the watch knows everything up to.
    pub known: AtomicU64,
}

/// Writes keys that nobody wrote before: one, now and then two at once, and now and then deletes one again.
pub(crate) async fn write(client: Client, writer: usize, load: Arc<Load>) -> anyhow::Result<()> {
    for round in 0_u64.. {
        if load.stop.load(Ordering::Relaxed) {
            break;
        }
        let _open = load.gate.read().await;
        let key = |part: &str| format!("{PREFIX}{writer}/{round}{part}");
        let (one, value) = (key(""), value(round));
        let done = match round % 8 {
            6 => {
                let other = key("-twin");
                let put = |key: &String| {
                    TxnOp::Put(Put {
                        key: key.as_str().into(),
                        value: value.clone().into(),
                        lease: None,
                        previous: false,
                    })
                };
                client.txn().then(put(&one)).then(put(&other)).await.map(|reply| {
                    load.ledger.lock().wrote(reply.revision, &[(one, value.clone()), (other, value.clone())]);
                })
            }
            7 => {
                let old = format!("{PREFIX}{writer}/{}", round - 7);
                load.ledger.lock().deletes(&old);
                client.delete(old.as_str()).await.map(|reply| load.ledger.lock().deleted(reply.revision, &old))
            }
            _ => client
                .put(one.as_str(), value.as_str())
                .await
                .map(|reply| load.ledger.lock().wrote(reply.revision, &[(one, value)])),
        };
        // The session bridges a restart, so nothing stays unknown.
        if let Err(error) = done {
            ensure!(error.applied() == Applied::No && error.is_retryable(), "writer {writer}: {error}");
        }
    }
    Ok(())
}

pub(crate) async fn listen(mut watch: Watch, load: Arc<Load>) -> anyhow::Result<()> {
    while let Some(update) = watch.next().await {
        let update = update?;
        ensure!(update.kind != UpdateKind::Reset, "history was there: nothing had to be compared");
        let mut told = load.told.lock();
        for event in &update.events {
            let key = match event {
                Event::Put { entry, .. } => &entry.key,
                Event::Delete { key, .. } => key,
                Event::Liveness { .. } => continue,
            };
            told.push((event.revision().0, String::from_utf8_lossy(key.as_bytes()).into_owned()));
        }
        load.known.store(update.revision.0, Ordering::Relaxed);
    }
    Ok(())
}

fn value(round: u64) -> String {
    let bytes = match round % 16 {
        0 | 8 => LARGE_BYTES,
        3 => MEDIUM_BYTES,
        _ => 0,
    };
    format!("{round:x<bytes$}")
}
