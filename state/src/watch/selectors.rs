//! Which topics an event concerns, whatever their number.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, btree_map};

use bytes::Bytes;
use hither_protocol::{KeyRange, Namespace};

use super::topic::TopicId;
use super::trie::Trie;

/// The topics of every namespace by what they watch.
#[derive(Debug, Default)]
pub(super) struct Selectors(BTreeMap<Namespace, Space>);

#[derive(Debug, Default)]
struct Space {
    /// Looked up, never walked, so the order that the hash gives it decides nothing.
    one: HashMap<Bytes, Vec<TopicId>>,
    /// The whole namespace is the empty prefix.
    prefix: Trie<Vec<TopicId>>,
    /// By their first key. A put walks those that begin at or before its key: spans are for the odd case, prefixes for
    /// the usual one.
    span: BTreeMap<(Bytes, Bytes), Vec<TopicId>>,
}

impl Selectors {
    /// The topics of exactly this range. The caller sees to it that there is one then.
    pub(super) fn entry(&mut self, namespace: &Namespace, range: &KeyRange) -> &mut Vec<TopicId> {
        let space = self.0.entry(namespace.clone()).or_default();
        match range {
            KeyRange::One(key) => space.one.entry(key.0.clone()).or_default(),
            KeyRange::Prefix(prefix) => space.prefix.entry(prefix),
            KeyRange::All => space.prefix.entry(&Bytes::new()),
            KeyRange::Span(start, end) => space.span.entry((start.clone(), end.clone())).or_default(),
        }
    }

    pub(super) fn remove(&mut self, namespace: &Namespace, range: &KeyRange, topic: TopicId) {
        let Some(space) = self.0.get_mut(namespace) else { return };
        let without = |topics: &mut Vec<TopicId>| {
            topics.retain(|&other| other != topic);
            topics.is_empty()
        };
        match range {
            KeyRange::One(key) => {
                if let Entry::Occupied(mut entry) = space.one.entry(key.0.clone())
                    && without(entry.get_mut())
                {
                    entry.remove();
                }
            }
            KeyRange::Prefix(prefix) => space.prefix.remove_if(prefix, without),
            KeyRange::All => space.prefix.remove_if(&[], without),
            KeyRange::Span(start, end) => {
                if let btree_map::Entry::Occupied(mut entry) = space.span.entry((start.clone(), end.clone()))
                    && without(entry.get_mut())
                {
                    entry.remove();
                }
            }
        }
        if space.one.is_empty() && space.prefix.is_empty() && space.span.is_empty() {
            self.0.remove(namespace);
        }
    }

    /// Appends the topics that watch `key`.
    pub(super) fn find(&self, namespace: &Namespace, key: &[u8], out: &mut Vec<TopicId>) {
        let Some(space) = self.0.get(namespace) else { return };
        if let Some(topics) = space.one.get(key) {
            out.extend_from_slice(topics);
        }
        space.prefix.visit(key, |topics| out.extend_from_slice(topics));
        for ((start, end), topics) in &space.span {
            if **start > *key {
                break;
            }
            if *key < **end {
                out.extend_from_slice(topics);
            }
        }
    }
}
