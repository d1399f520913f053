//! What is known of a service at one moment, and what differs between two moments.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hither_protocol::{ErrorCode, Key, Moment, Revision};

use crate::error::Error;
use crate::instance::{Instance, Status};
use crate::registry::InstanceFilter;

/// What is known of a service: a snapshot that never changes. Cheap to clone and share.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// The service.
    pub service: Arc<str>,
    /// The revision of the newest change in it.
    pub revision: Revision,
    /// Whether this is the present.
    pub state: ViewState,
    /// Where it comes from.
    pub source: Source,
    /// The instances, by id.
    pub instances: Arc<[Arc<Instance>]>,
    /// Records that cannot be read, by key.
    pub invalid: Arc<[Invalid]>,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) ready: Arc<Ready>,
}

/// A record that cannot be read. Shown, so that a service does not lack instances without anyone knowing why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its key.
    pub key: Key,
    /// What is wrong with it.
    pub reason: String,
}

/// Whether a view is the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViewState {
    /// A server confirms with every beat that nothing is missing.
    Synced,
    /// A server answers, and what happened meanwhile is being caught up with.
    Resuming,
    /// A server answers, but has not confirmed the view for three beats or more.
    Stale,
    /// No server answers: this is what was known last.
    Offline,
}

impl ViewState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Resuming => "resuming",
            Self::Stale => "stale",
            Self::Offline => "offline",
        }
    }
}

/// Where a view comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A subscription at a server.
    Live,
}

impl Source {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
        }
    }
}

/// Until when a view was known to be the present. The shell moves it; the views of one subscription share the beats.
#[derive(Debug)]
pub struct Freshness {
    clock: fn() -> Moment,
    beats: Arc<AtomicU64>,
    confirmed: AtomicU64,
    current: AtomicBool,
}

impl Freshness {
    /// Of a view that was the present at `confirmed`. If it is `current`, every beat confirms it anew; `beats` is the
    /// moment of the last one, in nanoseconds of `clock`.
    #[must_use]
    pub const fn new(clock: fn() -> Moment, beats: Arc<AtomicU64>, confirmed: Moment, current: bool) -> Self {
        Self { clock, beats, confirmed: AtomicU64::new(confirmed.0), current: AtomicBool::new(current) }
    }

    /// The last moment at which it was known to be the present.
    #[must_use]
    pub fn confirmed(&self) -> Moment {
        let confirmed = self.confirmed.load(Ordering::Acquire);
        if self.current.load(Ordering::Acquire) {
            return Moment(confirmed.max(self.beats.load(Ordering::Acquire)));
        }
        Moment(confirmed)
    }

    /// Another view took its place, or nobody confirms it any more: from now on it grows old.
    pub fn seal(&self) {
        let confirmed = self.confirmed();
        self.confirmed.store(confirmed.0, Ordering::Release);
        self.current.store(false, Ordering::Release);
    }

    fn age(&self) -> Duration {
        (self.clock)().since(self.confirmed())
    }
}

/// What a balancer picks from: those that want traffic, or, if there are none, those that are merely silent. It is
/// better to try one of these than to fail without trying.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    pub(crate) instances: Vec<Arc<Instance>>,
    /// The sum of weights up to and with each; empty if all weigh the same.
    pub(crate) weights: Vec<u64>,
    pub(crate) working: usize,
    pub(crate) suspect: usize,
}

impl Ready {
    pub(crate) fn of<'a>(instances: impl Iterator<Item = &'a Arc<Instance>> + Clone) -> Self {
        let takes = |instance: &&Arc<Instance>| instance.weight > 0;
        let works = |instance: &&Arc<Instance>| matches!(instance.status, Status::Passing | Status::Warning);
        let silent = |instance: &&Arc<Instance>| instance.status == Status::Suspect;
        let suspect = instances.clone().filter(silent).count();
        let mut chosen: Vec<Arc<Instance>> = instances.clone().filter(takes).filter(works).cloned().collect();
        let working = chosen.len();
        if working == 0 {
            chosen = instances.filter(takes).filter(silent).cloned().collect();
        }
        let even = chosen.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let mut sum = 0;
        let weights = chosen.iter().filter(|_| !even).map(|instance| {
            sum += u64::from(instance.weight);
            sum
        });
        Self { weights: weights.collect(), instances: chosen, working, suspect }
    }
}

impl ServiceView {
    /// How long ago it was last known to be the present.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.freshness.age()
    }

    /// Whether there are no instances in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// How many instances are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// The instance of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Instance>> {
        let found = self.instances.binary_search_by(|instance| instance.id.as_str().cmp(id)).ok()?;
        self.instances.get(found)
    }

    /// How many of its instances work: passing or warning, with a weight above 0.
    #[must_use]
    pub fn working(&self) -> usize {
        self.ready.working
    }

    /// How many of its instances are suspect.
    #[must_use]
    pub fn suspect(&self) -> usize {
        self.ready.suspect
    }

    /// Those to choose from, by id: the instances that work or, if there are none, those that are merely silent.
    #[must_use]
    pub fn candidates(&self) -> &[Arc<Instance>] {
        &self.ready.instances
    }

    /// The instance whose turn it is: one after the other among those that want traffic, or, if there are none, among
    /// those that are merely silent. `number`: which turn.
    #[must_use]
    pub fn turn(&self, number: u64) -> Option<&Arc<Instance>> {
        let instances = &self.ready.instances;
        let count = u64::try_from(instances.len()).ok().filter(|count| *count > 0)?;
        instances.get(usize::try_from(number % count).ok()?)
    }

    /// One of the same instances, drawn with `random`, which is any number as likely as any other. The larger its
    /// weight, the likelier it is drawn.
    #[must_use]
    pub fn draw(&self, random: u64) -> Option<&Arc<Instance>> {
        let Ready { instances, weights, .. } = &*self.ready;
        // The upper half of the product: as even as a remainder, and cheaper.
        let below = |sum: u64| usize::try_from((u128::from(random) * u128::from(sum)) >> 64).ok();
        let Some(sum) = weights.last() else {
            return instances.get(below(u64::try_from(instances.len()).ok()?)?);
        };
        let at = u64::try_from(below(*sum)?).ok()?;
        instances.get(weights.partition_point(|weight| *weight <= at))
    }

    /// The error of one who finds nobody in it to talk to.
    #[must_use]
    pub fn nobody(&self) -> Error {
        NoInstances {
            service: Arc::clone(&self.service),
            known: self.len(),
            suspect: self.suspect(),
            age: Some(self.age()),
        }
        .into()
    }

    /// The same with only the instances that a filter lets through.
    #[must_use]
    pub fn filtered(&self, filter: &InstanceFilter) -> Self {
        if filter.is_all() {
            return self.clone();
        }
        let instances: Arc<[_]> = self.instances.iter().filter(|instance| filter.matches(instance)).cloned().collect();
        let ready = Arc::new(Ready::of(instances.iter()));
        Self { instances, ready, ..self.clone() }
    }
}

/// Why there is no instance to talk to: the source of an error with the code `NoInstances`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoInstances {
    /// The service.
    pub service: Arc<str>,
    /// Instances that are known, such as draining ones; after a filter, those that it let through.
    pub known: usize,
    /// How many of these are suspect.
    pub suspect: usize,
    /// The age of that knowledge; none if nothing is known of the service yet.
    pub age: Option<Duration>,
}

impl fmt::Display for NoInstances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, known, suspect, age } = self;
        match age {
            None => write!(f, "nothing is known of {service} yet: discover it, or wait for it, first"),
            Some(_) if *known == 0 => write!(f, "{service} has no instances"),
            Some(_) => write!(f, "none of the {known} instances of {service} wants traffic"),
        }?;
        write!(f, " (known {known}, suspect {suspect}")?;
        age.map_or(Ok(()), |age| write!(f, ", age {} ms", age.as_millis()))?;
        f.write_str(")")
    }
}

impl std::error::Error for NoInstances {}

impl From<NoInstances> for Error {
    fn from(none: NoInstances) -> Self {
        Self::caused_by(ErrorCode::NoInstances, none.to_string(), none)
    }
}

/// What differs between two views of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Instances that were not there.
    pub added: Vec<Arc<Instance>>,
    /// Instances that were there and are different, as they are now.
    pub changed: Vec<Arc<Instance>>,
    /// Instances that are gone, as they were.
    pub removed: Vec<Arc<Instance>>,
}

impl Delta {
    /// From one list of instances to another, both by id.
    #[must_use]
    pub fn between(before: &[Arc<Instance>], after: &[Arc<Instance>]) -> Self {
        let mut delta = Self::default();
        let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
        loop {
            match (old.peek(), new.peek()) {
                (None, None) => return delta,
                (Some(was), Some(is)) if was.id == is.id => {
                    if !Arc::ptr_eq(was, is) && was != is {
                        delta.changed.push(Arc::clone(is));
                    }
                    old.next();
                    new.next();
                }
                (Some(was), is) if is.is_none_or(|is| was.id < is.id) => {
                    delta.removed.push(Arc::clone(was));
                    old.next();
                }
                (_, Some(is)) => {
                    delta.added.push(Arc::clone(is));
                    new.next();
                }
                (Some(_), None) => unreachable!("an instance without a counterpart was removed"),
            }
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}
