//! How each thing is written as a row. A format, covered by the number in the meta row.
//!
//! | space | key | value |
//! |---|---|---|
//! | kv | namespace, 0, key | create, mod, version, lease, value |
//! | lease | id | record |
//! | session | id | namespace, principal, nonce |
//! | session | id, 1 | acknowledged |
//! | session | id, 2, place | sequence, outcome |
//!
//! Ids in keys are big-endian, so that rows are in their order. A namespace has no zero byte, so its keys are together
//! and namespaces in order. The place of an outcome is its sequence number modulo the window: a session has never two
//! outcomes in one place, and what is acknowledged needs no deletion.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use hither_protocol::codec::{decode_body, encode_body};
use hither_protocol::limits::SESSION_WINDOW;
use hither_protocol::message::LeaseKind;
use hither_protocol::{
    Entry, Key, LeaseId, LeaseState, Namespace, Refusal, Revision, SequenceNumber, SessionId, UnixMillis, Version,
};

use crate::{LeaseRecord, SessionRecord};

const ACKNOWLEDGED: u8 = 1;
const OUTCOME: u8 = 2;

pub(super) fn put_entry_key(out: &mut BytesMut, namespace: &Namespace, key: &Key) {
    out.put_slice(namespace.as_str().as_bytes());
    out.put_u8(0);
    out.put_slice(key.as_bytes());
}

pub(super) fn entry_key(namespace: &Namespace, key: &Key) -> Bytes {
    let mut out = BytesMut::with_capacity(namespace.as_str().len() + 1 + key.as_bytes().len());
    put_entry_key(&mut out, namespace, key);
    out.freeze()
}

pub(super) fn put_entry_value(out: &mut BytesMut, entry: &Entry) {
    let Entry { key: _, value, create_revision, mod_revision, version, lease } = entry;
    encode_body(out, &(create_revision, mod_revision, version, lease, value));
}

pub(super) fn entry_value(entry: &Entry) -> Bytes {
    let mut out = BytesMut::with_capacity(entry.value.len() + 48);
    put_entry_value(&mut out, entry);
    out.freeze()
}

pub(super) fn read_entry(key: &[u8], value: &[u8]) -> Result<(Namespace, Entry), String> {
    let zero = key.iter().position(|&byte| byte == 0).ok_or("no namespace")?;
    let namespace = std::str::from_utf8(&key[..zero]).map_err(|error| error.to_string())?;
    let namespace = Namespace::try_from(namespace.to_owned()).map_err(says)?;
    let key = Key::from(&key[zero + 1..]);
    key.check().map_err(says)?;
    let (create_revision, mod_revision, version, lease, value): (Revision, Revision, Version, Option<LeaseId>, Bytes) =
        decode_body(value).map_err(says)?;
    Ok((namespace, Entry { key, value, create_revision, mod_revision, version, lease }))
}

pub(super) fn lease_key(lease: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&lease.0.to_be_bytes())
}

pub(super) fn put_lease_value(out: &mut BytesMut, record: &LeaseRecord) {
    let LeaseRecord { namespace, owner, ttl_ms, kind, state, epoch, session, granted_at } = record;
    encode_body(out, &(namespace, owner, ttl_ms, kind, state, epoch, session, granted_at));
}

pub(super) fn lease_value(record: &LeaseRecord) -> Bytes {
    encode(|out| put_lease_value(out, record))
}

pub(super) fn read_lease(key: &[u8], value: &[u8]) -> Result<(LeaseId, LeaseRecord), String> {
    type Row = (Namespace, Arc<str>, u64, LeaseKind, LeaseState, u64, Option<SessionId>, UnixMillis);
    let (namespace, owner, ttl_ms, kind, state, epoch, session, granted_at): Row = decode_body(value).map_err(says)?;
    let record = LeaseRecord { namespace, owner, ttl_ms, kind, state, epoch, session, granted_at };
    Ok((LeaseId(read_id(key)?), record))
}

pub(super) fn session_key(session: SessionId) -> Bytes {
    Bytes::copy_from_slice(&session.0.to_be_bytes())
}

/// The first row of a session and the one after its last.
pub(super) fn session_span(session: SessionId) -> (Bytes, Bytes) {
    (session_key(session), session_key(SessionId(session.0 + 1)))
}

pub(super) fn put_session_value(out: &mut BytesMut, record: &SessionRecord) {
    let SessionRecord { namespace, principal, nonce, acknowledged: _ } = record;
    encode_body(out, &(namespace, principal, nonce));
}

pub(super) fn session_value(record: &SessionRecord) -> Bytes {
    encode(|out| put_session_value(out, record))
}

pub(super) fn acknowledged_key(session: SessionId) -> Bytes {
    encode(|out| {
        out.put_u64(session.0);
        out.put_u8(ACKNOWLEDGED);
    })
}

pub(super) fn acknowledged_value(acknowledged: SequenceNumber) -> Bytes {
    encode(|out| encode_body(out, &acknowledged))
}

pub(super) fn put_outcome_key(out: &mut BytesMut, session: SessionId, sequence: SequenceNumber) {
    out.put_u64(session.0);
    out.put_u8(OUTCOME);
    // Below the window of 1,024.
    out.put_u16((sequence.0 % SESSION_WINDOW) as u16);
}

pub(super) fn outcome_key(session: SessionId, sequence: SequenceNumber) -> Bytes {
    encode(|out| put_outcome_key(out, session, sequence))
}

pub(super) fn put_outcome_value(out: &mut BytesMut, sequence: SequenceNumber, outcome: &Bytes) {
    encode_body(out, &(sequence, outcome));
}

pub(super) fn outcome_value(sequence: SequenceNumber, outcome: &Bytes) -> Bytes {
    encode(|out| put_outcome_value(out, sequence, outcome))
}

/// A row of [`Space::Session`](crate::device::Space::Session).
pub(super) enum SessionRow {
    Record(SessionId, SessionRecord),
    Acknowledged(SessionId, SequenceNumber),
    Outcome(SessionId, SequenceNumber, Bytes),
}

pub(super) fn read_session(key: &[u8], value: &[u8]) -> Result<SessionRow, String> {
    let (id, rest) = key.split_at_checked(8).ok_or("a short key")?;
    let id = SessionId(read_id(id)?);
    match rest {
        [] => {
            let (namespace, principal, nonce): (Namespace, Arc<str>, [u8; 16]) = decode_body(value).map_err(says)?;
            Ok(SessionRow::Record(id, SessionRecord { namespace, principal, nonce, acknowledged: SequenceNumber(0) }))
        }
        [ACKNOWLEDGED] => Ok(SessionRow::Acknowledged(id, decode_body(value).map_err(says)?)),
        [OUTCOME, _, _] => {
            let (sequence, outcome): (SequenceNumber, Bytes) = decode_body(value).map_err(says)?;
            if outcome_key(id, sequence) != key {
                return Err(format!("the outcome of mutation {sequence} is in another's place"));
            }
            Ok(SessionRow::Outcome(id, sequence, outcome))
        }
        _ => Err("a key of no known kind".to_owned()),
    }
}

fn read_id(bytes: &[u8]) -> Result<u64, String> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| "an id has 8 bytes".to_owned())
}

fn says(refusal: Refusal) -> String {
    refusal.detail
}

fn encode(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}
