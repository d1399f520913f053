//! The image of the state, as it was released, and what is done with one that is not what was written.
//!
//! What a device holds is checked to the last byte before anyone is served from it.

#![expect(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hither_protocol::message::{Delete, LeaseKind, Put, RetryToken, Txn, TxnOp};
use hither_protocol::{ClusterId, KeyRange, LeaseId, Namespace, Revision, SequenceNumber, SessionId, UnixMillis};
use hither_state::device::{MemoryState, RowChange, Space, StateDevice};
use hither_state::image::{self, Meta};
use hither_state::{Action, Command, Position, State, StateLimits};

#[path = "../../fuzz/src/image.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod target;

/// A state with a row of every kind, and outcomes of every kind.
fn sample() -> State {
    let mut state = State::new(StateLimits::default());
    let session = SessionId(1 << 16);
    let (namespace, principal) = (Namespace::default(), Arc::from("alice"));
    let put = |key: &str, lease| Put { key: key.into(), value: Bytes::from_static(b"value"), lease, previous: false };
    let delete = |range| Delete { range, previous: true };
    let steps = [
        (0, Action::SessionOpen { ttl_ms: 10_000, nonce: [7; 16] }),
        (1, Action::Put(put("acknowledged", None))),
        (2, Action::LeaseGrant { ttl_ms: 5_000, kind: LeaseKind::Bound }),
        (3, Action::Put(put("with lease", Some(LeaseId(3 << 16))))),
        (4, Action::Put(put("never", Some(LeaseId(77))))),
        (5, Action::Txn(Txn { then: vec![TxnOp::Get("with lease".into())], ..Txn::default() })),
        (6, Action::Delete(delete(KeyRange::One("acknowledged".into())))),
        (7, Action::LeaseRevoke { lease: LeaseId(77) }),
        (0, Action::LeaseGrant { ttl_ms: 60_000, kind: LeaseKind::Ttl }),
        (0, Action::MarkSuspect { leases: vec![(LeaseId(9 << 16), 1)] }),
        (0, Action::Put(put("without", None))),
        (0, Action::ClusterInit { cluster: ClusterId(*b"0123456789abcdef"), incarnation: 1 }),
        (0, Action::SetFloor { revision: Revision(2) }),
    ];
    for (index, (sequence, action)) in (1..).zip(steps) {
        let token = RetryToken { session, sequence: SequenceNumber(sequence), acknowledged: SequenceNumber(1) };
        let command = Command {
            namespace: namespace.clone(),
            principal: Arc::clone(&principal),
            retry: (sequence > 0).then_some(token),
            at: UnixMillis(1_790_000_000_000),
            action,
        };
        let _ = state.apply(Position { index, offset: 0 }, &command);
    }
    state
}

fn device(state: &State) -> (MemoryState, Bytes) {
    let mut device = MemoryState::default();
    let meta = Meta::of(state, 13, Bytes::from_static(b"the server's own")).encode();
    device.replace(&mut image::all_rows(state), &meta).unwrap();
    (device, meta)
}

fn refused(device: &MemoryState) -> ErrorKind {
    image::load(device).map(|_| ()).expect_err("loaded from damaged rows").kind()
}

#[test]
fn leases_of_one_identity_share_its_name_however_they_came_to_be() {
    let state = sample();
    let loaded = image::load(&device(&state).0).unwrap().unwrap().state;
    for state in [state, loaded] {
        let owners: Vec<_> = state.leases(None).map(|lease| lease.record.owner.clone()).collect();
        let namespaces: Vec<_> = state.leases(None).map(|lease| lease.record.namespace.as_str().as_ptr()).collect();
        assert_eq!(owners.len(), 3);
        assert!(owners.windows(2).all(|two| Arc::ptr_eq(&two[0], &two[1])));
        assert!(namespaces.windows(2).all(|two| two[0] == two[1]));
    }
}

#[test]
fn a_row_that_is_missing_is_an_error() {
    let state = sample();
    let rows: Vec<_> = image::all_rows(&state).collect();
    assert_eq!(rows.len(), 13, "two keys, three leases, a session, what it acknowledged, and six outcomes");
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

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Bytes {
    let digit = |place| u8::from_str_radix(&text[place..place + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// `table key value`, and at the end `meta row`, in hexadecimal.
fn written(state: &State, meta: &[u8]) -> String {
    let mut text = String::new();
    for (space, key, value) in image::all_rows(state) {
        writeln!(text, "{} {} {}", space.name(), hex(&key), hex(&value)).unwrap();
    }
    writeln!(text, "meta {}", hex(meta)).unwrap();
    text
}

#[test]
fn the_image_has_the_bytes_that_were_released_and_they_load() {
    let state = sample();
    let (_, meta) = device(&state);
    let golden = path("golden/image.v1.hex");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, written(&state, &meta)).unwrap();
    }
    let released = std::fs::read_to_string(golden).unwrap();
    assert_eq!(
        released,
        written(&state, &meta),
        "the format of the image is released: it needs a new number to change"
    );

    let mut rows = Vec::new();
    let mut meta = Bytes::new();
    for line in released.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["meta", row] => meta = unhex(row),
            [table, key, value] => {
                let space = Space::ALL.into_iter().find(|space| space.name() == table).unwrap();
                rows.push(RowChange::Put(space, unhex(key), unhex(value)));
            }
            _ => panic!("{line}"),
        }
    }
    let mut device = MemoryState::default();
    device.write(&rows, &meta).unwrap();
    let loaded = image::load(&device).unwrap().unwrap();
    assert_eq!(loaded.meta.applied_index, 13);
    assert_eq!(written(&loaded.state, &meta), released);
}

#[test]
fn every_committed_input_passes_the_fuzz_target() {
    let corpus = path("../fuzz/corpus/image");
    let state = sample();
    let (_, meta) = device(&state);
    let mut seeds = vec![[&[3][..], &meta].concat()];
    for (space, key, value) in image::all_rows(&state) {
        let kind = Space::ALL.into_iter().position(|known| known == space).unwrap();
        seeds.push([&[kind as u8, key.len() as u8][..], &key, &value].concat());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&corpus).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(corpus.join(format!("row-{number:02}")), seed).unwrap();
        }
    }
    let mut inputs = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        target::image(&std::fs::read(file.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs >= seeds.len(), "the corpus lost its seeds");
}
