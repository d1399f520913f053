//! What a watch stream carries. The frame's id is the watch.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::op;
use crate::codec::{Message, encode_body};
use crate::{Entry, Event, Key, Lineage, Revision};

/// From where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// From the revision that `Created` names: the present.
    Now,
    /// The state first, then every change after it.
    Snapshot,
    /// After this revision, which the client has already seen. A node that is behind it waits.
    After(Revision),
}

/// What a slow watcher is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Every change.
    #[default]
    Every,
    /// The newest state: changes to one key may be folded into the last of them.
    Latest,
}

/// Which kinds of events a watch sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Filter {
    /// Writes.
    pub puts: bool,
    /// Deletions.
    pub deletes: bool,
    /// Changes of standing of the leases of watched keys.
    pub liveness: bool,
}

impl Default for Filter {
    /// Writes and deletions.
    fn default() -> Self {
        Self { puts: true, deletes: true, liveness: false }
    }
}

/// The first frame of a watch stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The revision that the watch starts after. With a snapshot, the snapshot's.
    pub revision: Revision,
    /// The history that it belongs to.
    pub lineage: Lineage,
}

/// A page of the state that the watch starts from, in order of `mod_revision`. All pages have one revision; the last
/// has no `MORE` flag, and only then is the client at that revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// The revision of the snapshot.
    pub revision: Revision,
    /// Entries.
    pub entries: Vec<Entry>,
}

/// Every matching event of the revisions in the half-open interval `(from, to]`.
///
/// The client's position must not be below `from`: that would be a gap. It becomes `to`. A revision is never split over
/// two batches, but over several frames, all but the last with the `MORE` flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The interval begins after this revision.
    pub from: Revision,
    /// The interval ends with this revision.
    pub to: Revision,
    /// Whether changes to one key were folded.
    pub folded: bool,
    /// The events, by revision, then by their order in it.
    pub events: Vec<Event>,
}

impl Batch {
    /// The body of a batch whose events are already encoded, one after the other: what `encode_body` of the whole
    /// would give. The server encodes each event once for all its watchers.
    #[must_use]
    pub fn encode_parts(from: Revision, to: Revision, folded: bool, count: u64, events: &[Bytes]) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + events.iter().map(Bytes::len).sum::<usize>());
        encode_body(&mut out, &(from, to, folded, count));
        for event in events {
            out.extend_from_slice(event);
        }
        out.freeze()
    }
}

/// History between the client's revision and this one is gone. A page of the difference: the keys that exist and, of
/// those, the entries written after `base`. The client deletes what is not listed. All pages have one revision; the
/// last has no `MORE` flag.
///
/// A page that does not go on with the reset before it begins another: a list that a server could not keep until it was
/// sent is begun anew, and what came of it, be it a reset or the snapshot that the watch starts from, is void.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetPage {
    /// The revision of the state that this describes.
    pub revision: Revision,
    /// The client's revision; zero if its history is another one, so that every entry is sent.
    pub base: Revision,
    /// The history that `revision` belongs to.
    pub lineage: Lineage,
    /// Keys that exist and were last written at or before `base`.
    pub unchanged: Vec<Key>,
    /// Entries written after `base`, in order of `mod_revision` over all pages.
    pub changed: Vec<Entry>,
}

/// The last frame of a watch stream that the server ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub reason: EndReason,
}

/// Why the server ended a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// The client cancelled it.
    Cancelled,
    /// The identity may no longer see the keys.
    Forbidden,
    /// The server is going down; resume elsewhere.
    ShuttingDown,
}

impl Message for Created {
    const OP: u16 = op::CREATED;
}
impl Message for SnapshotPage {
    const OP: u16 = op::SNAPSHOT;
}
impl Message for Batch {
    const OP: u16 = op::BATCH;
}
impl Message for ResetPage {
    const OP: u16 = op::RESET;
}
impl Message for End {
    const OP: u16 = op::END;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Previous;

    #[test]
    fn a_batch_of_encoded_events_is_the_batch_of_the_events() {
        let event =
            |revision| Event::Delete { key: "a".into(), revision: Revision(revision), previous: Previous::NotAsked };
        let whole = Batch { from: Revision(3), to: Revision(300), folded: false, events: vec![event(5), event(300)] };
        let mut bytes = BytesMut::new();
        encode_body(&mut bytes, &whole);
        let parts: Vec<Bytes> = whole
            .events
            .iter()
            .map(|event| {
                let mut out = BytesMut::new();
                encode_body(&mut out, event);
                out.freeze()
            })
            .collect();
        assert_eq!(Batch::encode_parts(whole.from, whole.to, false, 2, &parts), bytes.freeze());
    }
}
