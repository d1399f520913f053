//! The lessor against a plain model of its promises, while everything happens at random.

use std::collections::BTreeMap;
use std::time::Duration;

use hither_protocol::message::LeaseKind;
use hither_protocol::{ErrorCode, LeaseId, LeaseState, Moment, SessionId};
use hither_state::{Action, LEASES_PER_PROPOSAL_MAX, PROPOSALS_IN_FLIGHT_MAX};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::world::{CONFIG, Leases, TICK, World, ms};

/// What happens. Leases, sessions and proposals are named by their place among those that exist then.
#[derive(Clone, Debug)]
enum Deed {
    Grant(u64),
    Open(u64),
    Bind(usize, u64),
    Put(&'static str, Option<usize>),
    Delete(&'static str),
    Renew(usize),
    Vouch(usize),
    VouchAll,
    Revoke(usize),
    Close(usize),
    /// Time passes, polled at the latest when the lessor asked for it; proposals wait.
    Live(u64),
    /// Time passes, and everything is let through at once.
    Settle(u64),
    /// Time passes, not polled.
    Stop(u64),
    /// A proposal is applied.
    Land(usize),
    /// A proposal is refused.
    Refuse(usize),
    /// Another leader, or the same one again. What waited is applied before that, or lost.
    Change(bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    // The longest is beyond the wheel.
    let ttl = || select(&[1_000, 1_500, 4_000, 4_000, 900_000][..]);
    let key = || select(&["a", "b", "c"][..]);
    let deed = prop_oneof![
        2 => ttl().prop_map(Deed::Grant),
        2 => ttl().prop_map(Deed::Open),
        3 => (0..3usize, ttl()).prop_map(|(session, ttl)| Deed::Bind(session, ttl)),
        3 => (key(), proptest::option::of(0..6usize)).prop_map(|(key, lease)| Deed::Put(key, lease)),
        1 => key().prop_map(Deed::Delete),
        4 => (0..6usize).prop_map(Deed::Renew),
        3 => (0..3usize).prop_map(Deed::Vouch),
        3 => Just(Deed::VouchAll),
        1 => (0..6usize).prop_map(Deed::Revoke),
        1 => (0..3usize).prop_map(Deed::Close),
        6 => (1..800u64).prop_map(Deed::Live),
        2 => (1..5_000u64).prop_map(Deed::Live),
        4 => (1..1_500u64).prop_map(Deed::Settle),
        1 => (1..800u64).prop_map(Deed::Stop),
        1 => (1..10_000u64).prop_map(Deed::Stop),
        5 => (0..4usize).prop_map(Deed::Land),
        2 => (0..4usize).prop_map(Deed::Refuse),
        1 => any::<bool>().prop_map(Deed::Change),
    ];
    vec(deed, 1..120)
}

/// What a proposal says of its leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Suspect,
    Alive,
    Expired,
}

/// When something was last heard of: leases and sessions by id, one map each.
#[derive(Default)]
struct Model {
    leases: BTreeMap<LeaseId, Moment>,
    sessions: BTreeMap<SessionId, Heard>,
    waiting: Vec<(Verdict, Leases)>,
    polled: Moment,
}

#[derive(Clone, Copy)]
struct Heard {
    at: Moment,
    /// Not only assumed when this leadership began.
    truly: bool,
}

impl Model {
    fn start_afresh(&mut self, now: Moment) {
        self.leases.values_mut().for_each(|heard| *heard = now);
        self.sessions.values_mut().for_each(|heard| *heard = Heard { at: now, truly: false });
        self.polled = now;
    }

    /// Follows what was applied.
    fn follow(&mut self, world: &World) {
        if self.leases.is_empty() {
            self.polled = world.now;
        }
        for lease in world.state.leases(None) {
            self.leases.entry(lease.id).or_insert(world.now);
            if let Some(session) = lease.record.session {
                self.sessions.entry(session).or_insert(Heard { at: world.now, truly: true });
            }
        }
        self.leases.retain(|&lease, _| world.state.lease(lease).is_some());
        self.sessions.retain(|&session, _| world.state.session(session).is_some());
    }

    fn deadline(&self, world: &World, lease: LeaseId) -> Moment {
        let record = world.state.lease(lease).unwrap().record;
        let heard = self.leases[&lease];
        let heard = record.session.map_or(heard, |session| self.sessions[&session].at.max(heard));
        heard + ms(record.ttl_ms)
    }

    fn is_waiting(&self, lease: LeaseId) -> bool {
        self.waiting.iter().any(|(_, leases)| leases.iter().any(|&(waiting, _)| waiting == lease))
    }

    fn is_expiring(&self, lease: LeaseId) -> bool {
        let is_in = |leases: &Leases| leases.iter().any(|&(expiring, _)| expiring == lease);
        self.waiting.iter().any(|(verdict, leases)| *verdict == Verdict::Expired && is_in(leases))
    }

    /// Proposals that may still change something: not those whose leases all ended otherwise.
    fn waiting(&self, verdict: Verdict) -> usize {
        let is_open = |leases: &Leases| leases.iter().any(|(lease, _)| self.leases.contains_key(lease));
        self.waiting.iter().filter(|(of, leases)| *of == verdict && is_open(leases)).count()
    }

    /// What may be proposed of this lease at `now`.
    fn due(&self, world: &World, lease: LeaseId, now: Moment) -> Option<Verdict> {
        let record = world.state.lease(lease).unwrap().record;
        if self.deadline(world, lease) <= now {
            return Some(Verdict::Expired);
        }
        let id = record.session?;
        let session = world.state.session(id).unwrap();
        let is_visible = session.leases().count() > 1 || world.state.lease(id.lease()).unwrap().keys_len() > 0;
        let heard = self.sessions[&id];
        let is_silent = heard.at + CONFIG.silence <= now;
        match record.state {
            LeaseState::Alive if is_silent && is_visible => Some(Verdict::Suspect),
            LeaseState::Suspect if !is_silent && heard.truly => Some(Verdict::Alive),
            _ => None,
        }
    }
}

fn before(now: Moment, time: Duration) -> Moment {
    Moment(now.0 - u64::try_from(time.as_nanos()).unwrap())
}

/// Polls everything, and judges it.
fn poll(world: &mut World, model: &mut Model) -> Result<(), TestCaseError> {
    let now = world.now;
    if now.since(model.polled) > CONFIG.stall && !model.leases.is_empty() {
        model.start_afresh(now);
    }
    model.polled = now;
    for verdict in [Verdict::Expired, Verdict::Suspect, Verdict::Alive] {
        loop {
            let leases = match verdict {
                Verdict::Suspect => world.lessor.poll_suspect(now),
                Verdict::Alive => world.lessor.poll_alive(now),
                Verdict::Expired => world.lessor.poll_expired(now),
            };
            if leases.is_empty() {
                break;
            }
            prop_assert!(leases.len() <= LEASES_PER_PROPOSAL_MAX);
            for &(lease, epoch) in &leases {
                prop_assert!(!model.is_waiting(lease), "{:?} of {:?}, which waits already", verdict, lease);
                prop_assert_eq!(world.standing(lease).map(|(_, epoch)| epoch), Some(epoch));
                let is_due = model.due(world, lease, now) == Some(verdict);
                // A silence may be noticed a tick late.
                let was_heard =
                    verdict == Verdict::Alive && model.due(world, lease, before(now, TICK)) == Some(verdict);
                prop_assert!(is_due || was_heard, "{:?} of {:?}, which is not", verdict, lease);
            }
            model.waiting.push((verdict, leases));
            prop_assert!(model.waiting(verdict) <= PROPOSALS_IN_FLIGHT_MAX);
        }
        let is_full = model.waiting(verdict) == PROPOSALS_IN_FLIGHT_MAX;
        for &lease in model.leases.keys().filter(|&&lease| !is_full && !model.is_waiting(lease)) {
            let is_late = [now, before(now, TICK)].iter().all(|&at| model.due(world, lease, at) == Some(verdict));
            prop_assert!(!is_late, "{:?} of {:?} is late", verdict, lease);
        }
    }
    Ok(())
}

fn land(world: &mut World, model: &mut Model, place: usize) {
    let (verdict, leases) = model.waiting.remove(place);
    world.apply(
        None,
        match verdict {
            Verdict::Suspect => Action::MarkSuspect { leases },
            Verdict::Alive => Action::MarkAlive { leases },
            Verdict::Expired => Action::Expire { leases },
        },
    );
}

/// Time passes, polled when the lessor asked for it.
fn live(world: &mut World, model: &mut Model, millis: u64, is_landing: bool) -> Result<(), TestCaseError> {
    let end = world.now + ms(millis);
    while world.now < end {
        world.now = world.lessor.poll_timeout().unwrap_or(end).max(world.now).min(end);
        poll(world, model)?;
        // What was looked at for one reason may have been due for another.
        poll(world, model)?;
        prop_assert!(world.lessor.poll_timeout().is_none_or(|at| at > world.now), "it would be polled in vain");
        while is_landing && !model.waiting.is_empty() {
            land(world, model, 0);
            model.follow(world);
        }
    }
    Ok(())
}

fn pick<T: Copy>(all: impl Iterator<Item = T>, place: usize) -> Option<T> {
    let all: Vec<T> = all.collect();
    (!all.is_empty()).then(|| all[place % all.len()])
}

fn perform(world: &mut World, model: &mut Model, deed: &Deed) -> Result<(), TestCaseError> {
    let lease = |model: &Model, place| pick(model.leases.keys().copied(), place);
    let session = |model: &Model, place| pick(model.sessions.keys().copied(), place);
    match *deed {
        Deed::Grant(ttl_ms) => drop(world.grant(ttl_ms)),
        Deed::Open(ttl_ms) => drop(world.open(ttl_ms)),
        Deed::Bind(place, ttl_ms) => {
            if let Some(session) = session(model, place) {
                world.bind(session, ttl_ms);
            }
        }
        Deed::Put(key, place) => world.put(key, place.and_then(|place| lease(model, place))),
        Deed::Delete(key) => world.delete(key),
        Deed::Renew(place) => {
            if let Some(lease) = lease(model, place) {
                renew(world, model, lease)?;
            }
        }
        Deed::Vouch(place) => {
            if let Some(session) = session(model, place) {
                vouch(world, model, session)?;
            }
        }
        Deed::VouchAll => {
            for session in model.sessions.keys().copied().collect::<Vec<_>>() {
                vouch(world, model, session)?;
            }
        }
        Deed::Revoke(place) => {
            let is_own = |lease: LeaseId| model.sessions.contains_key(&SessionId(lease.0));
            if let Some(lease) = lease(model, place).filter(|&lease| !is_own(lease)) {
                world.apply(None, Action::LeaseRevoke { lease });
            }
        }
        Deed::Close(place) => {
            if let Some(session) = session(model, place) {
                world.apply(None, Action::SessionClose { session });
            }
        }
        Deed::Live(millis) => live(world, model, millis, false)?,
        Deed::Settle(millis) => live(world, model, millis, true)?,
        Deed::Stop(millis) => {
            world.pass(ms(millis));
            poll(world, model)?;
        }
        Deed::Land(place) => {
            if let Some(place) = pick(0..model.waiting.len(), place) {
                land(world, model, place);
            }
        }
        Deed::Refuse(place) => {
            if let Some(place) = pick(0..model.waiting.len(), place) {
                let (_, leases) = model.waiting.remove(place);
                world.lessor.handle_refused(&leases);
            }
        }
        Deed::Change(is_applied) => {
            world.lessor.resign();
            while is_applied && !model.waiting.is_empty() {
                land(world, model, 0);
            }
            model.waiting.clear();
            world.lessor.take_up(&world.state, world.now);
            model.follow(world);
            model.start_afresh(world.now);
        }
    }
    model.follow(world);
    Ok(())
}

fn renew(world: &mut World, model: &mut Model, lease: LeaseId) -> Result<(), TestCaseError> {
    let kind = world.state.lease(lease).unwrap().record.kind;
    let reply = world.lessor.handle_renew(lease, world.now).map_err(|refusal| refusal.code);
    match (kind, model.is_expiring(lease)) {
        (LeaseKind::Bound, _) => prop_assert_eq!(reply, Err(ErrorCode::InvalidArgument)),
        (LeaseKind::Ttl, true) => prop_assert_eq!(reply, Err(ErrorCode::LeaseNotFound)),
        (LeaseKind::Ttl, false) => {
            prop_assert!(reply.is_ok());
            model.leases.insert(lease, world.now);
        }
    }
    Ok(())
}

fn vouch(world: &mut World, model: &mut Model, session: SessionId) -> Result<(), TestCaseError> {
    let is_alive = !model.is_expiring(session.lease());
    prop_assert_eq!(world.lessor.handle_vouch(session, world.now), is_alive);
    if is_alive {
        model.sessions.insert(session, Heard { at: world.now, truly: true });
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_lease_ends_early_or_late_or_twice_whatever_happens(deeds in deeds()) {
        let mut world = World::new();
        let mut model = Model { polled: world.now, ..Model::default() };
        for deed in &deeds {
            perform(&mut world, &mut model, deed)?;
            for &lease in model.leases.keys() {
                let left = if model.is_expiring(lease) { ms(0) } else { model.deadline(&world, lease).since(world.now) };
                prop_assert_eq!(world.lessor.remaining(lease, world.now), Some(left));
            }
            prop_assert_eq!(world.lessor.poll_timeout().is_none(), model.leases.is_empty());
        }
    }
}
