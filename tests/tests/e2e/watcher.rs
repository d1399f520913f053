//! What a watch told, and whether that is exactly what was written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hither::{Client, Event, KeyRange, Revision, UpdateKind, Watch};
use hither_tests::wait::{until, within};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Far more than any resumption takes; the machine may be busy.
pub(crate) const CAUGHT_UP: Duration = Duration::from_secs(60);

/// One event, without what does not matter here.
pub(crate) type Seen = (u64, String, Option<String>);

/// A task that writes down everything a watch tells.
pub(crate) struct Watcher {
    log: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Opens a watch and listens.
    pub(crate) async fn open(client: &Client, prefix: &str) -> anyhow::Result<Self> {
        let watch = client.watch(KeyRange::prefix(prefix)).await?;
        let log = Arc::<Mutex<Vec<Seen>>>::default();
        let task = tokio::spawn(listen(watch, log.clone()));
        Ok(Self { log, task })
    }

    /// Waits until the watch has told of `revision`.
    pub(crate) async fn reach(&self, revision: Revision) {
        until("the watch catches up", CAUGHT_UP, async || {
            assert!(!self.task.is_finished(), "the watch ended");
            self.log.lock().await.last().filter(|last| last.0 >= revision.0).map(drop)
        })
        .await;
    }

    /// How many events it has told so far.
    pub(crate) async fn count(&self) -> usize {
        self.log.lock().await.len()
    }

    /// Everything it told.
    pub(crate) async fn told(self) -> Vec<Seen> {
        assert!(!self.task.is_finished(), "the watch ended");
        self.task.abort();
        std::mem::take(&mut *self.log.lock().await)
    }
}

async fn listen(mut watch: Watch, log: Arc<Mutex<Vec<Seen>>>) {
    let mut known = Revision::ZERO;
    while let Some(update) = watch.next().await {
        let update = update.expect("a watch survives everything here");
        assert_ne!(update.kind, UpdateKind::Reset, "history was there: nothing had to be compared");
        assert!(update.revision > known || update.kind == UpdateKind::Snapshot, "updates go forward");
        let mut log = log.lock().await;
        for event in &update.events {
            // Whole revisions: none that an update before this one has already ended.
            assert!(event.revision() > known, "revision {} came again after {known}", event.revision());
            assert!(event.revision() <= update.revision, "an event lies beyond its update");
            log.push(seen(event));
        }
        known = update.revision;
    }
}

fn seen(event: &Event) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match event {
        Event::Put { entry, .. } => (entry.mod_revision.0, text(entry.key.as_bytes()), Some(text(&entry.value))),
        Event::Delete { key, revision, .. } => (revision.0, text(key.as_bytes()), None),
        Event::Liveness { .. } => panic!("not asked for"),
    }
}

/// What was written, by revision: each the writes of one transaction, in their order.
#[derive(Default)]
pub(crate) struct Written(pub(crate) BTreeMap<u64, Vec<(String, Option<String>)>>);

impl Written {
    /// One acknowledged transaction.
    pub(crate) fn add(&mut self, revision: Revision, writes: Vec<(String, Option<String>)>) {
        let before = self.0.insert(revision.0, writes);
        assert!(before.is_none(), "revision {revision} was given out twice");
    }

    /// The newest revision.
    pub(crate) fn last(&self) -> Revision {
        Revision(self.0.last_key_value().map_or(0, |(&revision, _)| revision))
    }

    /// What a watch of all of it must tell.
    pub(crate) fn as_told(&self) -> Vec<Seen> {
        let events = self.0.iter().flat_map(|(&revision, writes)| {
            writes.iter().map(move |(key, value)| (revision, key.clone(), value.clone()))
        });
        events.collect()
    }
}

/// Fails with the first difference, rather than with two lists of thousands.
pub(crate) fn assert_same(told: &[Seen], written: &[Seen]) {
    for (at, (told, written)) in told.iter().zip(written).enumerate() {
        assert_eq!(told, written, "event {at} is another");
    }
    assert_eq!(told.len(), written.len(), "the same so far, but not as many");
}

/// A client may take so long for one call while servers come and go.
pub(crate) const PATIENT: Duration = Duration::from_secs(60);

/// Waits for one call of the harness's own.
pub(crate) async fn promptly<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(what, PATIENT, future).await
}
