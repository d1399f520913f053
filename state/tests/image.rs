//! What a device holds is checked to the last byte before anyone is served from it.

#![expect(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

use std::io::ErrorKind;

use bytes::Bytes;
use hither_protocol::message::{LeaseKind, Put, RetryToken};
use hither_protocol::{LeaseId, Namespace, SequenceNumber, SessionId, UnixMillis};
use hither_state::device::{MemoryState, RowChange, Space, StateDevice};
use hither_state::image::{self, Meta};
use hither_state::{Action, Command, Position, State, StateLimits};

/// A state with a row of every kind.
fn sample() -> State {
    let mut state = State::new(StateLimits::default());
    let session = SessionId(1 << 16);
    let put = |key: &str, lease| {
        Action::Put(Put { key: key.into(), value: Bytes::from_static(b"value"), lease, previous: false })
    };
    let actions = [
        (0, Action::SessionOpen { ttl_ms: 10_000, nonce: [7; 16] }),
        (1, Action::LeaseGrant { ttl_ms: 5_000, kind: LeaseKind::Bound }),
        (2, put("with lease", Some(LeaseId(2 << 16)))),
        (3, put("without", None)),
    ];
    for (place, (sequence, action)) in actions.into_iter().enumerate() {
        let token =
            RetryToken { session, sequence: SequenceNumber(sequence), acknowledged: SequenceNumber(sequence / 2) };
        let command = Command {
            namespace: Namespace::default(),
            principal: "alice".to_owned(),
            retry: (sequence > 0).then_some(token),
            at: UnixMillis(1),
            action,
        };
        state.apply(Position { index: place as u64 + 1, offset: 0 }, &command).outcome.unwrap();
    }
    state
}

fn device(state: &State) -> (MemoryState, Bytes) {
    let mut device = MemoryState::default();
    let meta = Meta::of(state, 4, Bytes::from_static(b"the server's own")).encode();
    device.replace(&mut image::all_rows(state), &meta).unwrap();
    (device, meta)
}

fn refused(device: &MemoryState) -> ErrorKind {
    image::load(device).map(|_| ()).expect_err("loaded from damaged rows").kind()
}

#[test]
fn a_row_that_is_missing_is_an_error() {
    let state = sample();
    let rows: Vec<_> = image::all_rows(&state).collect();
    assert_eq!(rows.len(), 8, "two keys, two leases, a session, what it acknowledged, and two outcomes");
    for (space, key, _) in rows {
        let (mut device, meta) = device(&state);
        device.write(&[RowChange::Delete(space, key.clone())], &meta).unwrap();
        assert_eq!(refused(&device), ErrorKind::InvalidData, "{space:?} {key:?}");
    }
}

#[test]
fn a_byte_that_is_flipped_is_an_error_wherever_it_is() {
    let state = sample();
    for (space, key, value) in image::all_rows(&state) {
        for place in 0..value.len() {
            let (mut device, meta) = device(&state);
            let mut flipped = value.to_vec();
            flipped[place] ^= 1;
            device.write(&[RowChange::Put(space, key.clone(), flipped.into())], &meta).unwrap();
            assert_eq!(refused(&device), ErrorKind::InvalidData, "value {place} of {space:?} {key:?}");
        }
        for place in 0..key.len() {
            let (mut device, meta) = device(&state);
            let mut flipped = key.to_vec();
            flipped[place] ^= 1;
            let changes = [RowChange::Delete(space, key.clone()), RowChange::Put(space, flipped.into(), value.clone())];
            device.write(&changes, &meta).unwrap();
            assert_eq!(refused(&device), ErrorKind::InvalidData, "key {place} of {space:?} {key:?}");
        }
    }
}

#[test]
fn a_row_too_many_is_an_error() {
    let state = sample();
    for (space, key) in [(Space::Kv, "default\0more"), (Space::Lease, "\0\0\0\0\0\0\0\x07"), (Space::Session, "short")]
    {
        let (mut device, meta) = device(&state);
        device.write(&[RowChange::Put(space, key.into(), "x".into())], &meta).unwrap();
        assert_eq!(refused(&device), ErrorKind::InvalidData, "{space:?}");
    }
}

#[test]
fn a_meta_row_that_is_damaged_cut_off_or_newer_is_an_error() {
    let state = sample();
    let (mut device, meta) = device(&state);
    for place in 0..meta.len() {
        let mut flipped = meta.to_vec();
        flipped[place] ^= 1;
        device.write(&[], &flipped).unwrap();
        let kind = if place == 0 { ErrorKind::Unsupported } else { ErrorKind::InvalidData };
        assert_eq!(refused(&device), kind, "byte {place}");
        device.write(&[], &meta[..place]).unwrap();
        assert_eq!(refused(&device), ErrorKind::InvalidData, "cut at {place}");
    }
    let newer = { [&[2][..], &meta[1..]].concat() };
    let says = Meta::decode(&newer).unwrap_err().to_string();
    assert!(says.contains("format 2") && says.contains("start the version that wrote it"), "{says}");
}

#[test]
fn nothing_was_ever_written_is_not_an_error() {
    assert!(image::load(&MemoryState::default()).unwrap().is_none());
}
