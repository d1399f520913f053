//! What the core logs, on its way to Python's `logging`: kept here, told in batches by threads that are Python's.
//!
//! The event loop tells them when it is woken, which a record does too; a blocking call tells them when it is done, and
//! every 50 ms until then.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::port::Queue;
use crate::process;

/// Records that wait for Python; further ones are counted and left out.
const WAITING_MAX: usize = 2_048;

/// How often Python is asked which level it wants.
const LOOK_MS: u64 = 100;
static BEGIN: OnceLock<Instant> = OnceLock::new();

/// Python's number of the lowest level that is told. Until Python says otherwise, warnings.
static LEVEL: AtomicUsize = AtomicUsize::new(30);

/// What waits to be told, and whom to wake for it.
#[derive(Default)]
pub(crate) struct Logs {
    records: Mutex<VecDeque<Record>>,
    some: AtomicBool,
    left_out: AtomicU64,
    asked: AtomicU64,
    listeners: Mutex<Vec<Weak<Queue>>>,
}

struct Record {
    level: usize,
    time: f64,
    target: &'static str,
    message: String,
}

impl Logs {
    /// Has records wake this loop too.
    pub(crate) fn listen(&self, queue: &Arc<Queue>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(queue));
    }

    fn push(&self, record: Record) {
        let mut records = self.records.lock();
        if records.len() == WAITING_MAX {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        records.push_back(record);
        drop(records);
        if !self.some.swap(true, Ordering::AcqRel) {
            let listeners = self.listeners.lock();
            listeners.iter().filter_map(Weak::upgrade).for_each(|queue| queue.ring());
        }
    }

    /// Asks Python which level it wants, if that was long ago: it may change at any time, on any logger above ours.
    pub(crate) fn follow(&self, py: Python<'_>) {
        static WANTED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let now = BEGIN.get_or_init(Instant::now).elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let asked = self.asked.load(Ordering::Relaxed);
        if (asked != 0 && now < asked + LOOK_MS) || self.asked.swap(now.max(1), Ordering::Relaxed) != asked {
            return;
        }
        let wanted = WANTED.import(py, "hither._logging", "wanted").and_then(|wanted| wanted.call0()?.extract());
        match wanted {
            Ok(level) => set_level(level),
            Err(error) => error.write_unraisable(py, None),
        }
    }

    /// Tells Python what waits. Whatever goes wrong in a handler of the application's is the application's to see, and
    /// none of the caller's affair.
    pub(crate) fn deliver(&self, py: Python<'_>) {
        static TELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        self.follow(py);
        if !self.some.swap(false, Ordering::AcqRel) {
            return;
        }
        let records = std::mem::take(&mut *self.records.lock());
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let told: Vec<_> =
            records.into_iter().map(|record| (record.level, record.time, record.target, record.message)).collect();
        let outcome = TELL.import(py, "hither._logging", "tell").and_then(|tell| tell.call1((told, left_out)));
        if let Err(error) = outcome {
            error.write_unraisable(py, None);
        }
    }
}

/// Has everything that the core logs come here. Called once, on import.
pub(crate) fn collect() {
    // Only if somebody else's is set, which in a library of our own nobody does.
    let _ = tracing::subscriber::set_global_default(Collector);
}

fn set_level(level: usize) {
    if LEVEL.swap(level, Ordering::AcqRel) != level {
        tracing::callsite::rebuild_interest_cache();
    }
}

struct Collector;

const fn number(level: Level) -> usize {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

impl Subscriber for Collector {
    /// Ours at the level that Python wants; of what lies below, QUIC and TLS, only what is wrong.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = number(*metadata.level());
        metadata.is_event()
            && level >= LEVEL.load(Ordering::Acquire)
            && (level >= 30 || metadata.target().starts_with("hither"))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Acquire) {
            0..=5 => LevelFilter::TRACE,
            6..=10 => LevelFilter::DEBUG,
            11..=20 => LevelFilter::INFO,
            21..=30 => LevelFilter::WARN,
            31..=40 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let Some(process) = process::peek() else { return };
        let mut message = Message::default();
        event.record(&mut message);
        let metadata = event.metadata();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        process.logs.push(Record {
            level: number(*metadata.level()),
            time,
            target: metadata.target(),
            message: message.text + &message.fields,
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The sentence, and the fields after it.
#[derive(Default)]
struct Message {
    text: String,
    fields: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.text, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
