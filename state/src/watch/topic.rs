//! A topic: what some number of watches have in common, and what it still keeps for those of them that are a little
//! behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use hither_protocol::message::Filter;
use hither_protocol::{KeyRange, Namespace, Revision};

use super::batch;
use super::spec::{SubscriberId, WatchFrame};

/// Bytes that an event or a frame in the list costs beside its body.
const OVERHEAD_BYTES: usize = 64;

/// A topic, numbered by the hub. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicId(pub(super) u64);

/// What makes two watches see the same events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopicKey {
    pub(super) namespace: Namespace,
    pub(super) range: KeyRange,
    pub(super) filter: Filter,
    pub(super) previous: bool,
}

/// What all topics together keep, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) bytes: usize,
    nodes: BTreeSet<(Revision, TopicId, u64)>,
}

impl Ledger {
    /// The topic that keeps the oldest events.
    pub(super) fn oldest(&self) -> Option<TopicId> {
        self.nodes.first().map(|&(_, topic, _)| topic)
    }
}

/// A list of batches that its followers read at their own pace, each encoded once, when the first of them asks. A
/// follower is a place in the list, and what nobody has yet to read is dropped.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) key: TopicKey,
    /// Open watches, whether they follow or are still catching up.
    pub(super) members: usize,
    /// Watches to be woken by the next event, each once; some may be closed.
    pub(super) waiting: Vec<SubscriberId>,
    /// Whether the hub knows that `waiting` is to be woken.
    pub(super) stirred: bool,
    /// Where the next batch begins.
    to: Revision,
    nodes: VecDeque<Node>,
    /// The place of the first node.
    first: u64,
    /// Followers that have read everything.
    at_end: usize,
    followers: usize,
    bytes: usize,
    /// Nodes that were dropped while somebody had yet to read them, by place.
    lost: BTreeMap<u64, Lost>,
}

#[derive(Debug)]
struct Node {
    from: Revision,
    /// The revision of its first event.
    begin: Revision,
    to: Revision,
    content: Content,
    bytes: usize,
    /// Followers that read it next.
    followers: usize,
}

#[derive(Debug)]
enum Content {
    /// Nobody has read it yet, so it may grow.
    Open(Vec<Bytes>),
    Sealed(Vec<WatchFrame>),
}

#[derive(Debug)]
struct Lost {
    begin: Revision,
    followers: usize,
}

/// What a follower has to read.
pub(super) enum Unread {
    /// Nothing.
    Nothing,
    /// So many batches, every event before this revision having been read.
    Batches(u64, Revision),
    /// Batches that were dropped, from this revision on: history has them.
    Lost(Revision),
}

impl Topic {
    pub(super) const fn new(id: TopicId, key: TopicKey) -> Self {
        Self {
            id,
            key,
            members: 0,
            waiting: Vec::new(),
            stirred: false,
            to: Revision::ZERO,
            nodes: VecDeque::new(),
            first: 0,
            at_end: 0,
            followers: 0,
            bytes: 0,
            lost: BTreeMap::new(),
        }
    }

    pub(super) const fn has_followers(&self) -> bool {
        self.followers > 0
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a follower that has been told of everything up to `head`, the hub's revision; returns its place. No later
    /// batch begins after `head`.
    pub(super) fn join(&mut self, head: Revision, frame_bytes_max: usize, ledger: &mut Ledger) -> u64 {
        if self.followers == 0 {
            // Events that nobody followed are not in the list: the next batch does not cover them.
            self.to = head;
        } else if let Some(last) = self.nodes.len().checked_sub(1) {
            self.seal(last, frame_bytes_max, ledger);
        }
        self.followers += 1;
        self.at_end += 1;
        self.end()
    }

    /// Removes the follower at `place`.
    pub(super) fn leave(&mut self, place: u64, ledger: &mut Ledger) {
        self.followers -= 1;
        self.depart(place);
        self.trim(ledger);
    }

    /// Appends an event. All of one revision go into one batch, which is begun anew once it has `page_bytes`.
    pub(super) fn append(&mut self, revision: Revision, event: Bytes, page_bytes: usize, ledger: &mut Ledger) {
        let grows =
            |node: &Node| matches!(node.content, Content::Open(_)) && (node.to == revision || node.bytes < page_bytes);
        if !self.nodes.back().is_some_and(grows) {
            let node = Node {
                from: self.to,
                begin: revision,
                to: revision,
                content: Content::Open(Vec::new()),
                bytes: 0,
                followers: std::mem::take(&mut self.at_end),
            };
            ledger.nodes.insert((revision, self.id, self.end()));
            self.nodes.push_back(node);
        }
        let Some(node) = self.nodes.back_mut() else { return };
        let Content::Open(events) = &mut node.content else { return };
        let bytes = OVERHEAD_BYTES + event.len();
        events.push(event);
        node.to = revision;
        node.bytes += bytes;
        self.to = revision;
        self.bytes += bytes;
        ledger.bytes += bytes;
    }

    /// What the follower at `place` has yet to read.
    pub(super) fn unread(&self, place: u64) -> Unread {
        if let Some(lost) = self.lost.get(&place) {
            return Unread::Lost(lost.begin);
        }
        match self.index(place).and_then(|index| self.nodes.get(index)) {
            Some(node) => Unread::Batches(self.end() - place, node.begin),
            None => Unread::Nothing,
        }
    }

    /// Hands out the batch at `place`, with the revision that it ends with; the follower moves on to the next place.
    pub(super) fn read(
        &mut self,
        place: u64,
        frame_bytes_max: usize,
        ledger: &mut Ledger,
        out: &mut Vec<WatchFrame>,
    ) -> Option<Revision> {
        let index = self.index(place).filter(|&index| index < self.nodes.len())?;
        self.seal(index, frame_bytes_max, ledger);
        let node = &self.nodes[index];
        let to = node.to;
        if let Content::Sealed(frames) = &node.content {
            out.extend_from_slice(frames);
        }
        self.depart(place);
        match self.nodes.get_mut(index + 1) {
            Some(next) => next.followers += 1,
            None => self.at_end += 1,
        }
        self.trim(ledger);
        Some(to)
    }

    /// Drops the oldest batch; those who have not read it find it in history. Returns whether there is another.
    pub(super) fn shed(&mut self, ledger: &mut Ledger) -> bool {
        let place = self.first;
        if let Some(node) = self.pop(ledger)
            && node.followers > 0
        {
            self.lost.insert(place, Lost { begin: node.begin, followers: node.followers });
        }
        self.nodes.len() > 1
    }

    /// Forgets closed watches among those that wait, once they are the larger part.
    pub(super) fn tidy(&mut self, is_waiting: impl Fn(SubscriberId) -> bool) {
        if self.waiting.len() > 2 * self.members + 8 {
            self.waiting.retain(|&id| is_waiting(id));
        }
    }

    fn end(&self) -> u64 {
        self.first + self.nodes.len() as u64
    }

    fn index(&self, place: u64) -> Option<usize> {
        place.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())
    }

    /// Takes a follower from its place.
    fn depart(&mut self, place: u64) {
        if let Some(lost) = self.lost.get_mut(&place) {
            lost.followers -= 1;
            if lost.followers == 0 {
                self.lost.remove(&place);
            }
        } else if let Some(node) = self.index(place).and_then(|index| self.nodes.get_mut(index)) {
            node.followers -= 1;
        } else {
            self.at_end -= 1;
        }
    }

    fn trim(&mut self, ledger: &mut Ledger) {
        while self.nodes.front().is_some_and(|node| node.followers == 0) {
            self.pop(ledger);
        }
    }

    fn pop(&mut self, ledger: &mut Ledger) -> Option<Node> {
        let node = self.nodes.pop_front()?;
        ledger.nodes.remove(&(node.begin, self.id, self.first));
        ledger.bytes -= node.bytes;
        self.bytes -= node.bytes;
        self.first += 1;
        Some(node)
    }

    fn seal(&mut self, index: usize, frame_bytes_max: usize, ledger: &mut Ledger) {
        let node = &mut self.nodes[index];
        let Content::Open(events) = &node.content else { return };
        let frames = batch::frames(node.from, node.to, false, events, frame_bytes_max);
        let bytes = frames.iter().map(|frame| OVERHEAD_BYTES + frame.body.len()).sum::<usize>();
        ledger.bytes = ledger.bytes - node.bytes + bytes;
        self.bytes = self.bytes - node.bytes + bytes;
        node.bytes = bytes;
        node.content = Content::Sealed(frames);
    }
}
