//! What a watch hands to the application.

use hither_protocol::{Event, Revision};

/// The next step of a watch: whole revisions, in order, none twice, none left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The watch has now told everything up to this revision. Larger than that of the update before; equal to it only
    /// for a reset that found nothing changed.
    pub revision: Revision,
    /// How to read the events.
    pub kind: UpdateKind,
    /// By revision, then in the order of the operations that made them.
    pub events: Vec<Event>,
    /// Changes to one key were folded into the last of them.
    pub folded: bool,
}

/// How to read the events of an [`Update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpdateKind {
    /// The whole state: one `Put` for each key, in order of `mod_revision`. Forget what was known before.
    Snapshot,
    /// What changed since the last update.
    Changes,
    /// What changed since the last update, found by comparing states, since the server no longer has the history
    /// between: intermediate values are missing, the result is exact. A watch that began without a snapshot learns
    /// only of the deletion of keys that it has told of or that were there at a reset before this one.
    Reset,
}

impl UpdateKind {
    /// The word for it, as command line and JSON show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Changes => "changes",
            Self::Reset => "reset",
        }
    }
}

/// How the client stands to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// A server answers.
    Connected,
    /// No server answers; the client looks for one. Leases and locks still hold until `Lost`.
    Suspended,
    /// The session is over, and with it every lease bound to it. The client goes on looking for a server; the next
    /// mutation opens another session.
    Lost,
    /// The client was closed.
    Closed,
}

impl SessionState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Suspended => "suspended",
            Self::Lost => "lost",
            Self::Closed => "closed",
        }
    }
}

/// What a client has counted since it was made. All but the last three only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Connections that were greeted by a server.
    pub connects: u64,
    /// Of these, those after the first.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub dial_failures: u64,
    /// Sessions that were lost.
    pub sessions_lost: u64,
    /// Requests answered, refused or given up.
    pub requests: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests whose deadline passed.
    pub timeouts: u64,
    /// Watches that went on after a reconnect where they had been.
    pub watch_resumes: u64,
    /// Batches that did not begin where the watch was, so that it was opened again.
    pub watch_gaps: u64,
    /// Events that came a second time and were dropped.
    pub watch_duplicates: u64,
    /// Times that history was gone, so that the difference was told instead.
    pub watch_resets: u64,
    /// Events handed to the application.
    pub events: u64,
    /// Requests that wait for an answer now.
    pub in_flight: u64,
    /// Watches of the application that are open now.
    pub watches: u64,
    /// Watch streams open now: fewer, where identical watches share one.
    pub watch_streams: u64,
}
