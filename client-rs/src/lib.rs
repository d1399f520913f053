//! The client of Hither: service discovery and coordination.
//!
//! ```no_run
//! # async fn example() -> Result<(), hither::Error> {
//! let client = hither::connect().await?;
//! client.put("config/greeting", "hello").await?;
//! let mut watch = client.watch(hither::KeyRange::prefix("config/")).await?;
//! while let Some(update) = watch.next().await {
//!     for event in update?.events {
//!         println!("{event:?}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What to know
//!
//! - A [`Client`] is a cheap handle: clone it, share it between tasks, call it with `&self`. One background task owns
//!   its connection; it ends when the last handle, watch and lease is gone, or with [`Client::close`].
//! - Every call has a deadline (5 s unless said otherwise) that covers everything: waiting for a connection, sending,
//!   retrying, answering. Dropping the future of a call takes it back at the server too.
//! - Writes are retried under one number after a reconnect, on whichever server, and take effect once.
//! - A watch goes on where it was after any reconnect. It never skips or repeats an event; see [`Watch`].
//! - Services find each other: [`Client::register`] declares an instance, and again after any loss;
//!   [`Client::discover`], [`Client::pick`] and [`Client::watch_service`] answer out of a view that is kept here, also
//!   when every server is gone.
//! - An [`Error`] says its number, and whether the call may have changed something.
//!
//! # Features
//!
//! None is on by default. `axum` serves registered and leaves in good order; `reqwest` asks `svc://service/path` and
//! tries other instances where that is safe; `tower` feeds its balancers with the instances of a service; `tonic` makes
//! a channel over them.

#![forbid(unsafe_code)]

mod admin;
mod builder;
mod client;
mod clock;
mod commands;
pub mod context;
mod driver;
mod enrol;
mod files;
mod frameworks;
mod identity;
mod kv;
mod lease;
mod mailbox;
mod registry;
mod tls;
mod txn;
mod value;
mod watch;

pub use admin::{ClientAdded, ClientAdds};
pub use builder::{ClientBuilder, connect};
pub use client::{Client, States};
pub use commands::{apart, together};
#[cfg(feature = "axum")]
pub use frameworks::axum;
#[cfg(feature = "reqwest")]
pub use frameworks::reqwest;
#[cfg(feature = "tonic")]
pub use frameworks::tonic;
#[cfg(feature = "tower")]
pub use frameworks::tower;
pub use identity::Identity;
pub use kv::{Deletes, Gets, Puts, Ranges};
pub use lease::Lease;
pub use registry::{
    Discovers, Pick, Registered, Registration, RegistrationState, Service, ServiceUpdate, ServiceWatch, ServiceWatches,
    Waits,
};
pub use txn::Txns;
pub use value::Value;
pub use watch::{Watch, Watches};

pub use hither_client_core::{
    Delta, Endpoint, Enrolment, Error, Instance, InstanceFilter, Invalid, Metrics, NoInstances, Options,
    ServiceEndpoint, ServiceView, SessionState, Source, Status as InstanceStatus, Update, UpdateKind, Url, ViewState,
    format_duration, parse_duration,
};
pub use hither_protocol::error::LeaderHint;
pub use hither_protocol::message::{
    ClientInfo, Compare, Consistency, Delete, DeleteReply, Filter, GetReply, LeaseGrantReply, LeaseInfoReply,
    LeaseKind, LeaseRenewReply, LeaseRevokeReply, LeaseStatus, Mode, Projection, Put, PutReply, RangeReply, Relation,
    Role, Stamp, Start, StatusReply, TxnOp, TxnReply, TxnResult,
};
pub use hither_protocol::{
    Applied, ClusterId, Entry, ErrorCode, Event, Key, KeyRange, LeaseId, LeaseState, Lineage, Namespace, NodeId,
    Previous, Retry, Revision, SessionId, UnixMillis, Version, limits,
};
