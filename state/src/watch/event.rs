//! An event as it is written: what the wire and the rows of history have, without a copy of its key and its value.

use hither_protocol::{Entry, Key, LeaseId, LeaseState, Namespace, Previous, Revision};
use serde::Serialize;

use crate::Change;

/// An [`Event`](hither_protocol::Event) that borrows. Its variants and fields are in the same order, so that its bytes are
/// the same. The entry before it is not asked for.
#[derive(Debug, Serialize)]
pub(super) enum EventRef<'a> {
    Put { entry: &'a Entry, previous: Previous },
    Delete { key: &'a Key, revision: Revision, previous: Previous },
    Liveness { lease: LeaseId, state: LeaseState, revision: Revision },
}

impl<'a> EventRef<'a> {
    pub(super) const fn put(entry: &'a Entry) -> Self {
        Self::Put { entry, previous: Previous::NotAsked }
    }

    pub(super) const fn delete(key: &'a Key, revision: Revision) -> Self {
        Self::Delete { key, revision, previous: Previous::NotAsked }
    }

    pub(super) const fn liveness(lease: LeaseId, state: LeaseState, revision: Revision) -> Self {
        Self::Liveness { lease, state, revision }
    }
}

/// The event of a change; none if no watch sees the change.
pub(super) fn event(change: &Change, revision: Revision) -> Option<(&Namespace, EventRef<'_>)> {
    match change {
        Change::Put { namespace, entry, .. } => Some((namespace, EventRef::put(entry))),
        Change::Delete { namespace, previous } => Some((namespace, EventRef::delete(&previous.key, revision))),
        Change::Liveness { lease, state, namespace, .. } => {
            Some((namespace, EventRef::liveness(*lease, *state, revision)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use hither_protocol::codec::encode_body;
    use hither_protocol::{Event, Version};

    use super::*;

    #[test]
    fn an_event_that_borrows_has_the_bytes_of_one_that_owns() {
        let (lease, state, revision) = (LeaseId(7), LeaseState::Suspect, Revision(300));
        let entry = Entry {
            key: "key".into(),
            value: "value".into(),
            create_revision: Revision(2),
            mod_revision: revision,
            version: Version(3),
            lease: Some(lease),
        };
        let (key, previous) = (entry.key.clone(), Previous::NotAsked);
        let pairs = [
            (EventRef::put(&entry), Event::Put { entry: entry.clone(), previous: previous.clone() }),
            (EventRef::delete(&key, revision), Event::Delete { key: key.clone(), revision, previous }),
            (EventRef::liveness(lease, state, revision), Event::Liveness { lease, state, revision }),
        ];
        for (borrows, owns) in pairs {
            let [mut borrowed, mut owned] = [BytesMut::new(), BytesMut::new()];
            encode_body(&mut borrowed, &borrows);
            encode_body(&mut owned, &owns);
            assert_eq!(borrowed, owned, "{owns:?}");
        }
    }
}
