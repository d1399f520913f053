//! The shell of the state: what turns frames into commands and events into frames, on sockets, threads and disks.
//!
//! From the wire inwards: `quic` takes connections in, `session` cuts their streams into frames and answers them,
//! `service` lets each request in by the state's door and carries it out, the [`engine`] agrees with other nodes and
//! applies. [`identity`] says who is who, [`config`] what was set, `telemetry` what went on; [`node`] joins them.

mod admin;
pub mod config;
pub mod engine;
pub mod identity;
mod leader;
pub mod machine;
pub mod node;
mod persister;
mod quic;
pub mod raft;
mod service;
mod session;
mod telemetry;
#[doc(hidden)]
pub mod testing;

pub use config::{Config, ConfigError, Overrides};
pub use identity::{Identity, IdentityError};
pub use node::{Node, NodeError};
