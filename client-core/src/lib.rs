//! The client's heart: one state machine that every language uses, and nothing that touches a socket.
//!
//! [`Core`] is told what happened (`handle_*`) and asked what to do (`poll_*`). It owns no clock, no task and no
//! randomness but its seed; the shell around it (crate `hither`) owns the sockets. So every promise of a client is
//! tested here on one clock: reconnecting, retrying under one number, watches that lose nothing, leases that are
//! reported lost in time.

#![forbid(unsafe_code)]

mod backoff;
mod call;
mod core;
mod duration;
mod error;
mod instance;
mod link;
mod options;
mod pool;
mod registry;
mod session;
mod spec;
mod stream;
mod update;
mod url;
mod view;

pub use call::has_effect;
pub use core::{Action, Core, Note, Signal};
pub use duration::{format_duration, parse_duration};
pub use error::Error;
pub use instance::{Instance, SCHEMA, ServiceEndpoint, Status, check_service};
pub use link::LinkId;
pub use options::{BEAT_DEFAULT, BEATS_MISSED_MAX, IN_FLIGHT_MAX, KEEP_ALIVE_HOLDING, KEEP_ALIVE_IDLE, Options};
pub use pool::no_answer;
pub use registry::{
    Declarations, Delta, Freshness, InstanceFilter, Invalid, Need, NoInstances, RegistryNote, Roster, RosterOptions,
    ServiceView, Source, TOMBSTONE_TTL, Tie, ViewState, tombstone,
};
pub use session::OnLoss;
pub use spec::WatchSpec;
pub use update::{Metrics, SessionState, Update, UpdateKind};
pub use url::{Endpoint, Enrolment, Url, from_hex, to_hex};
