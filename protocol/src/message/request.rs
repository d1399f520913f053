//! Requests and replies as enums: what the request lane carries.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::{
    ClientAdd, ClientAddReply, ClientList, ClientListReply, ClientRevoke, ClientRevokeReply, Context, Delete,
    DeleteReply, Enrol, EnrolReply, Get, GetReply, LeaseCheck, LeaseCheckReply, LeaseGrant, LeaseGrantReply, LeaseInfo,
    LeaseInfoReply, LeaseList, LeaseListReply, LeaseRenew, LeaseRenewReply, LeaseRevoke, LeaseRevokeReply, Put,
    PutReply, Range, RangeReply, RenewIdentity, RenewIdentityReply, SessionClose, SessionCloseReply, SessionOpen,
    SessionOpenReply, Stamp, Status, StatusReply, Txn, TxnReply, op,
};
use crate::RequestNumber;
use crate::codec::{
    Frame, Message, check_version, decode_body, encode_parts, encode_with, split_context, unknown_operation,
};
use crate::error::Refusal;
use crate::frame::Flags;

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident => $reply:ident,)+) => {
        /// What a client asks on the request lane.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name($name),)+
        }

        impl Request {
            /// Its op.
            #[must_use]
            pub const fn op(&self) -> u16 {
                match self { $(Self::$name(_) => $name::OP,)+ }
            }

            /// Its name, for logs and metrics.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)+ }
            }

            /// Decodes the request in a frame, and what travels beside it.
            ///
            /// # Errors
            /// `UnknownOperation`, `UnsupportedVersion`, `InvalidFrame`, `TrailingBytes`.
            pub fn decode(frame: &Frame) -> Result<(Context, Self), Refusal> {
                match frame.header.op {
                    $($name::OP => {
                        check_version(frame.header, $name::VERSION)?;
                        let (context, body) = split_context(frame)?;
                        Ok((context, Self::$name(decode_body(&body)?)))
                    })+
                    other => Err(unknown_operation(other)),
                }
            }

            /// Appends the frame of the request.
            pub fn encode(&self, out: &mut BytesMut, number: RequestNumber, context: &Context) {
                match self { $(Self::$name(request) => encode_with(out, number.0, context, request),)+ }
            }
        }

        $(impl From<$name> for Request {
            fn from(request: $name) -> Self {
                Self::$name(request)
            }
        })+

        /// What the server answers.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Reply {
            $($(#[$doc])* $name($reply),)+
        }

        impl Reply {
            /// Decodes the reply in a frame: an answer with its stamp, or the refusal.
            ///
            /// # Errors
            /// The outer error is a frame that does not decode, the inner one what the server said.
            pub fn decode(frame: &Frame) -> Result<Result<(Stamp, Self), Refusal>, Refusal> {
                const fn reply(op: u16) -> u16 {
                    op | op::REPLY
                }
                // No reply has fields before its body today; those of a newer server are skipped, not taken for the body.
                let (_, body) = split_context(frame)?;
                if frame.header.op == op::ERROR {
                    check_version(frame.header, 1)?;
                    return decode_body(&body).map(Err);
                }
                $(if frame.header.op == reply($name::OP) {
                    check_version(frame.header, $name::VERSION)?;
                    let (stamp, reply): (Stamp, $reply) = decode_body(&body)?;
                    return Ok(Ok((stamp, Self::$name(reply))));
                })+
                Err(unknown_operation(frame.header.op))
            }

            /// Appends the frame of the reply.
            pub fn encode(&self, out: &mut BytesMut, number: RequestNumber, stamp: &Stamp, more: bool) {
                let flags = if more { Flags::MORE } else { Flags::default() };
                match self {
                    $(Self::$name(reply) => {
                        encode_parts(out, $name::OP | op::REPLY, $name::VERSION, flags, number.0, None, &(stamp, reply));
                    })+
                }
            }
        }

        $(impl TryFrom<Reply> for $reply {
            type Error = Reply;

            fn try_from(reply: Reply) -> Result<Self, Reply> {
                match reply {
                    Reply::$name(reply) => Ok(reply),
                    other => Err(other),
                }
            }
        })+
    };
}

requests! {
    /// One key.
    Get => GetReply,
    /// Many keys.
    Range => RangeReply,
    /// Write a key.
    Put => PutReply,
    /// Delete keys.
    Delete => DeleteReply,
    /// If, then, else.
    Txn => TxnReply,
    /// A new lease.
    LeaseGrant => LeaseGrantReply,
    /// Keep a lease.
    LeaseRenew => LeaseRenewReply,
    /// End a lease.
    LeaseRevoke => LeaseRevokeReply,
    /// One lease.
    LeaseInfo => LeaseInfoReply,
    /// Many leases.
    LeaseList => LeaseListReply,
    /// Which leases are over.
    LeaseCheck => LeaseCheckReply,
    /// A new session.
    SessionOpen => SessionOpenReply,
    /// End a session.
    SessionClose => SessionCloseReply,
    /// A secret for a certificate.
    Enrol => EnrolReply,
    /// A fresh certificate.
    RenewIdentity => RenewIdentityReply,
    /// A secret for a new identity.
    ClientAdd => ClientAddReply,
    /// The identities.
    ClientList => ClientListReply,
    /// End an identity.
    ClientRevoke => ClientRevokeReply,
    /// How the node is doing.
    Status => StatusReply,
}

impl Request {
    /// Whether it changes the state, so that it needs a retry token to be retried.
    #[must_use]
    pub const fn is_mutation(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete(_) | Self::Txn(_) | Self::LeaseGrant(_) | Self::LeaseRevoke(_) => true,
            Self::Get(_)
            | Self::Range(_)
            | Self::LeaseRenew(_)
            | Self::LeaseInfo(_)
            | Self::LeaseList(_)
            | Self::LeaseCheck(_)
            | Self::SessionOpen(_)
            | Self::SessionClose(_)
            | Self::Enrol(_)
            | Self::RenewIdentity(_)
            | Self::ClientAdd(_)
            | Self::ClientList(_)
            | Self::ClientRevoke(_)
            | Self::Status(_) => false,
        }
    }
}

/// Appends the frame of an error reply.
pub fn encode_refusal(out: &mut BytesMut, number: RequestNumber, refusal: &Refusal) {
    encode_parts(out, op::ERROR, 1, Flags::default(), number.0, None, refusal);
}
