//! Prefixes, found by a key that begins with them.

use std::collections::BTreeMap;

use bytes::Bytes;

/// A radix tree from prefixes to values: all prefixes of a key are found in one descent, however many there are beside.
///
/// Nodes refer to each other by number: a chain of prefixes can be as deep as a key is long, and nothing here recurses.
#[derive(Debug)]
pub(super) struct Trie<V> {
    nodes: Vec<Node<V>>,
    /// Numbers of nodes that are not in use.
    free: Vec<usize>,
}

#[derive(Debug)]
struct Node<V> {
    /// The bytes between the parent's prefix and this one's; none at the root, at least one elsewhere.
    label: Bytes,
    value: Option<V>,
    /// By the first byte of their labels.
    children: BTreeMap<u8, usize>,
}

const ROOT: usize = 0;

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { nodes: vec![Node::new(Bytes::new())], free: Vec::new() }
    }
}

impl<V> Node<V> {
    const fn new(label: Bytes) -> Self {
        Self { label, value: None, children: BTreeMap::new() }
    }
}

impl<V> Trie<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes[ROOT].value.is_none() && self.nodes[ROOT].children.is_empty()
    }

    /// The value of every prefix of `key`, the shortest first.
    pub(super) fn visit(&self, key: &[u8], mut visit: impl FnMut(&V)) {
        let mut node = &self.nodes[ROOT];
        let mut rest = key;
        loop {
            if let Some(value) = &node.value {
                visit(value);
            }
            let Some(&child) = rest.first().and_then(|byte| node.children.get(byte)) else { return };
            node = &self.nodes[child];
            let Some(after) = rest.strip_prefix(&node.label[..]) else { return };
            rest = after;
        }
    }

    /// The value of `prefix`, made if it has none.
    pub(super) fn entry(&mut self, prefix: &Bytes) -> &mut V
    where
        V: Default,
    {
        let mut at = ROOT;
        let mut rest = prefix.clone();
        while let Some(&first) = rest.first() {
            let Some(&child) = self.nodes[at].children.get(&first) else {
                let leaf = self.allocate(Node::new(rest));
                self.nodes[at].children.insert(first, leaf);
                at = leaf;
                break;
            };
            let label = &self.nodes[child].label;
            let common = label.iter().zip(&rest).take_while(|(a, b)| a == b).count();
            if common < label.len() {
                self.split(child, common);
            }
            rest = rest.slice(common..);
            at = child;
        }
        self.nodes[at].value.get_or_insert_with(V::default)
    }

    /// Removes the value of `prefix` if `is_over` says so, and the branches that only led there.
    pub(super) fn remove_if(&mut self, prefix: &[u8], is_over: impl FnOnce(&mut V) -> bool) {
        let mut path = vec![ROOT];
        let mut at = ROOT;
        let mut rest = prefix;
        while let Some(byte) = rest.first() {
            let Some(&child) = self.nodes[at].children.get(byte) else { return };
            let Some(after) = rest.strip_prefix(&self.nodes[child].label[..]) else { return };
            rest = after;
            at = child;
            path.push(at);
        }
        if !self.nodes[at].value.as_mut().is_some_and(is_over) {
            return;
        }
        self.nodes[at].value = None;
        while let [.., parent, at] = path[..]
            && self.nodes[at].value.is_none()
        {
            match self.nodes[at].children.len() {
                0 => {
                    let first = self.nodes[at].label[0];
                    self.nodes[parent].children.remove(&first);
                    self.release(at);
                    path.pop();
                }
                1 => return self.join(at),
                _ => return,
            }
        }
    }

    /// Puts a node after the first `label_bytes` bytes of a node's label; it takes over the node's number.
    fn split(&mut self, at: usize, label_bytes: usize) {
        let upper = Node::new(self.nodes[at].label.slice(..label_bytes));
        let mut lower = std::mem::replace(&mut self.nodes[at], upper);
        lower.label = lower.label.slice(label_bytes..);
        let first = lower.label[0];
        let lower = self.allocate(lower);
        self.nodes[at].children.insert(first, lower);
    }

    /// Joins a node without a value to its only child.
    fn join(&mut self, at: usize) {
        let Some((_, child)) = self.nodes[at].children.pop_first() else { return };
        let mut lower = self.release(child);
        lower.label = [&self.nodes[at].label[..], &lower.label[..]].concat().into();
        self.nodes[at] = lower;
    }

    fn allocate(&mut self, node: Node<V>) -> usize {
        if let Some(free) = self.free.pop() {
            self.nodes[free] = node;
            return free;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn release(&mut self, at: usize) -> Node<V> {
        self.free.push(at);
        std::mem::replace(&mut self.nodes[at], Node::new(Bytes::new()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn found(trie: &Trie<Vec<Bytes>>, key: &[u8]) -> Vec<Bytes> {
        let mut out = Vec::new();
        trie.visit(key, |values| out.extend(values.iter().cloned()));
        out
    }

    proptest! {
        /// What is found is what a look at every prefix finds, whatever was put in and taken out before.
        #[test]
        fn a_key_finds_exactly_its_prefixes(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec(0u8..3, 0..6)), 1..60),
            key in prop::collection::vec(0u8..3, 0..8),
        ) {
            let mut trie = Trie::<Vec<Bytes>>::default();
            let mut model = BTreeSet::new();
            for (insert, prefix) in steps {
                let prefix = Bytes::from(prefix);
                if insert {
                    if model.insert(prefix.clone()) {
                        trie.entry(&prefix).push(prefix.clone());
                    }
                } else {
                    model.remove(&prefix);
                    trie.remove_if(&prefix, |_| true);
                }
            }
            let expected: Vec<_> = model.iter().filter(|prefix| key.starts_with(prefix)).cloned().collect();
            prop_assert_eq!(found(&trie, &key), expected);
            for prefix in &model {
                trie.remove_if(prefix, |_| true);
            }
            prop_assert!(trie.is_empty());
        }
    }
}
