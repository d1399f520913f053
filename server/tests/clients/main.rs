//! What a client sees of a node: a bare QUIC client that speaks frames, against a real node over devices in memory.

#![expect(unreachable_pub, reason = "the crate is a test: everything in it is for its own rooms")]

mod bad_input;
mod drain;
mod greeting;
mod harness;
mod identities;
mod leases;
mod metrics;
mod requests;
mod watches;
