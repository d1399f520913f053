//! End to end: the real binary, the real client, and a network and a machine that do their worst.

mod bad_input;
mod cancel;
mod durability;
mod lease;
mod lifecycle;
mod registry;
mod retry;
mod strangers;
mod unreachable;
mod watch;
mod watcher;
