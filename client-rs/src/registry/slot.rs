//! Where the view of one service stands for everyone in the process.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use hither_client_core::{Error, ServiceView};
use hither_protocol::Revision;
use tokio::sync::{Notify, watch};

/// One service: its view, and what is known of those who use it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) service: Arc<str>,
    /// The newest view; none before the first, and after the subscription failed.
    pub(crate) view: ArcSwapOption<ServiceView>,
    told: watch::Sender<Told>,
    /// The newest revision of the service that this client wrote itself.
    pub(crate) floor: AtomicU64,
    /// Whose turn it is.
    pub(crate) turn: AtomicU64,
    /// Somebody looked since it was last asked.
    used: AtomicBool,
    /// When somebody looked last, in nanoseconds of the client's clock, rounded to when it was asked.
    pub(crate) used_at: AtomicU64,
    pins: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    pub(crate) evicted: Notify,
    failure: Mutex<Option<Error>>,
}

/// What those who wait are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) view: Option<Arc<ServiceView>>,
    /// Up to where the subscription has come.
    pub(crate) revision: Revision,
    pub(crate) end: Option<End>,
}

/// Why a subscription ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// Nobody used it. Whoever wants it again begins another.
    Idle,
    /// It cannot go on.
    Failed(Error),
}

impl Slot {
    pub(crate) fn new(service: &str) -> Self {
        Self {
            service: service.into(),
            view: ArcSwapOption::empty(),
            told: watch::Sender::new(Told::default()),
            floor: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            used: AtomicBool::new(true),
            used_at: AtomicU64::new(0),
            pins: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            evicted: Notify::new(),
            failure: Mutex::default(),
        }
    }

    /// Somebody looked.
    pub(crate) fn touch(&self) {
        // A read is cheaper than a write that other cores must hear of.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody looked since this was last asked.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }

    pub(crate) fn listen(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    pub(crate) fn publish(&self, view: Option<Arc<ServiceView>>, revision: Revision) {
        self.told.send_if_modified(|told| {
            // Under the lock: whoever has seen a view here is told no older one there.
            if let Some(view) = &view {
                self.view.store(Some(Arc::clone(view)));
            }
            let moved = view.is_some() || told.revision != revision;
            told.view = view.or_else(|| told.view.take());
            told.revision = revision;
            moved
        });
    }

    pub(crate) fn end(&self, end: End) {
        self.told.send_modify(|told| {
            if matches!(end, End::Failed(_)) {
                // Whoever still holds the slot is told why, and not what was known last for ever.
                self.view.store(None);
            }
            told.end.get_or_insert(end);
        });
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.told.borrow().end.is_some()
    }

    /// The last attempt to subscribe failed like this.
    pub(crate) fn fail(&self, error: Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// Why there is no view yet, if that is known.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps a subscription open.
#[derive(Debug)]
pub(crate) struct Pin(Arc<Slot>);

impl Pin {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        slot.pins.fetch_add(1, Ordering::AcqRel);
        Self(slot)
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.0
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.touch();
        self.0.pins.fetch_sub(1, Ordering::AcqRel);
    }
}
