//! What the log holds.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{decode_body, encode_body};
use hither_protocol::message::{Delete, LeaseKind, Put, RetryToken, Txn, TxnOp};
use hither_protocol::{ClusterId, LeaseId, Namespace, Refusal, Revision, SessionId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::StateLimits;

/// The format of an encoded batch. A node that reads another one stops: it must never skip what it does not know.
const BATCH_FORMAT: u8 = 1;

/// Where in the log a command stands: the entry, and the command's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The index of the entry.
    pub index: u64,
    /// The command in it, from 0.
    pub offset: u16,
}

impl Position {
    /// A number that no other position has: ids of leases and sessions are drawn from it. Never zero, since entries
    /// with commands begin at index 1.
    #[must_use]
    pub const fn unique(self) -> u64 {
        self.index << 16 | self.offset as u64
    }
}

/// One admitted request, or one decision of the leader, as every replica applies it.
///
/// Append-only: variants and fields are part of the log's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Where its keys are.
    pub namespace: Namespace,
    /// The identity that asked; empty for the server itself.
    pub principal: Arc<str>,
    /// Names it within its session.
    pub retry: Option<RetryToken>,
    /// When the leader admitted it, by its wall clock: recorded, never compared.
    pub at: UnixMillis,
    /// What to do.
    pub action: Action,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Writes a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// If, then, else.
    Txn(Txn),
    /// A new lease, with its TTL already clamped.
    LeaseGrant {
        /// Milliseconds.
        ttl_ms: u64,
        /// What keeps it alive.
        kind: LeaseKind,
    },
    /// Ends a lease.
    LeaseRevoke {
        /// Which.
        lease: LeaseId,
    },
    /// A new session, with its TTL already clamped; the same session again for the same principal and nonce.
    SessionOpen {
        /// Milliseconds.
        ttl_ms: u64,
        /// Drawn by the client.
        nonce: [u8; 16],
    },
    /// Ends a session and its bound leases.
    SessionClose {
        /// Which.
        session: SessionId,
    },
    /// The holders of these leases are silent. A lease of another epoch is left alone.
    MarkSuspect {
        /// Leases and the epochs that the leader saw.
        leases: Vec<(LeaseId, u64)>,
    },
    /// The holders of these suspect leases were heard again; their epochs go up.
    MarkAlive {
        /// Leases and the epochs that the leader saw.
        leases: Vec<(LeaseId, u64)>,
    },
    /// The time of these leases is over. A lease of another epoch is left alone. A session's own lease takes the session
    /// and its bound leases along.
    Expire {
        /// Leases and the epochs that the leader saw.
        leases: Vec<(LeaseId, u64)>,
    },
    /// Watches can resume only after this revision or a later one. Never lowers the floor.
    SetFloor {
        /// The floor.
        revision: Revision,
    },
    /// The first command of a cluster.
    ClusterInit {
        /// Its id.
        cluster: ClusterId,
        /// 1, or one more than before a restore.
        incarnation: u64,
    },
    /// The state may grow to this from now on.
    SetLimits {
        /// The bounds.
        limits: StateLimits,
    },
}

/// An entry of the log does not decode: the log is damaged or of a newer version, and this replica must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version.
    #[error(
        "the log has entries of format {0}, this version reads format {BATCH_FORMAT}; start the version that wrote it"
    )]
    Format(u8),
    /// Not what was written.
    #[error("an entry of the log does not decode: {0}")]
    Damaged(Refusal),
}

impl Command {
    /// About what it takes in an entry; generous for what is small.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const ENVELOPE: usize = 128;
        let put = |put: &Put| put.key.as_bytes().len() + put.value.len();
        let body = match &self.action {
            Action::Put(of) => put(of),
            Action::Txn(txn) => {
                let op = |op: &TxnOp| ENVELOPE + if let TxnOp::Put(of) = op { put(of) } else { 0 };
                txn.then.iter().chain(&txn.otherwise).map(op).sum::<usize>() + txn.when.len() * ENVELOPE
            }
            Action::MarkSuspect { leases } | Action::MarkAlive { leases } | Action::Expire { leases } => {
                16 * leases.len()
            }
            _ => 0,
        };
        ENVELOPE + body
    }
}

/// The payload of one log entry: 1 to 512 commands.
#[must_use]
pub fn encode_batch(commands: &[Command]) -> Bytes {
    let mut out = BytesMut::with_capacity(commands.iter().map(Command::bytes).sum());
    encode_body(&mut out, &BATCH_FORMAT);
    encode_body(&mut out, &commands);
    out.freeze()
}

/// The commands of one log entry.
///
/// # Errors
/// [`DecodeError`]: this replica must stop.
pub fn decode_batch(payload: &[u8]) -> Result<Vec<Command>, DecodeError> {
    match payload.split_first() {
        Some((&BATCH_FORMAT, commands)) => {
            let mut commands: Vec<Command> = decode_body(commands).map_err(DecodeError::Damaged)?;
            // Records keep the names of their command: many of one name share its memory.
            for next in 1..commands.len() {
                if commands[next].namespace == commands[next - 1].namespace {
                    commands[next].namespace = commands[next - 1].namespace.clone();
                }
                if commands[next].principal == commands[next - 1].principal {
                    commands[next].principal = commands[next - 1].principal.clone();
                }
            }
            Ok(commands)
        }
        Some((&format, _)) => Err(DecodeError::Format(format)),
        None => Err(DecodeError::Format(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_a_newer_format_is_refused_whole() {
        let command = Command {
            namespace: Namespace::system(),
            principal: Arc::default(),
            retry: None,
            at: UnixMillis(7),
            action: Action::SetFloor { revision: Revision(3) },
        };
        let payload = encode_batch(std::slice::from_ref(&command));
        assert_eq!(decode_batch(&payload), Ok(vec![command]));
        let mut newer = payload.to_vec();
        newer[0] = 2;
        assert_eq!(decode_batch(&newer), Err(DecodeError::Format(2)));
        assert!(matches!(decode_batch(&payload[..payload.len() - 1]), Err(DecodeError::Damaged(_))));
    }
}
