//! The registry: services that register, and those who find them.

mod address;
mod discover;
mod follow;
mod keeper;
mod operate;
mod pick;
mod registered;
mod registration;
mod service;
mod slot;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use hither_client_core::{Error, Instance, ServiceView, check_service};
use hither_protocol::{Entry, KeyRange, Revision};
use tokio::sync::mpsc;

use crate::client::Client;
pub use discover::{Discovers, Waits};
pub use pick::Pick;
pub use registered::{Registered, RegistrationState};
pub use registration::Registration;
pub use service::Service;
use slot::{Pin, Slot};
pub use watch::{ServiceUpdate, ServiceWatch, ServiceWatches};

/// The views that a client keeps, one subscription for each service.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    slots: ArcSwap<HashMap<Box<str>, Arc<Slot>>>,
    /// Held by whoever adds or removes a slot.
    changing: Mutex<()>,
    /// Where those who registered ask.
    keeper: Mutex<Option<mpsc::UnboundedSender<keeper::Ask>>>,
    /// What all views take in memory, roughly.
    bytes: AtomicUsize,
    /// The moment of the last beat, in nanoseconds of the client's clock.
    pub(crate) beats: Arc<AtomicU64>,
}

impl Registry {
    fn keeper(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<keeper::Ask>>> {
        // Nothing under the lock panics half-way.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of a service, if there is one.
    fn find(&self, service: &str) -> Option<Arc<Slot>> {
        self.slots.load().get(service).map(Arc::clone)
    }

    /// The slot of a service, and whether it was made now.
    fn find_or_add(&self, service: &str) -> (Arc<Slot>, bool) {
        // Nothing under the lock panics half-way.
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.find(service) {
            return (slot, false);
        }
        let slot = Arc::new(Slot::new(service));
        let mut slots = HashMap::clone(&self.slots.load());
        slots.insert(service.into(), Arc::clone(&slot));
        self.slots.store(Arc::new(slots));
        (slot, true)
    }

    /// Keeps a slot's subscription open; none if it is not the service's any more.
    fn pin(&self, slot: &Arc<Slot>) -> Option<Pin> {
        // Else it could be taken out between the look and the pin.
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.find(&slot.service)?;
        Arc::ptr_eq(&known, slot).then(|| Pin::new(known))
    }

    /// Takes a slot out, unless somebody has it in use and `unless_used`. Returns whether it is out.
    fn remove(&self, slot: &Arc<Slot>, unless_used: bool) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if unless_used && slot.is_pinned() {
            return false;
        }
        let mut slots = HashMap::clone(&self.slots.load());
        if slots.get(&*slot.service).is_some_and(|known| Arc::ptr_eq(known, slot)) {
            slots.remove(&*slot.service);
            self.slots.store(Arc::new(slots));
        }
        self.account(slot, 0);
        true
    }

    /// A slot takes so much memory now. Returns what all of them take.
    fn account(&self, slot: &Slot, bytes: usize) -> usize {
        let before = slot.bytes.swap(bytes, Ordering::Relaxed);
        // Wraps around where it shrinks; the sum does not.
        let change = bytes.wrapping_sub(before);
        self.bytes.fetch_add(change, Ordering::Relaxed).wrapping_add(change)
    }

    /// Asks the slots that nobody waits for to end, the longest unused first, until so many bytes are free.
    fn evict(&self, mut bytes: usize, but: &Slot) {
        let slots = self.slots.load();
        let idle = |slot: &&Arc<Slot>| !slot.is_pinned() && slot.service != but.service;
        let mut idle: Vec<&Arc<Slot>> = slots.values().filter(idle).collect();
        idle.sort_by_key(|slot| slot.used_at.load(Ordering::Relaxed));
        for slot in idle {
            if bytes == 0 {
                return;
            }
            bytes = bytes.saturating_sub(slot.bytes.load(Ordering::Relaxed));
            slot.evicted.notify_one();
        }
    }
}

impl Client {
    /// The slot of a service; its subscription begins if there is none.
    pub(crate) fn slot(&self, service: &str) -> Result<Arc<Slot>, Error> {
        let registry = self.registry();
        if let Some(slot) = registry.find(service) {
            return Ok(slot);
        }
        check_service(service)?;
        let (slot, new) = registry.find_or_add(service);
        if new {
            self.spawn(follow::follow(self.inner(), Arc::clone(&slot), self.ending()));
        }
        Ok(slot)
    }

    /// The same, kept open.
    fn pinned(&self, service: &str) -> Result<Pin, Error> {
        loop {
            let slot = self.slot(service)?;
            if let Some(pin) = self.registry().pin(&slot) {
                return Ok(pin);
            }
        }
    }

    /// What this client wrote about a service must be seen by its own next [`discover`](Self::discover).
    pub(crate) fn wrote(&self, service: &str, revision: Revision) {
        if let Some(slot) = self.registry().find(service) {
            slot.floor.fetch_max(revision.0, Ordering::AcqRel);
        }
    }

    /// The view of a service as it is known here now; none if this client does not follow the service, or has heard
    /// nothing of it yet. Local and immediate; see [`discover`](Self::discover).
    #[must_use]
    pub fn view(&self, service: impl AsRef<str>) -> Option<Arc<ServiceView>> {
        let slot = self.registry().find(service.as_ref())?;
        slot.touch();
        slot.view.load_full()
    }

    /// The registered instances of a service, by id, read from the server now. A record that cannot be read is left
    /// out and logged. To find services, [`discover`](Self::discover) is quicker and works without a server too.
    ///
    /// # Errors
    /// `InvalidName`, and those of every call.
    pub async fn instances(&self, service: impl AsRef<str>) -> Result<Vec<Instance>, Error> {
        let service = service.as_ref();
        check_service(service)?;
        let reply = self.range(Instance::range_of(service)).await?;
        let read = |entry: Entry| match Instance::from_json(&entry.value) {
            Ok(instance) => Some(Instance { epoch: entry.create_revision, ..instance }),
            Err(refusal) => {
                tracing::warn!(key = %entry.key, %refusal, "a service record that cannot be read is left out");
                None
            }
        };
        Ok(reply.entries.into_iter().filter_map(read).collect())
    }

    /// The services that have instances, and how many, by name.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn services(&self) -> Result<BTreeMap<String, usize>, Error> {
        let reply = self.range(KeyRange::prefix("services/")).keys_only().await?;
        let mut services = BTreeMap::new();
        for entry in reply.entries {
            let key = std::str::from_utf8(entry.key.as_bytes()).unwrap_or_default();
            let mut parts = key.split('/').skip(1);
            if let (Some(service), Some(_), None) = (parts.next(), parts.next(), parts.next()) {
                *services.entry(service.to_owned()).or_default() += 1;
            }
        }
        Ok(services)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_held_is_not_let_go_of_and_one_that_was_let_go_of_is_not_held() {
        let registry = Registry::default();
        let (slot, _) = registry.find_or_add("api");
        let pin = registry.pin(&slot).expect("it is there");
        assert!(!registry.remove(&slot, true));
        drop(pin);
        assert!(registry.remove(&slot, true));
        assert!(registry.pin(&slot).is_none());
        let (another, new) = registry.find_or_add("api");
        assert!(new && registry.pin(&slot).is_none() && registry.pin(&another).is_some());
    }
}
