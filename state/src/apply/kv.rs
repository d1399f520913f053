//! Writing and deleting keys.

use std::sync::Arc;

use hither_protocol::limits::FRAME_BYTES_MAX;
use hither_protocol::message::{Delete, DeleteReply, Put, PutReply};
use hither_protocol::{Entry, ErrorCode, Key, KeyRange, LeaseId, Namespace, Refusal};

use super::{Step, refuse};
use crate::Change;
use crate::keyspace::Write;
use crate::store::cost;

/// Most bytes of entries in the answer to one command, so that it fits a frame with its envelope.
const ANSWER_BYTES_MAX: usize = FRAME_BYTES_MAX - 64 * 1024;
/// What an entry takes in an answer beside its key and value: lengths, four numbers, a lease.
const ENTRY_ENVELOPE_BYTES: usize = 64;

impl Step<'_> {
    pub(super) fn put(&mut self, put: &Put) -> Result<PutReply, Refusal> {
        self.check_puts([put])?;
        Ok(self.write(put))
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Result<DeleteReply, Refusal> {
        if delete.previous {
            check_answer(self.range_bytes(&delete.range))?;
        }
        Ok(self.erase(delete))
    }

    /// Whether these may all be written: their leases exist, and the state has room.
    pub(super) fn check_puts<'p>(&self, puts: impl IntoIterator<Item = &'p Put> + Clone) -> Result<(), Refusal> {
        for lease in puts.clone().into_iter().filter_map(|put| put.lease) {
            self.check_lease(lease)?;
        }
        let limit = self.state.limits.state_bytes_max;
        let bytes = self.state.store.bytes();
        let added: u64 = puts.clone().into_iter().map(|put| cost(put.key.as_bytes(), &put.value)).sum();
        if bytes + added <= limit {
            return Ok(());
        }
        let replaced = |put: &Put| self.entry(&put.key).map_or(0, |entry| cost(entry.key.as_bytes(), &entry.value));
        let replaced: u64 = puts.into_iter().map(replaced).sum();
        // What does not grow is let in even beyond the limit: the way back is open.
        if added <= replaced || bytes + added - replaced <= limit {
            return Ok(());
        }
        refuse(
            ErrorCode::QuotaExceeded,
            format!(
                "the state has {bytes} of {limit} bytes (each key counts {} beside itself and its value) and this needs \
                 {} more: delete keys or raise the limit",
                crate::KEY_OVERHEAD_BYTES,
                added - replaced,
            ),
        )
    }

    fn check_lease(&self, id: LeaseId) -> Result<(), Refusal> {
        let lease = self.state.leases.get(id);
        // By the revision, so that a log that is carried out again comes to the same.
        #[cfg(feature = "planted")]
        let lease = lease.filter(|_| {
            self.revision.0 % 8 != 0 || !hither_protocol::planted::strikes(hither_protocol::planted::Bug::LeaseMissed)
        });
        // A lease of another namespace is not found, as if it were not there: namespaces do not see each other.
        match lease {
            Some(lease) if lease.record.namespace == *self.namespace => Ok(()),
            _ => refuse(
                ErrorCode::LeaseNotFound,
                format!("lease {id} does not exist in this namespace, or no longer does: grant another"),
            ),
        }
    }

    /// Writes a key that may be written.
    pub(super) fn write(&mut self, put: &Put) -> PutReply {
        let write = Write { key: &put.key, value: &put.value, lease: put.lease, revision: self.revision };
        let (entry, previous) = self.state.store.put(self.namespace, write);
        let previous = previous.map(Arc::new);
        if let Some(previous) = &previous {
            self.state.hash.remove_entry(self.namespace, previous);
        }
        self.state.hash.add_entry(self.namespace, &entry);
        let attached = previous.as_ref().and_then(|previous| previous.lease);
        if attached != put.lease {
            self.detach(attached, &entry.key);
            if let Some(lease) = put.lease.and_then(|lease| self.state.leases.get_mut(lease)) {
                lease.keys.insert(entry.key.clone());
            }
        }
        self.moved = true;
        let reply =
            PutReply { revision: self.revision, previous: previous.as_deref().filter(|_| put.previous).cloned() };
        self.changes.push(Change::Put { namespace: self.namespace.clone(), entry, previous });
        reply
    }

    /// Deletes keys.
    pub(super) fn erase(&mut self, delete: &Delete) -> DeleteReply {
        let mut reply = DeleteReply { revision: self.revision, deleted: 0, previous: Vec::new() };
        let mut remove = |step: &mut Self, key: &Key| {
            if let Some(entry) = step.remove(step.namespace, key) {
                reply.deleted += 1;
                if delete.previous {
                    reply.previous.push(Entry::clone(&entry));
                }
            }
        };
        if let KeyRange::One(key) = &delete.range {
            remove(self, key);
        } else {
            let walk = self.state.store.walk(self.namespace, &delete.range, false);
            let doomed: Vec<Key> = walk.map(|entry| entry.key.clone()).collect();
            doomed.iter().for_each(|key| remove(self, key));
        }
        reply.revision = self.reached();
        reply
    }

    /// Removes a key and tells of it.
    pub(super) fn remove(&mut self, namespace: &Namespace, key: &Key) -> Option<Arc<Entry>> {
        let previous = Arc::new(self.state.store.remove(namespace, key.as_bytes(), self.revision)?);
        self.state.hash.remove_entry(namespace, &previous);
        self.detach(previous.lease, &previous.key);
        self.moved = true;
        self.changes.push(Change::Delete { namespace: namespace.clone(), previous: previous.clone() });
        Some(previous)
    }

    fn detach(&mut self, lease: Option<LeaseId>, key: &Key) {
        if let Some(lease) = lease.and_then(|lease| self.state.leases.get_mut(lease)) {
            lease.keys.remove(key);
        }
    }

    pub(super) fn entry(&self, key: &Key) -> Option<&Entry> {
        self.state.store.get(self.namespace, key.as_bytes())
    }

    /// What the entries of a range take in an answer.
    pub(super) fn range_bytes(&self, range: &KeyRange) -> usize {
        let walk = self.state.store.walk(self.namespace, range, false);
        sum_answer(walk.map(|entry| answer_bytes(&entry.key, &entry.value)))
    }
}

/// The sum, but no further than to where the answer is too large in any case.
pub(super) fn sum_answer(entries: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    for entry in entries {
        bytes += entry;
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
    }
    bytes
}

/// What an entry takes in an answer, and a little more.
pub(super) const fn answer_bytes(key: &Key, value: &bytes::Bytes) -> usize {
    key.0.len() + value.len() + ENTRY_ENVELOPE_BYTES
}

/// Whether an answer of so many bytes can be given. Asked before anything is changed.
pub(super) fn check_answer(bytes: usize) -> Result<(), Refusal> {
    if bytes <= ANSWER_BYTES_MAX {
        return Ok(());
    }
    refuse(
        ErrorCode::InvalidArgument,
        format!(
            "the answer would have more than {ANSWER_BYTES_MAX} bytes: ask for fewer entries, for keys only, or without \
             the previous ones. Nothing was changed"
        ),
    )
}
