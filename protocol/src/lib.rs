//! The language of Hither: nouns, messages and frames.
//!
//! Everything that crosses a wire or a language border is named here and nowhere else. The crate is pure: it owns no
//! socket, clock or thread, so every other room may depend on it, and its tests run in seconds.
//!
//! # The wire on one page
//!
//! A frame is a 16-byte header ([`frame::Header`]) and a body. The header's `op` and `version` name one frozen Rust
//! type, whose postcard encoding is the body. Postcard does not describe itself: an added field can decode without an
//! error into wrong data. So a body never changes once it is released: a new shape is a new version of its op, enums
//! only append variants, and what must stay open travels as tagged [`Context`](message::Context) fields.
//!
//! One connection carries
//!
//! - the **control lane**, the first bidirectional stream: Hello, Welcome, keep-alives, subscribe, cancel, beats;
//! - the **request lane**, the second: requests and replies, pipelined, matched by request number;
//! - a bidirectional stream of its own for each request whose body is over [`limits::LANE_BODY_BYTES_MAX`];
//! - a unidirectional stream opened by the server for each watch, which starts with `Created`;
//! - a unidirectional stream opened by the server for each reply too large for the lane.
//!
//! Golden byte files of every released version are decoded by the tests for ever.

#![forbid(unsafe_code)]

pub mod codec;
pub mod error;
pub mod frame;
mod id;
mod key;
pub mod limits;
pub mod message;
mod namespace;
#[cfg(feature = "planted")]
pub mod planted;
mod revision;
mod time;

mod entry;
mod event;

pub use entry::Entry;
pub use error::{Applied, ErrorCode, Refusal, Retry};
pub use event::{Event, LeaseState, Previous};
pub use id::{ClusterId, LeaseId, NodeId, RequestNumber, SequenceNumber, SessionId, WatchId};
pub use key::{Key, KeyRange};
pub use namespace::{Namespace, is_name};
pub use revision::{Lineage, Revision, Version};
pub use time::{Moment, UnixMillis};

/// ALPN of the client plane.
pub const ALPN_CLIENT: &[u8] = b"hither/1";
/// ALPN of enrolment, the only one that takes a client without a certificate.
pub const ALPN_ENROLL: &[u8] = b"hither-enroll/1";
/// ALPN between nodes.
pub const ALPN_PEER: &[u8] = b"hither-peer/1";

/// UDP port of the client plane.
pub const PORT_CLIENT: u16 = 7400;
/// UDP port between nodes.
pub const PORT_PEER: u16 = 7401;
/// TCP port of the admin HTTP server.
pub const PORT_ADMIN: u16 = 7402;

/// The DNS name that every server certificate carries: clients pin the CA, not an address.
pub const SERVER_NAME: &str = "hither";
