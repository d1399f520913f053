//! Watching keys. JavaScript pulls: what it has not asked for waits in the core, which is bounded and then asks the
//! server to hold the rest.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt;
use hither::{Error, Filter, KeyRange, Mode, Start, Watch};
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use parking_lot::Mutex;

use crate::batch::Batch;
use crate::client::NativeClient;
use crate::hear::{self, Range};
use crate::port::{Queue, value};
use crate::tell;

/// Events handed over in one go, unless a single update has more: well under a millisecond of JavaScript's thread.
const EVENTS_MAX: usize = 256;
/// Bytes handed over in one go, unless a single update has more. Who keeps one value keeps them all.
const BYTES_MAX: usize = 64 << 10;

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
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Batch>, Error>> {
        let mut batch = Batch::new();
        while batch.events() < EVENTS_MAX && batch.bytes() < BYTES_MAX && self.end.is_none() {
            // Whoever has something to hand over is not woken for what comes after it.
            let mut nobody = Context::from_waker(Waker::noop());
            let context = if batch.is_empty() { &mut *context } else { &mut nobody };
            match self.watch.poll_next_unpin(context) {
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(Ok(update))) => batch.push(update),
                Poll::Ready(Some(Err(error))) => self.end = Some(Some(error)),
                Poll::Ready(None) => self.end = Some(None),
            }
        }
        Poll::Ready(match &mut self.end {
            Some(end) if batch.is_empty() => end.take().map_or(Ok(None), Err),
            _ => Ok(Some(batch)),
        })
    }
}

#[napi]
impl NativeWatch {
    /// The revision that it began at.
    #[napi(getter, catch_unwind)]
    pub fn revision(&self) -> BigInt {
        self.revision.into()
    }

    /// Waits for updates: a list of a batch and of the values apart from it, or undefined at the end.
    #[napi(catch_unwind)]
    pub fn next(&self, call: u32) {
        let open = Arc::clone(&self.open);
        self.queue.run(call, async move {
            let batch = poll_fn(|context| match open.lock().as_mut() {
                Some(open) => open.poll(context),
                None => Poll::Ready(Ok(None)),
            });
            Ok(batch.await?.map_or_else(|| value(tell::NOTHING), Batch::into_tell))
        });
    }

    /// Closes it, here and at the server.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        let open = self.open.lock().take();
        drop(open);
    }
}
