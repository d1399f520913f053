//! Views of a service on one clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hither_client_core::{Delta, Instance, Roster, RosterOptions, ServiceView, Status, Update, UpdateKind, ViewState};
use hither_protocol::{Entry, Event, LeaseId, LeaseState, Moment, Previous, Revision, Version};

/// What the views of this test take for now: none of them asks for an age but where it says so.
static NOW: AtomicU64 = AtomicU64::new(0);
const HOLD: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    roster: Roster,
    beats: Arc<AtomicU64>,
    now: Moment,
    revision: u64,
    view: Option<Arc<ServiceView>>,
}

impl World {
    /// A view that has told its first state.
    fn with(ids: &[&str]) -> Self {
        let beats = Arc::new(AtomicU64::new(0));
        let options = RosterOptions { hold: HOLD, clock: || Moment(NOW.load(Ordering::SeqCst)) };
        let roster = Roster::new("api", options, Arc::clone(&beats));
        let mut world = Self { roster, beats, now: Moment(1_000_000_000), revision: 0, view: None };
        let entries: Vec<Event> = ids.iter().map(|id| world.put(id, |_| {})).collect();
        world.tell(UpdateKind::Snapshot, entries);
        world.live(true);
        world
    }

    fn put(&mut self, id: &str, change: impl FnOnce(&mut Instance)) -> Event {
        self.revision += 1;
        let mut instance = Instance::new("api", id);
        change(&mut instance);
        put(&instance.key().to_string(), &instance.to_json(), self.revision, Some(lease(id)))
    }

    fn delete(&mut self, id: &str) -> Event {
        self.revision += 1;
        let (key, revision) = (Instance::key_of("api", id), Revision(self.revision));
        Event::Delete { key, revision, previous: Previous::NotAsked }
    }

    fn liveness(&mut self, id: &str, state: LeaseState) -> Event {
        self.revision += 1;
        Event::Liveness { lease: lease(id), state, revision: Revision(self.revision) }
    }

    /// Tells events. Returns what that changes, if there is another view.
    fn tell(&mut self, kind: UpdateKind, events: Vec<Event>) -> Option<Delta> {
        let update = Update { revision: Revision(self.revision), kind, events, folded: false };
        self.roster.handle_update(self.now, &update);
        self.look()
    }

    fn change(&mut self, events: Vec<Event>) -> Option<Delta> {
        self.tell(UpdateKind::Changes, events)
    }

    fn live(&mut self, live: bool) -> Option<Delta> {
        self.roster.handle_live(self.now, live);
        self.look()
    }

    fn look(&mut self) -> Option<Delta> {
        let view = self.roster.poll_view(self.now)?;
        let before = self.view.replace(Arc::clone(&view));
        let before = before.map(|view| Arc::clone(&view.instances)).unwrap_or_default();
        Some(Delta::between(&before, &view.instances))
    }

    fn sleep(&mut self, duration: Duration) -> Option<Delta> {
        let until = self.now + duration;
        while let Some(at) = self.roster.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.roster.handle_timeout(at);
            if let Some(delta) = self.look() {
                return Some(delta);
            }
        }
        self.now = until;
        self.roster.handle_timeout(until);
        self.look()
    }

    fn view(&self) -> &ServiceView {
        self.view.as_ref().expect("a view")
    }

    fn shown(&self) -> Vec<String> {
        self.view().instances.iter().map(|of| format!("{} {}", of.id, of.status)).collect()
    }

    /// A process dies: it is suspect, then it expires.
    fn expire(&mut self, ids: &[&str]) {
        let suspects = ids.iter().map(|id| self.liveness(id, LeaseState::Suspect)).collect();
        self.change(suspects);
        self.now = self.now + SECOND * 9;
        let gone = ids.iter().map(|id| self.delete(id)).collect();
        self.change(gone);
    }
}

fn lease(id: &str) -> LeaseId {
    LeaseId(id.bytes().map(u64::from).sum())
}

fn put(key: &str, value: &str, revision: u64, lease: Option<LeaseId>) -> Event {
    let entry = Entry {
        key: key.into(),
        value: value.to_owned().into(),
        create_revision: Revision(1),
        mod_revision: Revision(revision),
        version: Version(1),
        lease,
    };
    Event::Put { entry, previous: Previous::NotAsked }
}

fn ids(instances: &[Arc<Instance>]) -> Vec<&str> {
    instances.iter().map(|instance| instance.id.as_str()).collect()
}

#[test]
fn nothing_is_shown_before_the_first_state_and_an_empty_one_is_shown() {
    let mut roster = World::with(&[]);
    assert!(roster.view().is_empty());
    assert_eq!(roster.view().state, ViewState::Synced);
    let options = RosterOptions { hold: HOLD, clock: Moment::default };
    let mut fresh = Roster::new("api", options, Arc::default());
    fresh.handle_live(Moment(1), false);
    assert!(fresh.poll_view(Moment(1)).is_none());
    assert!(roster.look().is_none(), "an identical view is not told");
}

#[test]
fn each_view_has_a_larger_revision_and_differs_by_exactly_what_happened() {
    let mut world = World::with(&["a", "b"]);
    let first = world.view().revision;
    let events = vec![world.put("c", |_| {}), world.put("b", |of| of.zone = "z".into()), world.delete("a")];
    let delta = world.change(events).expect("a change");
    assert_eq!((ids(&delta.added), ids(&delta.changed), ids(&delta.removed)), (vec!["c"], vec!["b"], vec!["a"]));
    assert!(world.view().revision > first);
    assert_eq!(ids(&world.view().instances), ["b", "c"]);
    assert!(world.view().get("c").is_some() && world.view().get("a").is_none());
}

#[test]
fn a_record_that_is_written_again_as_it_was_changes_nothing() {
    let mut world = World::with(&["a"]);
    let same = world.put("a", |_| {});
    assert_eq!(world.change(vec![same]), None);
    assert_eq!(world.roster.revision(), Revision(world.revision), "but it is known to be that far");
    let (there, gone) = (world.put("x", |_| {}), world.delete("x"));
    let delta = world.change(vec![there, gone]);
    assert!(delta.is_none_or(|delta| delta.is_empty()), "what cancels out is no change");
}

#[test]
fn a_record_that_cannot_be_read_is_shown_as_such_and_hides_no_other() {
    let mut world = World::with(&["a", "b"]);
    world.revision += 3;
    let elsewhere = Instance::new("other", "d").to_json();
    world.change(vec![
        put("services/api/b", "{", 10, None),
        put("services/api/c", r#"{"schema":1,"service":"api","id":"c","weight":-1}"#, 11, None),
        put("services/api/d", &elsewhere, 12, None),
    ]);
    let invalid = &world.view().invalid;
    assert_eq!(ids(&world.view().instances), ["a"]);
    let keys: Vec<String> = invalid.iter().map(|invalid| invalid.key.to_string()).collect();
    assert_eq!(keys, ["services/api/b", "services/api/c", "services/api/d"]);
    assert!(invalid[1].reason.contains("weight") || invalid[1].reason.contains("-1"), "{}", invalid[1].reason);
    assert!(invalid[2].reason.contains("services/other/d"), "{}", invalid[2].reason);
    let (good, gone) = (world.put("b", |_| {}), world.delete("d"));
    world.change(vec![good, gone]);
    assert_eq!((ids(&world.view().instances), world.view().invalid.len()), (vec!["a", "b"], 1));
}

#[test]
fn who_is_silent_is_suspect_and_takes_no_traffic_while_others_do() {
    let mut world = World::with(&["a", "b"]);
    let suspect = world.liveness("a", LeaseState::Suspect);
    let delta = world.change(vec![suspect]).expect("a change");
    assert_eq!((ids(&delta.changed), world.view().suspect()), (vec!["a"], 1));
    assert_eq!(world.shown(), ["a suspect", "b passing"]);
    assert!((0..10).all(|turn| world.view().turn(turn).is_some_and(|of| of.id == "b")));
    let suspect = world.liveness("b", LeaseState::Suspect);
    world.change(vec![suspect]);
    assert_eq!(world.view().working(), 0);
    assert!(world.view().turn(0).is_some(), "better one that is silent than none");
    let alive = world.liveness("a", LeaseState::Alive);
    world.change(vec![alive]);
    assert_eq!(world.shown(), ["a passing", "b suspect"]);
    // The record says what it is once the lease does not say more.
    let drains = world.put("b", |of| of.status = Status::Draining);
    world.change(vec![drains]);
    assert_eq!(world.shown(), ["a passing", "b suspect"]);
    let alive = world.liveness("b", LeaseState::Alive);
    world.change(vec![alive]);
    assert_eq!(world.shown(), ["a passing", "b draining"]);
}

#[test]
fn one_that_expires_is_gone_and_so_is_one_that_leaves() {
    let mut world = World::with(&["a", "b", "c", "d", "e"]);
    world.expire(&["a"]);
    assert_eq!(ids(&world.view().instances), ["b", "c", "d", "e"]);
    let all = ["b", "c", "d"].map(|id| world.delete(id));
    world.change(all.into());
    assert_eq!(ids(&world.view().instances), ["e"], "who says goodbye is gone, however many they are");
}

#[test]
fn when_most_fall_silent_together_they_stay_as_suspects_for_a_while() {
    let mut world = World::with(&["a", "b", "c", "d", "e"]);
    world.expire(&["a", "b", "c", "d"]);
    assert_eq!(world.shown(), ["a suspect", "b suspect", "c suspect", "d suspect", "e passing"]);
    // One of them is declared again, one is not.
    let back = world.put("a", |_| {});
    let delta = world.change(vec![back]).expect("a change");
    assert_eq!(ids(&delta.changed), ["a"]);
    let delta = world.sleep(HOLD + SECOND).expect("the end of the hold");
    assert_eq!(ids(&delta.removed), ["b", "c", "d"]);
    assert_eq!(world.shown(), ["a passing", "e passing"]);
}

#[test]
fn after_an_outage_who_expires_stays_until_there_was_time_to_come_back() {
    let mut world = World::with(&["a"]);
    world.live(false);
    assert_eq!(world.view().state, ViewState::Resuming);
    world.sleep(SECOND * 3);
    assert_eq!(world.view().state, ViewState::Stale);
    world.roster.handle_connected(world.now, false);
    world.look();
    assert_eq!((world.view().state, world.view().len()), (ViewState::Offline, 1));
    world.sleep(SECOND * 3_600);
    world.roster.handle_connected(world.now, true);
    world.live(true);
    assert_eq!(world.view().state, ViewState::Synced);
    world.expire(&["a"]);
    assert_eq!(world.shown(), ["a suspect"], "no callback shows an empty service");
    let back = world.put("a", |_| {});
    world.change(vec![back]);
    assert_eq!(world.shown(), ["a passing"]);
    world.sleep(HOLD);
    assert_eq!(world.shown(), ["a passing"]);
    world.expire(&["a"]);
    assert!(world.view().is_empty(), "the outage is over");
}

#[test]
fn a_reset_is_told_as_the_difference_and_doubts_nobody() {
    let mut world = World::with(&["a", "b"]);
    let suspect = world.liveness("a", LeaseState::Suspect);
    world.change(vec![suspect]);
    let (new, gone) = (world.put("c", |_| {}), world.delete("b"));
    let delta = world.tell(UpdateKind::Reset, vec![new, gone]).expect("a change");
    assert_eq!(
        (ids(&delta.added), ids(&delta.changed)),
        (vec!["c"], vec!["a"]),
        "who is silent is not part of a state"
    );
    assert_eq!(ids(&delta.removed), ["b"]);
    let rest = vec![world.put("c", |_| {})];
    let delta = world.tell(UpdateKind::Snapshot, rest).expect("a change");
    assert_eq!(ids(&delta.removed), ["a"]);
}

#[test]
fn beats_keep_a_view_young_and_without_them_it_ages() {
    let mut world = World::with(&["a"]);
    let at = |moment: Moment| NOW.store(moment.0, Ordering::SeqCst);
    let old = Arc::clone(world.view.as_ref().expect("a view"));
    let begun = world.now;
    world.beats.store((begun + SECOND * 5).0, Ordering::SeqCst);
    at(begun + SECOND * 6);
    assert_eq!(old.age(), SECOND);
    world.now = begun + SECOND * 6;
    world.live(false);
    world.beats.store((begun + SECOND * 9).0, Ordering::SeqCst);
    at(begun + SECOND * 10);
    assert_eq!((world.view().age(), old.age()), (SECOND * 5, SECOND * 5), "beats speak of others now");
}

#[test]
fn a_view_of_which_nothing_is_told_any_more_ages_though_others_are_confirmed() {
    let at = |seconds: u32| Moment::default() + SECOND * seconds;
    let beats = Arc::new(AtomicU64::new(0));
    let options = RosterOptions { hold: HOLD, clock: || Moment::default() + SECOND * 10 };
    let mut roster = Roster::new("api", options, Arc::clone(&beats));
    let update = Update { revision: Revision(1), kind: UpdateKind::Snapshot, events: vec![], folded: false };
    roster.handle_update(at(1), &update);
    roster.handle_live(at(1), true);
    let view = roster.poll_view(at(1)).expect("a view");
    beats.store(at(4).0, Ordering::SeqCst);
    drop(roster);
    beats.store(at(9).0, Ordering::SeqCst);
    assert_eq!(view.age(), SECOND * 6);
}

#[test]
fn a_weight_is_a_share_and_none_takes_none() {
    let mut world = World::with(&[]);
    let events = vec![
        world.put("a", |of| of.weight = 0),
        world.put("b", |of| of.weight = 1),
        world.put("c", |of| of.weight = 3),
    ];
    world.change(events);
    let view = world.view();
    let drawn = (0..1_000_u64).map(|part| view.draw(u64::MAX / 1_000 * part).expect("one").id.clone());
    let b = drawn.filter(|id| id == "b").count();
    assert!((249..=251).contains(&b), "{b}");
    let even = World::with(&["a", "b", "c", "d"]);
    let drawn = (0..1_000_u64).map(|part| even.view().draw(u64::MAX / 1_000 * part).expect("one").id.clone());
    assert!((249..=251).contains(&drawn.filter(|id| id == "c").count()), "the same weight is the same share");
    assert_eq!(view.draw(u64::MAX).map(|of| of.id.as_str()), Some("c"));
    assert!((0..10).all(|turn| view.turn(turn).is_some_and(|of| of.id != "a")));
}
