//! The server's heart: what the words of the log mean.
//!
//! Pure: no socket, thread, clock or randomness. It is driven by the server's shell with three kinds of calls: `handle_*`
//! takes input, `poll_*` hands out output, [`State::apply`] takes the next command of the log. Time is an argument.
//! Whatever decides an outcome comes from the command or the state, and maps are walked in order, so that two replicas
//! that apply the same log are equal to the byte.
//!
//! A request becomes a [`Command`] at the [`door`]; an applied command becomes a [`Delta`], the hinge of the house:
//! storage writes it (its rows are the [`image`] of the state), the [watch hub](watch) publishes it, tests compare it.

#![forbid(unsafe_code)]

mod apply;
mod command;
mod delta;
pub mod device;
pub mod door;
pub mod image;
mod keyset;
mod keyspace;
mod lease;
mod leases;
mod lessor;
mod limits;
mod pins;
mod range;
mod session;
mod state;
mod store;
pub mod watch;

pub use command::{Action, Command, DecodeError, Position, decode_batch, encode_batch};
pub use delta::{Change, Delta, LeaseRecord, SessionRecord};
pub use lease::LeaseView;
pub use lessor::{LEASES_PER_PROPOSAL_MAX, Lessor, LessorConfig, PROPOSALS_IN_FLIGHT_MAX};
pub use limits::{KEY_OVERHEAD_BYTES, StateLimits};
pub use pins::Pin;
pub use range::{PAGE_COUNT_MAX, PAGE_KEYS_MAX, RangePage, RangeQuery};
pub use session::SessionView;
pub use state::{Applied, State};
