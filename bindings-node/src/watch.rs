//! Watching keys. JavaScript pulls: what it has not asked for waits in the core, which is bounded and then asks the
//! server to hold the rest.

use std::sync::Arc;

use futures_util::FutureExt;
use hither::{Error, Filter, KeyRange, Mode, Start, Update, Watch};
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use tokio::sync::Mutex;

use crate::client::NativeClient;
use crate::hear::{self, Range};
use crate::port::{Queue, value};
use crate::runtime;
use crate::tell;

/// Events handed over in one go, unless a single update has more: well under a millisecond of JavaScript's thread.
const EVENTS_MAX: usize = 256;

/// What a watch is to be; see `WatchOptions` in TypeScript.
#[napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "TypeScript's `WatchOptions` has the words")]
pub struct WatchSettings {
    pub range: Range,
    /// `snapshot`, `now` or `after`.
    pub start: String,
    pub after: Option<BigInt>,
    pub latest: bool,
    pub puts: bool,
    pub deletes: bool,
    pub liveness: bool,
    pub previous: bool,
    pub min_interval_ms: f64,
    pub timeout_ms: Option<f64>,
}

#[napi]
impl NativeClient {
    /// Opens a watch. Brings a [`NativeWatch`].
    #[napi(catch_unwind)]
    pub fn watch(&self, call: u32, settings: WatchSettings) {
        let (client, queue) = (self.client.clone(), Arc::clone(&self.queue));
        self.queue.run(call, async move {
            let start = match (settings.start.as_str(), &settings.after) {
                ("now", _) => Start::Now,
                ("after", Some(revision)) => Start::After(hear::revision(revision)?),
                _ => Start::Snapshot,
            };
            let (puts, deletes, liveness) = (settings.puts, settings.deletes, settings.liveness);
            let mut watch = client
                .watch(KeyRange::try_from(settings.range)?)
                .start(start)
                .mode(if settings.latest { Mode::Latest } else { Mode::Every })
                .filter(Filter { puts, deletes, liveness })
                .min_interval(hear::duration(settings.min_interval_ms));
            if settings.previous {
                watch = watch.previous();
            }
            if let Some(timeout) = settings.timeout_ms {
                watch = watch.timeout(hear::duration(timeout));
            }
            let watch = watch.await?;
            let revision = watch.revision().0;
            Ok(value(NativeWatch { revision, open: Arc::new(Mutex::new(Some(Open { watch, end: None }))), queue }))
        });
    }
}

/// An open watch.
#[napi]
#[derive(Debug)]
pub struct NativeWatch {
    revision: u64,
    open: Arc<Mutex<Option<Open>>>,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Open {
    watch: Watch,
    /// How it ended, where updates that came before are handed over first.
    end: Option<Option<Error>>,
}

impl Open {
    /// Waits for an update, and takes those that are there with it. None at the end.
    async fn take(&mut self) -> Result<Vec<Update>, Error> {
        let mut updates = Vec::new();
        let mut events = 0;
        while events < EVENTS_MAX && self.end.is_none() {
            let next =
                if updates.is_empty() { Some(self.watch.next().await) } else { self.watch.next().now_or_never() };
            match next {
                None => break,
                Some(Some(Ok(update))) => {
                    events += update.events.len().max(1);
                    updates.push(update);
                }
                Some(Some(Err(error))) => self.end = Some(Some(error)),
                Some(None) => self.end = Some(None),
            }
        }
        match &mut self.end {
            Some(end) if updates.is_empty() => end.take().map_or(Ok(updates), Err),
            _ => Ok(updates),
        }
    }
}

#[napi]
impl NativeWatch {
    /// The revision that it began at.
    #[napi(getter, catch_unwind)]
    pub fn revision(&self) -> BigInt {
        self.revision.into()
    }

    /// Waits for updates: a list of them, empty at the end. One call at a time.
    #[napi(catch_unwind)]
    pub fn next(&self, call: u32) {
        let open = Arc::clone(&self.open);
        self.queue.run(call, async move {
            let mut open = open.lock().await;
            let updates = match open.as_mut() {
                Some(open) => open.take().await?,
                None => Vec::new(),
            };
            Ok(tell::updates(updates))
        });
    }

    /// Closes it, here and at the server.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        let open = Arc::clone(&self.open);
        // Not under a call's number: a call for updates, which has the lock, was taken back before.
        runtime::spawn(async move {
            open.lock().await.take();
        });
    }
}
