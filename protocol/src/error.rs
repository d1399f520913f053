//! The one table of errors. Numbers are append-only and the same in every language.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::DETAIL_BYTES_MAX;
use crate::{NodeId, Revision};

/// What a caller may do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Retry {
    /// The same request fails again.
    Never,
    /// The same node may answer later.
    Later,
    /// Another node may answer now.
    Elsewhere,
}

/// Whether the request that failed changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Applied {
    /// It did not, and will not.
    No,
    /// It may have, or still may: only a retry under the same sequence number tells.
    Unknown,
}

impl Applied {
    /// The word for it, as command line and JSON show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $retry:ident;)+) => {
        /// A numbered error. See the table in `docs/errors.md`, which a test keeps equal to this one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name,)+
            /// A number from a newer server.
            Other(u16),
        }

        impl ErrorCode {
            /// Every code of this version, in order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)+
                    Self::Other(number) => number,
                }
            }

            /// The code of a number.
            #[must_use]
            pub const fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)+
                    other => Self::Other(other),
                }
            }

            /// The name, as every language spells it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                    Self::Other(_) => "Other",
                }
            }

            /// What it means and what to do.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii_start(),)+
                    Self::Other(_) => "An error that a newer server knows; update the client.",
                }
            }

            /// What a caller may do after it.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)+
                    Self::Other(_) => Retry::Never,
                }
            }
        }
    };
}

error_codes! {
    /// The bytes are not a frame or not the message that the frame names.
    InvalidFrame = 1001, Never;
    /// The operation is not known here; update the side that answered.
    UnknownOperation = 1002, Never;
    /// The operation is known in another version; update the older side.
    UnsupportedVersion = 1003, Never;
    /// The frame is over the limit of 2 MiB.
    FrameTooLarge = 1004, Never;
    /// Bytes follow the message in its frame.
    TrailingBytes = 1005, Never;
    /// The two sides do not speak the same protocol; check that the port is a Hither client port and the versions match.
    ProtocolMismatch = 1006, Never;

    /// No identity was shown, or none that this cluster issued; run `hither client add NAME` on a server.
    Unauthenticated = 2001, Never;
    /// The identity may not do this.
    PermissionDenied = 2002, Never;
    /// The identity was revoked; ask for another with `hither client add NAME`.
    IdentityRevoked = 2004, Never;
    /// The certificate does not name exactly one identity of this cluster and plane.
    IdentityInvalid = 2005, Never;
    /// The enrolment secret is unknown, used or expired; make another with `hither client add NAME`.
    EnrolmentInvalid = 2008, Never;
    /// The server belongs to another cluster than the identity; check the address and the context.
    ClusterMismatch = 2009, Never;

    /// An argument is wrong; the detail names it.
    InvalidArgument = 3001, Never;
    /// The key is longer than 4,096 bytes.
    KeyTooLong = 3002, Never;
    /// A key has at least one byte.
    KeyEmpty = 3003, Never;
    /// The value is larger than 1 MiB.
    ValueTooLarge = 3004, Never;
    /// The range ends before it begins.
    InvalidRange = 3005, Never;
    /// The name has other characters than it may, or is too long.
    InvalidName = 3006, Never;
    /// The transaction has more than 256 operations or comparisons.
    TooManyOps = 3008, Never;
    /// The transaction writes the same key twice in one branch.
    DuplicateKeyInTxn = 3009, Never;

    /// What was named does not exist.
    NotFound = 4001, Never;
    /// What was to be created exists.
    AlreadyExists = 4002, Never;
    /// A condition of the request does not hold.
    Conflict = 4003, Never;
    /// The lease does not exist, or no longer does.
    LeaseNotFound = 4004, Never;
    /// The revision lies in the future, or in another history.
    FutureRevision = 4008, Later;
    /// The session is over: its lease expired or was closed, and whether its last requests took effect is unknown.
    SessionExpired = 4010, Never;
    /// The service has no instance to talk to; the detail says how many are known.
    NoInstances = 4011, Later;

    /// The server has no memory or disk reserve left for another write; deletes still work.
    QuotaExceeded = 5009, Later;
    /// The disk is nearly full: writes are refused, deletes and reads go on.
    NoSpace = 5002, Later;
    /// The connection has more watches than it may.
    TooManyWatches = 5003, Never;
    /// The server has too much waiting; try again shortly.
    ServerBusy = 5007, Later;
    /// More requests wait for an answer than the session remembers.
    TooManyInFlight = 5008, Later;
    /// The records of the service take more memory than the client may use for views; raise its option view_bytes_max.
    ViewTooLarge = 5010, Never;

    /// This node does not lead; the hint names the one that does.
    NotLeader = 6001, Elsewhere;
    /// No server answered, or no majority of them.
    Unavailable = 6002, Elsewhere;
    /// The deadline passed before the answer came.
    Timeout = 6003, Later;
    /// The caller took the request back.
    Cancelled = 6004, Never;
    /// The server is going down; another node may answer.
    ShuttingDown = 6006, Elsewhere;
    /// No server has a state as fresh as the read asks for.
    TooStale = 6007, Elsewhere;
    /// The client was closed.
    Closed = 6009, Never;
    /// The connection was lost before the answer came.
    ConnectionLost = 6010, Elsewhere;

    /// The server erred; its log has the reason.
    Internal = 7001, Never;
    /// The server has not caught up since its start.
    NotReady = 7003, Later;
    /// The server does not do this.
    Unsupported = 7005, Never;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(Self::from_number)
    }
}

/// A request that was refused or failed: the body of an error reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The number.
    pub code: ErrorCode,
    /// Whether the request changed anything.
    pub applied: Applied,
    /// What a caller may do.
    pub retry: Retry,
    /// What exactly is wrong and what to do, in at most 256 bytes.
    pub detail: String,
    /// Who leads, where another node must be asked.
    pub leader: Option<LeaderHint>,
    /// The revision that the error speaks of, such as a floor or the current one.
    pub revision: Option<Revision>,
}

/// Where the leader is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderHint {
    /// Its node.
    pub node: NodeId,
    /// Its client address, `host:port`.
    pub address: String,
}

impl Refusal {
    /// A refusal that changed nothing.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        let mut end = detail.len().min(DETAIL_BYTES_MAX);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        Self { code, applied: Applied::No, retry: code.retry(), detail, leader: None, revision: None }
    }

    /// A failure after which the request may yet take effect.
    #[must_use]
    pub fn unknown(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { applied: Applied::Unknown, ..Self::new(code, detail) }
    }

    /// With the revision that it speaks of.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// With the node to ask instead.
    #[must_use]
    pub fn led_by(mut self, leader: Option<LeaderHint>) -> Self {
        self.leader = leader;
        self
    }
}

/// Why a connection was closed: the application code of the QUIC close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// The client said goodbye.
    Goodbye = 0x00,
    /// The client goes on over another connection; its session and leases do too.
    Moved = 0x01,
    /// The peer broke the rules of the lanes.
    ProtocolViolation = 0x10,
    /// A frame over the limit was announced.
    FrameTooLarge = 0x11,
    /// The control lane carried bytes that are no frame.
    MalformedFrame = 0x12,
    /// No version of the protocol is spoken by both.
    VersionUnsupported = 0x13,
    /// Hello did not come in time.
    HelloTimeout = 0x14,
    /// The certificate names no identity of this plane.
    IdentityInvalid = 0x15,
    /// The identity was revoked.
    IdentityRevoked = 0x16,
    /// More connections than the server takes.
    TooManyConnections = 0x17,
    /// Too many refused frames or reset streams.
    ExcessiveErrors = 0x18,
    /// The server is going down.
    ShuttingDown = 0x19,
    /// The client expects another cluster.
    ClusterMismatch = 0x1A,
    /// No certificate was shown.
    Unauthenticated = 0x1B,
}

impl CloseCode {
    /// The code of a number that a peer sent.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0x00 => Self::Goodbye,
            0x01 => Self::Moved,
            0x10 => Self::ProtocolViolation,
            0x11 => Self::FrameTooLarge,
            0x12 => Self::MalformedFrame,
            0x13 => Self::VersionUnsupported,
            0x14 => Self::HelloTimeout,
            0x15 => Self::IdentityInvalid,
            0x16 => Self::IdentityRevoked,
            0x17 => Self::TooManyConnections,
            0x18 => Self::ExcessiveErrors,
            0x19 => Self::ShuttingDown,
            0x1A => Self::ClusterMismatch,
            0x1B => Self::Unauthenticated,
            _ => return None,
        })
    }

    /// The error that a client reports for it.
    #[must_use]
    pub const fn error(self) -> ErrorCode {
        match self {
            Self::Goodbye | Self::Moved | Self::TooManyConnections => ErrorCode::Unavailable,
            Self::ProtocolViolation | Self::MalformedFrame | Self::HelloTimeout | Self::ExcessiveErrors => {
                ErrorCode::InvalidFrame
            }
            Self::FrameTooLarge => ErrorCode::FrameTooLarge,
            Self::VersionUnsupported => ErrorCode::UnsupportedVersion,
            Self::IdentityInvalid => ErrorCode::IdentityInvalid,
            Self::IdentityRevoked => ErrorCode::IdentityRevoked,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
            Self::ClusterMismatch => ErrorCode::ClusterMismatch,
            Self::Unauthenticated => ErrorCode::Unauthenticated,
        }
    }

    /// The text beside the number in the close frame, for people with a packet capture. It says nothing about the server.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Goodbye => "goodbye",
            Self::Moved => "the client goes on over another connection",
            Self::ProtocolViolation => "the rules of the lanes were broken",
            Self::FrameTooLarge => "a frame over the limit was announced",
            Self::MalformedFrame => "bytes that are no frame",
            Self::VersionUnsupported => "no version of the protocol in common",
            Self::HelloTimeout => "hello did not come in time",
            Self::IdentityInvalid => "the certificate names no identity of this cluster",
            Self::IdentityRevoked => "the identity was revoked",
            Self::TooManyConnections => "too many connections",
            Self::ExcessiveErrors => "too many errors",
            Self::ShuttingDown => "the server is going down",
            Self::ClusterMismatch => "another cluster was expected",
            Self::Unauthenticated => "no certificate was shown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_names_one_code() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), code);
        }
        let mut numbers: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_number_of_a_newer_server_survives() {
        assert_eq!(ErrorCode::from_number(9999).number(), 9999);
    }

    #[test]
    fn a_detail_is_cut_between_characters() {
        let refusal = Refusal::new(ErrorCode::Internal, "ü".repeat(200));
        assert_eq!(refusal.detail.len(), DETAIL_BYTES_MAX);
    }
}
