//! One service as a finder sees it: folds what a watch tells into views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hither_protocol::{Entry, Event, Key, LeaseId, LeaseState, Moment, Revision};

use super::view::{Freshness, Invalid, Ready, ServiceView, Source, ViewState};
use crate::instance::{Instance, Status};
use crate::options::{BEAT_DEFAULT, BEATS_MISSED_MAX};
use crate::update::{Update, UpdateKind};

/// What a record costs in memory beyond its bytes: its fields, their heads, and its places in maps and lists.
const RECORD_BYTES: usize = 512;
/// Fewer than so many instances that fall silent together are no mass: each may well have a reason of its own.
const MASS_MIN: usize = 3;

/// The settings of a roster.
#[derive(Clone, Copy, Debug)]
pub struct RosterOptions {
    /// How long an instance that expired is still shown, as suspect, if it is likelier that the registry lost it than
    /// that it died. See [`Roster`].
    pub hold: Duration,
    /// The shell's clock, for the ages of views.
    pub clock: fn() -> Moment,
}

/// One service as a finder sees it, folded from the updates of one watch.
///
/// An instance that deregisters, or whose client says goodbye, is gone at once. One that falls silent is suspect first
/// and expires later. Expiry takes it out of the view too, but for two cases in which it says more about the registry
/// than about the instance; then the instance stays, suspect, for the time of the *hold*:
///
/// - more than half of the service, and at least three instances, are silent together;
/// - the view itself came back from an outage less than a hold ago: instances may need longer to find the way back.
#[derive(Debug)]
pub struct Roster {
    service: Arc<str>,
    options: RosterOptions,
    beats: Arc<AtomicU64>,
    members: BTreeMap<String, Member>,
    invalid: BTreeMap<Key, (String, usize)>,
    suspects: BTreeSet<LeaseId>,
    holds: BTreeSet<(Moment, String)>,
    revision: Revision,
    bytes: usize,
    connected: bool,
    live: bool,
    /// Both, as of the last look.
    present: bool,
    confirmed: Moment,
    /// Since when it is not confirmed although a server answers.
    resuming_since: Moment,
    /// It was not the present for a while, and has not been since.
    outage: bool,
    /// When the last outage ended.
    returned_at: Option<Moment>,
    begun: bool,
    dirty: bool,
    last: Option<Arc<ServiceView>>,
}

#[derive(Debug)]
struct Member {
    /// As it registered itself.
    record: Arc<Instance>,
    /// As it is shown: suspect, if it is.
    shown: Arc<Instance>,
    lease: Option<LeaseId>,
    held_until: Option<Moment>,
    bytes: usize,
}

/// Why a key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    /// An event says so.
    Told,
    /// It is missing in a state that was compared.
    Missing,
}

impl Roster {
    /// Of a service of which nothing is known yet. `beats`: the moment of the last beat of the client's connection, in
    /// nanoseconds of the clock, which the shell moves.
    #[must_use]
    pub fn new(service: &str, options: RosterOptions, beats: Arc<AtomicU64>) -> Self {
        Self {
            service: service.into(),
            options,
            beats,
            members: BTreeMap::new(),
            invalid: BTreeMap::new(),
            suspects: BTreeSet::new(),
            holds: BTreeSet::new(),
            revision: Revision::ZERO,
            bytes: 0,
            connected: true,
            live: false,
            present: false,
            confirmed: Moment::default(),
            resuming_since: Moment::default(),
            outage: false,
            returned_at: None,
            begun: false,
            dirty: false,
            last: None,
        }
    }

    /// The revision up to which it knows everything that its watch told.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// What it takes in memory, roughly.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The watch told this.
    pub fn handle_update(&mut self, now: Moment, update: &Update) {
        let silent_before = self.suspects.len();
        // Looked at once, at the first who is missing: all of them went together.
        let mut doubt = None;
        match update.kind {
            UpdateKind::Changes => {}
            // Who was silent is not part of a state: whoever still is expires soon.
            UpdateKind::Snapshot => {
                self.suspects.clear();
                let told: BTreeSet<&Key> = update.events.iter().filter_map(Event::key).collect();
                let keys: Vec<Key> = self.keys().filter(|key| !told.contains(key)).collect();
                for key in keys {
                    self.delete(now, &key, Gone::Missing, &mut doubt);
                }
            }
            UpdateKind::Reset => self.suspects.clear(),
        }
        let gone = if update.kind == UpdateKind::Reset { Gone::Missing } else { Gone::Told };
        let mut standing = silent_before > 0 && self.suspects.is_empty();
        for event in &update.events {
            match event {
                Event::Put { entry, .. } => self.put(entry),
                Event::Delete { key, .. } => {
                    self.delete(now, key, gone, &mut doubt);
                    // A lease that nothing hangs on any more is forgotten.
                    standing |= !self.suspects.is_empty();
                }
                Event::Liveness { lease, state, .. } => {
                    standing = true;
                    match state {
                        LeaseState::Alive => self.suspects.remove(lease),
                        LeaseState::Suspect | LeaseState::Expired => self.suspects.insert(*lease),
                    };
                }
            }
        }
        if standing {
            self.show_standing();
        }
        self.revision = self.revision.max(update.revision);
        self.dirty |= !self.begun;
        self.begun = true;
    }

    /// Whether a server answers the client.
    pub fn handle_connected(&mut self, now: Moment, connected: bool) {
        if self.connected != connected {
            self.confirm(now);
            self.connected = connected;
            self.resuming_since = now;
            self.note_outage(now);
        }
    }

    /// Whether the server confirms the watch with every beat.
    pub fn handle_live(&mut self, now: Moment, live: bool) {
        if self.live != live {
            self.confirm(now);
            self.live = live;
            self.resuming_since = now;
            if live {
                self.confirmed = now;
            }
            self.note_outage(now);
        }
    }

    /// Up to now the beats confirmed it, if anything did.
    fn confirm(&mut self, now: Moment) {
        if self.live && self.connected {
            let beat = Moment(self.beats.load(Ordering::Acquire));
            self.confirmed = self.confirmed.max(beat).min(now);
        }
    }

    fn note_outage(&mut self, now: Moment) {
        let present = self.live && self.connected;
        if present && std::mem::take(&mut self.outage) {
            self.returned_at = Some(now);
        }
        self.outage |= self.begun && self.present && !present;
        self.present = present;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let hold = self.holds.first().map(|(until, _)| *until);
        let stale = (self.connected && !self.live).then(|| self.stale_at());
        let shown = self.last.as_ref().map(|view| view.state);
        hold.into_iter().chain(stale.filter(|_| shown == Some(ViewState::Resuming))).min()
    }

    /// Time has passed: holds end.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some((_, id)) = self.holds.first().filter(|(until, _)| *until <= now).cloned() {
            self.remove(&id);
            self.dirty = true;
        }
    }

    /// The view to publish, if it is another than the last one.
    pub fn poll_view(&mut self, now: Moment) -> Option<Arc<ServiceView>> {
        let state = self.state(now);
        let same = self.last.as_ref().is_some_and(|view| view.state == state);
        if !self.begun || same && !self.dirty {
            return None;
        }
        self.dirty = false;
        self.confirm(now);
        let current = state == ViewState::Synced;
        let freshness = Freshness::new(self.options.clock, Arc::clone(&self.beats), self.confirmed, current);
        let instances: Arc<[_]> = self.members.values().map(|member| Arc::clone(&member.shown)).collect();
        let invalid =
            self.invalid.iter().map(|(key, (reason, _))| Invalid { key: key.clone(), reason: reason.clone() });
        let view = Arc::new(ServiceView {
            service: Arc::clone(&self.service),
            revision: self.revision,
            state,
            source: Source::Live,
            ready: Arc::new(Ready::of(instances.iter())),
            instances,
            invalid: invalid.collect(),
            freshness: Arc::new(freshness),
        });
        if let Some(before) = self.last.replace(Arc::clone(&view)) {
            before.freshness.seal();
        }
        Some(view)
    }

    fn state(&self, now: Moment) -> ViewState {
        match (self.connected, self.live) {
            (false, _) => ViewState::Offline,
            (true, true) => ViewState::Synced,
            (true, false) if now >= self.stale_at() => ViewState::Stale,
            (true, false) => ViewState::Resuming,
        }
    }

    fn stale_at(&self) -> Moment {
        self.resuming_since + BEAT_DEFAULT * BEATS_MISSED_MAX
    }

    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.members.values().map(|member| member.record.key()).chain(self.invalid.keys().cloned())
    }

    fn put(&mut self, entry: &Entry) {
        let bytes = entry.key.0.len() + entry.value.len() + RECORD_BYTES;
        if let Some((_, bytes)) = self.invalid.remove(&entry.key) {
            self.bytes -= bytes;
            self.dirty = true;
        }
        let mut instance = match read(entry) {
            Ok(instance) => instance,
            Err(reason) => {
                // What stood there before does not stand there now.
                if let Some(id) = self.id_of(&entry.key) {
                    self.remove(&id);
                }
                self.bytes += bytes;
                self.invalid.insert(entry.key.clone(), (reason, bytes));
                self.dirty = true;
                return;
            }
        };
        instance.epoch = entry.create_revision;
        let before = self.members.get(&instance.id).filter(|member| *member.record == instance);
        let record = before.map_or_else(|| Arc::new(instance), |member| Arc::clone(&member.record));
        let shown = match before {
            Some(member) if (member.lease, member.held_until) == (entry.lease, None) => Arc::clone(&member.shown),
            _ => self.shown(&record, entry.lease),
        };
        self.dirty |= before.is_none_or(|member| member.shown != shown);
        let id = record.id.clone();
        self.remove(&id);
        self.bytes += bytes;
        self.members.insert(id, Member { record, shown, lease: entry.lease, held_until: None, bytes });
    }

    fn shown(&self, record: &Arc<Instance>, lease: Option<LeaseId>) -> Arc<Instance> {
        if lease.is_some_and(|lease| self.suspects.contains(&lease)) { suspect(record) } else { Arc::clone(record) }
    }

    fn delete(&mut self, now: Moment, key: &Key, gone: Gone, doubt: &mut Option<Moment>) {
        if let Some((_, bytes)) = self.invalid.remove(key) {
            self.bytes -= bytes;
            self.dirty = true;
            return;
        }
        let Some(id) = self.id_of(key) else { return };
        let Some(member) = self.members.get(&id).filter(|member| member.held_until.is_none()) else { return };
        let silent = member.lease.is_some_and(|lease| self.suspects.contains(&lease));
        self.dirty = true;
        let doubtful = silent || gone == Gone::Missing;
        let until = if doubtful { *doubt.get_or_insert_with(|| self.doubtful_until(now)) } else { now };
        if until <= now {
            self.remove(&id);
        } else if let Some(member) = self.members.get_mut(&id) {
            member.shown = suspect(&member.record);
            member.held_until = Some(until);
            member.lease = None;
            self.holds.insert((until, id));
        }
    }

    /// Until when silence says more about the registry than about who is silent.
    fn doubtful_until(&self, now: Moment) -> Moment {
        // What a state that was compared lacks may be lacking since the outage, of which nobody told yet.
        let returned = if self.present { self.returned_at } else { self.begun.then_some(now) };
        let is_silent = |member: &&Member| {
            member.held_until.is_some() || member.lease.is_some_and(|lease| self.suspects.contains(&lease))
        };
        let silent = self.members.values().filter(is_silent).count();
        let mass = silent >= MASS_MIN && silent * 2 > self.members.len();
        let since = if mass { Some(now) } else { returned };
        since.map_or(now, |since| since + self.options.hold)
    }

    fn remove(&mut self, id: &str) {
        if let Some(member) = self.members.remove(id) {
            self.bytes -= member.bytes;
            if let Some(until) = member.held_until {
                self.holds.remove(&(until, id.to_owned()));
            }
        }
    }

    /// Shows as suspect who is, and no longer who is not.
    fn show_standing(&mut self) {
        let mut used = BTreeSet::new();
        for member in self.members.values_mut().filter(|member| member.held_until.is_none()) {
            let silent = member.lease.filter(|lease| self.suspects.contains(lease));
            used.extend(silent);
            let was_silent = member.shown.status == Status::Suspect;
            if silent.is_some() != was_silent {
                member.shown = if was_silent { Arc::clone(&member.record) } else { suspect(&member.record) };
                self.dirty = true;
            }
        }
        self.suspects = used;
    }

    fn id_of(&self, key: &Key) -> Option<String> {
        let text = std::str::from_utf8(key.as_bytes()).ok()?;
        let rest = text.strip_prefix("services/")?.strip_prefix(&*self.service)?;
        rest.strip_prefix('/').map(str::to_owned)
    }
}

impl Drop for Roster {
    /// Nothing is told any more, for whatever reason: views that are still held grow old, also where others are confirmed.
    fn drop(&mut self) {
        if let Some(last) = &self.last {
            last.freshness.seal();
        }
    }
}

fn suspect(record: &Instance) -> Arc<Instance> {
    Arc::new(Instance { status: Status::Suspect, ..record.clone() })
}

fn read(entry: &Entry) -> Result<Instance, String> {
    let instance = Instance::from_json(&entry.value).map_err(|refusal| refusal.detail)?;
    if instance.key() == entry.key {
        return Ok(instance);
    }
    Err(format!("the record is that of {}", instance.key()))
}
