//! Watches: every change to those who asked for it, in order, once, without a gap, however slow they are.
//!
//! The [hub](WatchHub) sits between apply and the connections of a node. What a command changed becomes a block, in which
//! each event is encoded once; blocks make up the [change log](ChangeLog). Watches that see the same events share a
//! *topic*, whose list of batches they follow, each at its own place: ten thousand watches of one prefix are one topic
//! and one body. A watch that falls too far behind for the list reads the log; one that falls out of the log is reset
//! from the state. Then it follows the list again. Nothing waits for a watch, and nothing is queued for it.

mod batch;
mod block;
mod deliver;
mod event;
mod figures;
mod history;
mod hub;
mod listing;
mod members;
mod roll;
mod selectors;
mod spec;
mod subscriber;
mod topic;
mod trie;
mod wakes;

pub use history::{ChangeLog, HistoryRows, history_rows};
pub use hub::WatchHub;
pub use spec::{ConnectionId, Frames, HubBeat, HubConfig, Lag, SubscriberId, WatchFrame, WatchSpec};
