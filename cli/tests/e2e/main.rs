//! The program `hither` as people and scripts use it: real processes, real exit codes, bytes on pipes.

#![allow(clippy::unwrap_used, reason = "in tests it is the clearest failure there is")]

mod data;
mod home;
mod identity;
mod registry;
mod server;
mod watch;
