//! What is wrong, in a word and in sentences.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A broken promise, in one word: what the tests of the checker itself compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event that matches was left out.
    Missing,
    /// An event came twice.
    Doubled,
    /// An event came that nothing in history explains.
    Phantom,
    /// The events are the right ones in another order.
    Order,
    /// A reset or a snapshot does not lead to the state at its revision.
    Difference,
    /// An acknowledged write is not in history, or is something else there.
    Lost,
    /// One request took effect twice.
    Twice,
    /// A lease ended before its time.
    Early,
    /// A request was refused, and there was no reason.
    Refused,
    /// A watcher did not get to the end, or a watch ended by itself.
    Stuck,
    /// What was done to the system did not happen, so that nothing is proved.
    Idle,
    /// The server did not come back.
    Down,
}

#[cfg(feature = "planted")]
impl Kind {
    /// Every one of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Missing,
        Self::Doubled,
        Self::Phantom,
        Self::Order,
        Self::Difference,
        Self::Lost,
        Self::Twice,
        Self::Early,
        Self::Refused,
        Self::Stuck,
        Self::Idle,
        Self::Down,
    ];
}

/// One finding, with all that is needed to look into it.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// Whose promise: a watcher, the reference reader, a writer.
    pub(crate) who: String,
    /// The first difference, then what was around it.
    pub(crate) what: String,
}

impl Finding {
    pub(crate) fn new(kind: Kind, who: impl Into<String>, what: impl Into<String>) -> Self {
        Self { kind, who: who.into(), what: what.into() }
    }

    /// The same with more lines.
    pub(crate) fn with(mut self, context: &str) -> Self {
        self.what.push('\n');
        self.what.push_str(context);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}: {}", self.kind, self.who, self.what)
    }
}

/// The first finding of a run, which ends it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Arc<(Mutex<Option<Finding>>, Notify)>);

impl Findings {
    /// Tells of a finding. Those after the first are consequences, more often than not.
    pub(crate) fn tell(&self, finding: Finding) {
        self.0.0.lock().get_or_insert(finding);
        self.0.1.notify_one();
    }

    /// Waits for the first.
    pub(crate) async fn first(&self) -> Finding {
        loop {
            let told = self.0.1.notified();
            if let Some(finding) = self.0.0.lock().clone() {
                return finding;
            }
            told.await;
        }
    }
}
