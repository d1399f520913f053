//! What the end-to-end tests stand on: a relay that loses and spoils datagrams, real nodes that can be killed, and
//! waiting for conditions instead of sleeping.
//!
//! The tests are in `tests/`; each goes over the real binary and the crate `hither`. In a harness a panic is how a
//! failure is told.

pub mod node;
pub mod raw;
pub mod relay;
pub mod wait;
