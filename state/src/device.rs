//! The two disks, as traits: what the server asks of storage, and what tests put in its place.
//!
//! The sync rules are the contract. What `write` with `sync` has returned for survives any crash. What was written
//! without it may be lost by a crash, but only as a suffix: if something survived, everything before it did. After an
//! error from `write`, `flush` or `replace` the process ends; nothing is retried.

use std::io;

use bytes::Bytes;

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod memory;

pub use memory::{MemoryLog, MemoryLogReader, MemoryState};

/// An entry of the log, as the device keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its index: one more than that of the record before.
    pub index: u64,
    /// What it says, opaque to the device.
    pub payload: Bytes,
}

/// One step of the log. Steps take effect in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// Adds records after the last one.
    Append(Vec<LogRecord>),
    /// Drops every record after this index; all of them if it is none and nothing was purged.
    TruncateAfter(Option<u64>),
    /// Drops every record up to this index; `last` is what to remember of the last one dropped.
    Purge {
        /// The index.
        up_to: u64,
        /// Opaque.
        last: Bytes,
    },
    /// Replaces the vote.
    Vote(Bytes),
    /// Replaces the mark of what is committed. Advice: may be lost.
    Committed(Bytes),
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The vote.
    pub vote: Option<Bytes>,
    /// The mark of what is committed.
    pub committed: Option<Bytes>,
    /// The last purge: index and what was to be remembered.
    pub purged: Option<(u64, Bytes)>,
    /// The first and the last record, if there are any.
    pub range: Option<(u64, u64)>,
}

/// The disk of the log. Owned by the one thread that writes it.
pub trait LogDevice: Send + 'static {
    /// Reads while the owner writes.
    type Reader: LogReader;

    /// What is there. Called once, before anything else. Every record is checked.
    ///
    /// # Errors
    /// `InvalidData` if the log is damaged or ends before what was acknowledged: this node must not take part.
    fn recover(&mut self) -> io::Result<Recovered>;

    /// A reader.
    fn reader(&self) -> Self::Reader;

    /// Carries out `items` in order; durably if `sync`, with one wait for the disk. A crash before it returns may leave
    /// the first of them without the rest.
    ///
    /// # Errors
    /// The process must end.
    fn write(&mut self, items: &[LogItem], sync: bool) -> io::Result<()>;
}

/// Reads records that were written, durably or not.
pub trait LogReader: Clone + Send + Sync + 'static {
    /// Records from `first`, as many as are there below `end`, but no more than `bytes_max` of payload after the first.
    ///
    /// # Errors
    /// `InvalidData` if a record is damaged or missing from the middle.
    fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<LogRecord>>;
}

/// Which table of the state a row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Keys.
    Kv,
    /// Leases.
    Lease,
    /// Sessions and their outcomes.
    Session,
    /// The change log.
    History,
}

impl Space {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Kv, Self::Lease, Self::Session, Self::History];

    /// The name of the table on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Lease => "lease",
            Self::Session => "session",
            Self::History => "history",
        }
    }
}

/// One change to the rows of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Writes a row.
    Put(Space, Bytes, Bytes),
    /// Deletes a row.
    Delete(Space, Bytes),
    /// Deletes the rows from the first key, which it includes, to the second, which it does not.
    DeleteRange(Space, Bytes, Bytes),
}

/// The disk of the state: a replica on disk of what is in memory, some way behind it. Owned by the persister.
pub trait StateDevice: Send + 'static {
    /// The meta row of the last durable cut; none if nothing was ever written.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged.
    fn meta(&self) -> io::Result<Option<Bytes>>;

    /// Hands every row of `space` to `visit`, in order of keys.
    ///
    /// # Errors
    /// `InvalidData` if a row is damaged; what `visit` returns.
    #[expect(clippy::type_complexity, reason = "an alias would hide what a device has to call")]
    fn scan(&self, space: Space, visit: &mut dyn FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()>;

    /// Makes `changes` and replaces the meta row, in one step, in order. Not durable before [`flush`](Self::flush).
    ///
    /// # Errors
    /// The process must end.
    fn write(&mut self, changes: &[RowChange], meta: &[u8]) -> io::Result<()>;

    /// Makes durable what was written.
    ///
    /// # Errors
    /// The process must end.
    fn flush(&mut self) -> io::Result<()>;

    /// Replaces everything by these rows (in order of space and key) and this meta row, durably and in one step: a
    /// crash leaves the old state or the new one.
    ///
    /// # Errors
    /// The process must end.
    fn replace(&mut self, rows: &mut dyn Iterator<Item = (Space, Bytes, Bytes)>, meta: &[u8]) -> io::Result<()>;
}
