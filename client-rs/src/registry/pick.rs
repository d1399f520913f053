//! Picking one instance.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use hither_client_core::{Error, Instance, InstanceFilter, NoInstances, ServiceView};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::slot::Slot;
use crate::client::Client;

impl Client {
    /// Picks an instance of a service out of its view: local, immediate, and never waiting. The first pick of a
    /// service that this client does not follow yet begins to, and fails; [`discover`](Self::discover) or
    /// [`wait_for`](Self::wait_for) before it waits.
    ///
    /// ```no_run
    /// # async fn example(client: hither::Client) -> Result<(), hither::Error> {
    /// use hither::Pick;
    /// client.wait_for("api", 1).await?;
    /// let instance = client.pick("api", &Pick::round_robin())?;
    /// println!("ask {:?}", instance.url());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `NoInstances`, whose detail and [`Error::no_instances`] say what is known; `InvalidName`; what ended the
    /// subscription.
    pub fn pick(&self, service: impl AsRef<str>, pick: &Pick) -> Result<Arc<Instance>, Error> {
        self.pick_besides(service, pick, &[] as &[&str])
    }

    /// As [`pick`](Self::pick), but passes over the instances with these ids as long as there is another: for a request
    /// that failed there and is tried elsewhere.
    ///
    /// # Errors
    /// Those of [`pick`](Self::pick).
    pub fn pick_besides(
        &self,
        service: impl AsRef<str>,
        pick: &Pick,
        besides: &[impl AsRef<str>],
    ) -> Result<Arc<Instance>, Error> {
        let is_other = |instance: &Instance| besides.iter().all(|id| id.as_ref() != instance.id);
        pick.from(&*self.slot(service.as_ref())?, is_other)
    }
}

/// How to pick: in turn or at random, among all instances or some. Those that want traffic are picked (passing or
/// warning, with a weight above 0); if there are none, those that are merely suspect are tried.
///
/// Keep it and use it again: with a filter it remembers what the filter let through.
#[derive(Debug)]
pub struct Pick {
    policy: Policy,
    filter: InstanceFilter,
    /// The next turn; before the first one it is taken from the service, so that many short-lived picks take turns too.
    turn: AtomicU64,
    filtered: ArcSwapOption<Filtered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    RoundRobin,
    Random,
}

/// A view as it was, and what a filter let through.
#[derive(Debug)]
struct Filtered {
    of: Arc<ServiceView>,
    view: ServiceView,
}

/// No turn was taken yet.
const UNBEGUN: u64 = u64::MAX;

impl Pick {
    const fn new(policy: Policy, filter: InstanceFilter) -> Self {
        Self { policy, filter, turn: AtomicU64::new(UNBEGUN), filtered: ArcSwapOption::const_empty() }
    }

    /// One after the other, weights aside.
    #[must_use]
    pub fn round_robin() -> Self {
        Self::new(Policy::RoundRobin, InstanceFilter::default())
    }

    /// At random: of two, that of twice the weight is picked twice as often.
    #[must_use]
    pub fn random() -> Self {
        Self::new(Policy::Random, InstanceFilter::default())
    }

    /// Only among these.
    #[must_use]
    pub fn filter(self, filter: InstanceFilter) -> Self {
        Self::new(self.policy, filter)
    }

    pub(super) fn from(&self, slot: &Slot, is_wanted: impl Fn(&Instance) -> bool) -> Result<Arc<Instance>, Error> {
        slot.touch();
        let guard = slot.view.load();
        let Some(view) = &*guard else { return Err(unknown(slot)) };
        if self.filter.is_all() {
            return self.one_of(slot, view, is_wanted);
        }
        let known = self.filtered.load();
        match &*known {
            Some(filtered) if Arc::ptr_eq(&filtered.of, view) => self.one_of(slot, &filtered.view, is_wanted),
            _ => {
                let filtered = Filtered { of: Arc::clone(view), view: view.filtered(&self.filter) };
                let picked = self.one_of(slot, &filtered.view, is_wanted);
                self.filtered.store(Some(Arc::new(filtered)));
                picked
            }
        }
    }

    fn one_of(
        &self,
        slot: &Slot,
        view: &ServiceView,
        is_wanted: impl Fn(&Instance) -> bool,
    ) -> Result<Arc<Instance>, Error> {
        let picked = match self.policy {
            Policy::RoundRobin => view.turn(self.next_turn(slot)),
            Policy::Random => view.draw(random()),
        };
        let picked = picked.ok_or_else(|| view.nobody())?;
        if is_wanted(picked) {
            return Ok(Arc::clone(picked));
        }
        // From a place drawn anew, so that one that fails does not double the load of a single other.
        let candidates = view.candidates();
        let from = usize::try_from(random()).unwrap_or_default() % candidates.len();
        let (before, after) = candidates.split_at(from);
        Ok(Arc::clone(after.iter().chain(before).find(|other| is_wanted(other)).unwrap_or(picked)))
    }

    fn next_turn(&self, slot: &Slot) -> u64 {
        if self.turn.load(Ordering::Relaxed) == UNBEGUN {
            let turn = slot.turn.fetch_add(1, Ordering::Relaxed);
            // Whoever comes second goes on from there.
            let begun = self.turn.compare_exchange(UNBEGUN, turn + 1, Ordering::Relaxed, Ordering::Relaxed);
            if begun.is_ok() {
                return turn;
            }
        }
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl Clone for Pick {
    fn clone(&self) -> Self {
        Self::new(self.policy, self.filter.clone())
    }
}

fn unknown(slot: &Slot) -> Error {
    match slot.listen().borrow().end.as_ref().and_then(super::discover::ended) {
        Some(error) => error,
        None => NoInstances { service: Arc::clone(&slot.service), known: 0, suspect: 0, age: None }.into(),
    }
}

/// A number as likely as any other. Every thread has its own sequence, so that none waits for another.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(SmallRng::from_os_rng().next_u64());
    }
    // SplitMix64 (Steele, Lea, Flood): as even as load needs it, and a few instructions.
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}
