//! Which topics an event concerns, whatever their number.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};

use bytes::Bytes;
use hither_protocol::{KeyRange, Namespace};
use rb_interval_map::{Interval, IntervalMap};

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
    /// A balanced tree that knows how far each of its branches reaches, so a put passes by those that end before its key.
    span: IntervalMap<Bytes, Vec<TopicId>>,
    /// Spans that end where they begin. Nothing is in them, and the tree takes none, but their topics are found again.
    empty: HashMap<Bytes, Vec<TopicId>>,
}

impl Space {
    fn is_empty(&self) -> bool {
        self.one.is_empty() && self.prefix.is_empty() && self.span.is_empty() && self.empty.is_empty()
    }
}

impl Selectors {
    /// The topics of exactly this range. The caller sees to it that there is one then.
    pub(super) fn entry(&mut self, namespace: &Namespace, range: &KeyRange) -> &mut Vec<TopicId> {
        let space = self.0.entry(namespace.clone()).or_default();
        match range {
            KeyRange::One(key) => space.one.entry(key.0.clone()).or_default(),
            KeyRange::Prefix(prefix) => space.prefix.entry(prefix),
            KeyRange::All => space.prefix.entry(&Bytes::new()),
            KeyRange::Span(start, end) if start >= end => space.empty.entry(start.clone()).or_default(),
            KeyRange::Span(start, end) => {
                space.span.entry(Interval::new(start.clone(), end.clone())).or_insert(Vec::new())
            }
        }
    }

    pub(super) fn remove(&mut self, namespace: &Namespace, range: &KeyRange, topic: TopicId) {
        let Some(space) = self.0.get_mut(namespace) else { return };
        let without = |topics: &mut Vec<TopicId>| {
            topics.retain(|&other| other != topic);
            topics.is_empty()
        };
        match range {
            KeyRange::One(key) => remove_if(&mut space.one, key.0.clone(), without),
            KeyRange::Prefix(prefix) => space.prefix.remove_if(prefix, without),
            KeyRange::All => space.prefix.remove_if(&[], without),
            KeyRange::Span(start, end) if start >= end => remove_if(&mut space.empty, start.clone(), without),
            KeyRange::Span(start, end) => {
                let span = Interval::new(start.clone(), end.clone());
                if space.span.get_mut(&span).is_some_and(without) {
                    space.span.remove(&span);
                }
            }
        }
        if space.is_empty() {
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
        if !space.span.is_empty() {
            // No key lies between the two, so what overlaps them holds the key.
            let only = Interval::new(Bytes::copy_from_slice(key), Bytes::from([key, &[0]].concat()));
            space.span.filter_iter(&only).for_each(|(_, topics)| out.extend_from_slice(topics));
        }
    }
}

fn remove_if(lists: &mut HashMap<Bytes, Vec<TopicId>>, key: Bytes, without: impl FnOnce(&mut Vec<TopicId>) -> bool) {
    if let Entry::Occupied(mut entry) = lists.entry(key)
        && without(entry.get_mut())
    {
        entry.remove();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Short ones of three letters, the empty one and the lowest byte among them, so that they meet, nest and touch.
    fn text() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(prop::sample::select(vec![0, b'a', b'b']), 0..4).prop_map(Bytes::from)
    }

    fn span() -> impl Strategy<Value = KeyRange> {
        (text(), text()).prop_map(|(one, other)| KeyRange::Span(one.clone().min(other.clone()), one.max(other)))
    }

    proptest! {
        /// However spans come and go, a key finds those that hold it and no other, each once.
        #[test]
        fn a_key_finds_the_spans_that_hold_it(
            steps in prop::collection::vec((span(), prop::bool::weighted(0.4)), 1..200),
            keys in prop::collection::vec(text(), 20),
        ) {
            let namespace = Namespace::default();
            let mut selectors = Selectors::default();
            let mut present: Vec<(KeyRange, TopicId)> = Vec::new();
            for (step, (range, leaves)) in (0..).zip(steps) {
                if leaves && !present.is_empty() {
                    let (range, topic) = present.swap_remove(step as usize % present.len());
                    selectors.remove(&namespace, &range, topic);
                } else {
                    selectors.entry(&namespace, &range).push(TopicId(step));
                    present.push((range, TopicId(step)));
                }
            }
            for key in keys {
                let mut found = Vec::new();
                selectors.find(&namespace, &key, &mut found);
                let mut held: Vec<_> = present.iter().filter(|(range, _)| range.contains(&key)).map(|&(_, topic)| topic).collect();
                found.sort_unstable();
                held.sort_unstable();
                prop_assert_eq!(found, held);
            }
            present.iter().for_each(|(range, topic)| selectors.remove(&namespace, range, *topic));
            prop_assert!(selectors.0.is_empty(), "nothing stays behind");
        }
    }
}
