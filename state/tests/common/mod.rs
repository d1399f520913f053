//! Logs drawn at random: few keys, namespaces, clients and leases, so that they meet.

use bytes::Bytes;
use hither_protocol::message::{Compare, Delete, LeaseKind, Projection, Put, Relation, RetryToken, Txn, TxnOp};
use hither_protocol::{KeyRange, LeaseId, Namespace, Revision, SequenceNumber, SessionId, UnixMillis, Version};
use hither_state::{Action, Command, Position, State, StateLimits};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Small enough that some puts do not fit.
pub(crate) const LIMITS: StateLimits = StateLimits { state_bytes_max: 256 * 9, leases_max: 12 };

/// What somebody does. Leases and sessions are named by their place among those that exist when it is done.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    namespace: &'static str,
    who: &'static str,
    how: How,
    what: What,
}

#[derive(Clone, Debug)]
enum How {
    /// Without a token.
    Once,
    /// Under a number of a session after its newest, acknowledging all but so many before it.
    Numbered { session: usize, skipping: u64, leaving: u64 },
    /// Under a number before the newest, which may have been left out.
    Late { session: usize, back: u64, leaving: u64 },
    /// As an earlier numbered one, again.
    Again(usize),
}

#[derive(Clone, Debug)]
enum What {
    Put(&'static str, Bytes, Option<usize>, bool),
    Delete(KeyRange, bool),
    Txn(Vec<Compare>, Vec<Step>, Vec<Step>),
    Grant(LeaseKind),
    Revoke(usize),
    Open(u8),
    Close(usize),
    Suspect(usize, u64),
    Alive(usize, u64),
    Expire(usize, usize, u64),
    Floor(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Read(TxnOp),
    Put(&'static str, Bytes, Option<usize>, bool),
    Delete(KeyRange, bool),
}

pub(crate) fn deeds(most: usize) -> impl Strategy<Value = Vec<Deed>> {
    vec(deed(), 1..most)
}

fn deed() -> impl Strategy<Value = Deed> {
    let how = prop_oneof![
        2 => Just(How::Once),
        4 => (0..4usize, 0..3u64, 0..8u64)
            .prop_map(|(session, skipping, leaving)| How::Numbered { session, skipping, leaving }),
        2 => (0..4usize, 1..6u64, 0..8u64).prop_map(|(session, back, leaving)| How::Late { session, back, leaving }),
        2 => (0..20usize).prop_map(How::Again),
    ];
    // A session speaks only for the one who opened it where it was opened: mostly the same one in the same place.
    let namespace = prop_oneof![5 => Just("prod"), 1 => Just("test")];
    let who = prop_oneof![5 => Just("alice"), 1 => Just("bob")];
    (namespace, who, how, what()).prop_map(|(namespace, who, how, what)| Deed { namespace, who, how, what })
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        8 => (key(), value(), lease(), any::<bool>()).prop_map(|(key, value, lease, previous)| What::Put(key, value, lease, previous)),
        3 => (range(), any::<bool>()).prop_map(|(range, previous)| What::Delete(range, previous)),
        6 => (vec(compare(), 0..3), branch(), branch()).prop_map(|(when, then, otherwise)| What::Txn(when, then, otherwise)),
        3 => select(&[LeaseKind::Ttl, LeaseKind::Bound][..]).prop_map(What::Grant),
        1 => (0..5usize).prop_map(What::Revoke),
        3 => (0..3u8).prop_map(What::Open),
        1 => (0..3usize).prop_map(What::Close),
        2 => (0..5usize, 1..3u64).prop_map(|(lease, epoch)| What::Suspect(lease, epoch)),
        2 => (0..5usize, 1..3u64).prop_map(|(lease, epoch)| What::Alive(lease, epoch)),
        2 => (0..5usize, 0..5usize, 1..3u64).prop_map(|(one, other, epoch)| What::Expire(one, other, epoch)),
        1 => (0..30u64).prop_map(What::Floor),
    ]
}

fn key() -> impl Strategy<Value = &'static str> {
    select(&["a", "a/1", "a/2", "b", "c"][..])
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![9 => select(&["", "1", "2"][..]).prop_map(Bytes::from), 1 => Just(Bytes::from(vec![b'v'; 500]))]
}

fn lease() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![2 => Just(None), 3 => (0..5usize).prop_map(Some)]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(|key| KeyRange::One(key.into())),
        1 => Just(KeyRange::prefix("a/")),
        1 => Just(KeyRange::Span("a/2".into(), "c".into())),
        1 => Just(KeyRange::All),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = || select(&[Relation::Equal, Relation::NotEqual, Relation::Less, Relation::Greater][..]);
    let number = || 0..6u64;
    prop_oneof![
        (key(), relation(), value()).prop_map(|(key, relation, value)| Compare::Value(key.into(), relation, value)),
        (key(), relation(), number()).prop_map(|(key, relation, n)| Compare::Version(key.into(), relation, Version(n))),
        (key(), relation(), number()).prop_map(|(key, relation, n)| Compare::CreateRevision(
            key.into(),
            relation,
            Revision(n)
        )),
        (key(), relation(), number()).prop_map(|(key, relation, n)| Compare::ModRevision(
            key.into(),
            relation,
            Revision(n)
        )),
        key().prop_map(|key| Compare::Exists(key.into())),
        key().prop_map(|key| Compare::Absent(key.into())),
        range().prop_map(Compare::RangeEmpty),
        key().prop_map(|key| Compare::Lease(key.into(), None)),
    ]
}

fn branch() -> impl Strategy<Value = Vec<Step>> {
    let projection = select(&[Projection::Entries, Projection::KeysOnly, Projection::CountOnly][..]);
    let step = prop_oneof![
        1 => key().prop_map(|key| Step::Read(TxnOp::Get(key.into()))),
        1 => (range(), 0..3u64, any::<bool>(), projection)
            .prop_map(|(range, limit, reverse, projection)| Step::Read(TxnOp::Range { range, limit, reverse, projection })),
        3 => (key(), value(), lease(), any::<bool>()).prop_map(|(key, value, lease, previous)| Step::Put(key, value, lease, previous)),
        1 => (range(), any::<bool>()).prop_map(|(range, previous)| Step::Delete(range, previous)),
    ];
    vec(step, 0..5)
}

/// The log that these deeds come to. It is drawn while a state follows it, so that it names what exists.
pub(crate) fn log(deeds: &[Deed]) -> Vec<(Position, Command)> {
    let mut state = State::new(LIMITS);
    let mut sessions: Vec<(SessionId, u64)> = Vec::new();
    let mut log: Vec<(Position, Command)> = Vec::new();
    for (number, deed) in deeds.iter().enumerate() {
        // Two commands to an entry.
        let position = Position { index: 1 + number as u64 / 2, offset: (number % 2) as u16 };
        let command = command(&state, deed, &mut sessions, &log, UnixMillis(number as u64));
        if let Ok(hither_protocol::message::Reply::SessionOpen(open)) = state.apply(position, &command).outcome
            && !sessions.iter().any(|(session, _)| *session == open.session)
        {
            sessions.push((open.session, 0));
        }
        log.push((position, command));
    }
    log
}

fn command(
    state: &State,
    deed: &Deed,
    sessions: &mut [(SessionId, u64)],
    log: &[(Position, Command)],
    at: UnixMillis,
) -> Command {
    let mutation =
        matches!(deed.what, What::Put(..) | What::Delete(..) | What::Txn(..) | What::Grant(..) | What::Revoke(..));
    let mut retry = None;
    match deed.how {
        How::Again(nth) => {
            let numbered: Vec<&Command> =
                log.iter().rev().map(|(_, command)| command).filter(|command| command.retry.is_some()).collect();
            if let Some(&again) = numbered.get(nth) {
                return Command { at, ..again.clone() };
            }
        }
        How::Numbered { session, skipping, leaving } if mutation && !sessions.is_empty() => {
            let place = session % sessions.len();
            sessions[place].1 += 1 + skipping;
            retry = Some(token(sessions[place], 0, leaving));
        }
        How::Late { session, back, leaving } if mutation && !sessions.is_empty() => {
            retry = Some(token(sessions[session % sessions.len()], back, leaving));
        }
        How::Numbered { .. } | How::Late { .. } | How::Once => {}
    }
    Command {
        namespace: deed.namespace.parse().unwrap_or_else(|_| Namespace::default()),
        principal: deed.who.into(),
        retry,
        at,
        action: action(state, &deed.what, sessions),
    }
}

fn token((session, newest): (SessionId, u64), back: u64, leaving: u64) -> RetryToken {
    let sequence = newest.saturating_sub(back).max(1);
    let acknowledged = SequenceNumber(sequence.saturating_sub(1 + leaving));
    RetryToken { session, sequence: SequenceNumber(sequence), acknowledged }
}

fn action(state: &State, what: &What, sessions: &[(SessionId, u64)]) -> Action {
    let nth = |place: usize| {
        let leases: Vec<LeaseId> = state.leases(None).map(|lease| lease.id).collect();
        if leases.is_empty() { LeaseId(7) } else { leases[place % leases.len()] }
    };
    let put = |key: &str, value: &Bytes, lease: Option<usize>, previous| Put {
        key: key.into(),
        value: value.clone(),
        lease: lease.map(nth),
        previous,
    };
    match what {
        What::Put(key, value, lease, previous) => Action::Put(put(key, value, *lease, *previous)),
        What::Delete(range, previous) => Action::Delete(Delete { range: range.clone(), previous: *previous }),
        What::Txn(when, then, otherwise) => {
            let branch = |steps: &[Step]| {
                let op = |step: &Step| match step {
                    Step::Read(op) => op.clone(),
                    Step::Put(key, value, lease, previous) => TxnOp::Put(put(key, value, *lease, *previous)),
                    Step::Delete(range, previous) => {
                        TxnOp::Delete(Delete { range: range.clone(), previous: *previous })
                    }
                };
                let mut ops: Vec<TxnOp> = Vec::new();
                for op in steps.iter().map(op) {
                    // What the door refuses does not get into a log.
                    if !ops.iter().any(|before| clash(before, &op)) {
                        ops.push(op);
                    }
                }
                ops
            };
            Action::Txn(Txn { when: when.clone(), then: branch(then), otherwise: branch(otherwise) })
        }
        What::Grant(kind) => Action::LeaseGrant { ttl_ms: 1_000, kind: *kind },
        What::Revoke(place) => Action::LeaseRevoke { lease: nth(*place) },
        What::Open(nonce) => Action::SessionOpen { ttl_ms: 10_000, nonce: [*nonce; 16] },
        What::Close(place) => {
            let session = sessions.get(place % sessions.len().max(1));
            Action::SessionClose { session: session.map_or(SessionId(7), |(session, _)| *session) }
        }
        What::Suspect(place, epoch) => Action::MarkSuspect { leases: vec![(nth(*place), *epoch)] },
        What::Alive(place, epoch) => Action::MarkAlive { leases: vec![(nth(*place), *epoch)] },
        What::Expire(one, other, epoch) => Action::Expire { leases: vec![(nth(*one), *epoch), (nth(*other), *epoch)] },
        What::Floor(revision) => Action::SetFloor { revision: Revision(*revision) },
    }
}

fn clash(one: &TxnOp, other: &TxnOp) -> bool {
    let hits = |put: &Put, delete: &Delete| delete.range.contains(put.key.as_bytes());
    match (one, other) {
        (TxnOp::Put(one), TxnOp::Put(other)) => one.key == other.key,
        (TxnOp::Put(put), TxnOp::Delete(delete)) | (TxnOp::Delete(delete), TxnOp::Put(put)) => hits(put, delete),
        _ => false,
    }
}
