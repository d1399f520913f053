//! Sessions, and commands that are executed once however often they come.

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{decode_body, encode_body};
use hither_protocol::limits::{OUTCOME_BYTES_MAX, SESSION_WINDOW};
use hither_protocol::message::{LeaseKind, Reply, RetryToken, SessionCloseReply, SessionOpenReply};
use hither_protocol::{ErrorCode, Refusal, SequenceNumber, SessionId};

use super::{Step, refuse};
use crate::{Change, SessionRecord};

/// Most bytes that one session remembers with the entries in them, a quarter of a KiB for each outcome of its window: what a
/// client can make the server keep for it is bounded.
const SESSION_OUTCOMES_BYTES_MAX: usize = 256 * 1024;
/// A little more than the outcome of a put without its previous entry.
const OUTCOME_BYTES_USUAL: usize = 24;

/// What is remembered of a mutation. Of a refusal only its number: the words may change from version to version, and
/// replicas of two versions must be equal.
type Outcome = Result<Reply, ErrorCode>;

impl Step<'_> {
    pub(super) fn open(&mut self, ttl_ms: u64, nonce: [u8; 16]) -> Result<SessionOpenReply, Refusal> {
        let principal = &self.command.principal;
        if let Some(session) = self.state.sessions.opened(self.namespace, principal, nonce)
            && let Some(lease) = self.state.leases.get(session.lease())
        {
            return Ok(SessionOpenReply { session, ttl_ms: lease.record.ttl_ms, epoch: lease.record.epoch });
        }
        self.check_room_for_lease()?;
        let session = SessionId(self.position.unique());
        self.insert_lease(session.lease(), ttl_ms, LeaseKind::Bound, Some(session));
        let record = SessionRecord {
            namespace: self.namespace.clone(),
            principal: self.command.principal.clone(),
            nonce,
            acknowledged: SequenceNumber(0),
        };
        self.state.hash.add_session(session, &record);
        self.state.sessions.insert(session, record.clone());
        self.changes.push(Change::Session { session, record: Some(record) });
        Ok(SessionOpenReply { session, ttl_ms, epoch: 1 })
    }

    pub(super) fn close(&mut self, id: SessionId) -> Result<SessionCloseReply, Refusal> {
        // Closing what is over succeeds, as deleting nothing does: the reply to the first close may have been lost.
        let deleted = match self.state.sessions.get(id) {
            None => 0,
            Some(session) => {
                check_owner(&session.record, &self.command.principal, self.namespace, id)?;
                self.end_session(id)
            }
        };
        Ok(SessionCloseReply { revision: self.reached(), deleted })
    }

    /// Ends a session with its own lease and all that are bound to it; returns how many keys were deleted.
    pub(super) fn end_session(&mut self, id: SessionId) -> u64 {
        let Some(session) = self.state.sessions.remove(id) else { return 0 };
        self.state.hash.remove_session(id, &session.record);
        self.state.hash.acknowledge(id, session.record.acknowledged, SequenceNumber(0));
        for (sequence, outcome) in session.outcomes() {
            self.state.hash.remove_outcome(id, *sequence, outcome);
        }
        let deleted = self.end_lease(id.lease());
        let deleted = deleted + session.bound.iter().map(|&lease| self.end_lease(lease)).sum::<u64>();
        self.changes.push(Change::Session { session: id, record: None });
        deleted
    }

    /// Executes a command under its token, or answers what the first one came to.
    pub(super) fn execute_once(&mut self, token: RetryToken) -> Result<Reply, Refusal> {
        let RetryToken { session: id, sequence, acknowledged } = token;
        let Some(session) = self.state.sessions.get(id) else {
            return Err(Refusal::unknown(
                ErrorCode::SessionExpired,
                format!("session {id} is over: whether mutation {sequence} took effect before is not known any more"),
            ));
        };
        check_owner(&session.record, &self.command.principal, self.namespace, id)?;
        self.acknowledge(id, acknowledged.min(SequenceNumber(sequence.0.saturating_sub(1))));
        let Some(session) = self.state.sessions.get(id) else { unreachable!("found above") };
        let acknowledged = session.record.acknowledged;
        if sequence <= acknowledged {
            return Err(Refusal::unknown(
                ErrorCode::Conflict,
                format!(
                    "the session has said that every mutation up to {acknowledged} was answered: what came of {sequence} is forgotten"
                ),
            ));
        }
        if let Some(outcome) = session.outcome(sequence) {
            #[cfg(feature = "planted")]
            if hither_protocol::planted::strikes(hither_protocol::planted::Bug::RetryAppliedTwice) {
                return self.execute();
            }
            return recall(outcome);
        }
        if sequence.0 - acknowledged.0 > SESSION_WINDOW {
            return refuse(
                ErrorCode::TooManyInFlight,
                format!(
                    "mutation {sequence} while only {acknowledged} is known to be answered: at most {SESSION_WINDOW} may wait"
                ),
            );
        }
        let outcome = self.execute();
        self.remember(id, sequence, outcome.as_ref());
        outcome
    }

    /// Forgets the outcomes up to `up_to`, which the client has received.
    fn acknowledge(&mut self, id: SessionId, up_to: SequenceNumber) {
        let Some(session) = self.state.sessions.get_mut(id) else { return };
        if up_to <= session.record.acknowledged {
            return;
        }
        self.state.hash.acknowledge(id, session.record.acknowledged, up_to);
        session.record.acknowledged = up_to;
        while let Some((sequence, outcome)) = session.forget_next() {
            self.state.hash.remove_outcome(id, sequence, &outcome);
        }
        self.changes.push(Change::Acknowledged { session: id, up_to });
    }

    fn remember(&mut self, id: SessionId, sequence: SequenceNumber, outcome: Result<&Reply, &Refusal>) {
        let Some(session) = self.state.sessions.get_mut(id) else { return };
        let outcome = encode_outcome(outcome, SESSION_OUTCOMES_BYTES_MAX.saturating_sub(session.outcomes_bytes()));
        self.state.hash.add_outcome(id, sequence, &outcome);
        session.remember(sequence, outcome.clone());
        self.changes.push(Change::Outcome { session: id, sequence, outcome });
    }
}

fn check_owner(
    record: &SessionRecord,
    principal: &str,
    namespace: &hither_protocol::Namespace,
    id: SessionId,
) -> Result<(), Refusal> {
    if *record.principal == *principal && record.namespace == *namespace {
        return Ok(());
    }
    refuse(
        ErrorCode::PermissionDenied,
        format!("session {id} belongs to another identity or namespace than `{principal}` in `{namespace}`"),
    )
}

/// The bytes of an outcome. One that is too large to be kept, by itself or for the session, loses the entries in it.
fn encode_outcome(outcome: Result<&Reply, &Refusal>, room: usize) -> Bytes {
    let outcome: Result<&Reply, ErrorCode> = outcome.map_err(|refusal| refusal.code);
    let mut out = BytesMut::with_capacity(OUTCOME_BYTES_USUAL);
    encode_body(&mut out, &outcome);
    if out.len() > OUTCOME_BYTES_MAX.min(room)
        && let Ok(reply) = outcome
    {
        // Not the same memory: it has grown to what is not kept.
        out = BytesMut::with_capacity(OUTCOME_BYTES_USUAL);
        encode_body(&mut out, &Outcome::Ok(without_entries(reply)));
    }
    out.freeze()
}

fn without_entries(reply: &Reply) -> Reply {
    let mut reply = reply.clone();
    match &mut reply {
        Reply::Put(put) => put.previous = None,
        Reply::Delete(delete) => delete.previous = Vec::new(),
        Reply::Txn(txn) => {
            txn.results = Vec::new();
            txn.results_forgotten = true;
        }
        // No other mutation answers with entries.
        _ => {}
    }
    reply
}

/// Whether the bytes of an outcome can be recalled.
pub(crate) fn check_outcome(outcome: &[u8]) -> Result<(), String> {
    decode_body::<Outcome>(outcome).map(drop).map_err(|error| error.detail)
}

fn recall(outcome: &[u8]) -> Result<Reply, Refusal> {
    match decode_body::<Outcome>(outcome) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(code)) => refuse(code, format!("the same as when it was first asked: {}", code.meaning())),
        Err(error) => Err(Refusal::unknown(
            ErrorCode::Internal,
            format!("the remembered outcome does not decode: {}", error.detail),
        )),
    }
}
