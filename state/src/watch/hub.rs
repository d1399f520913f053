//! The watch hub: every open watch of this node, and every change on its way to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::{Lineage, Moment, Revision};

use super::batch::ENVELOPE_BYTES;
use super::block::Block;
use super::history::ChangeLog;
use super::listing::Lists;
use super::roll::Roll;
use super::selectors::Selectors;
use super::spec::{ConnectionId, HubConfig, SubscriberId};
use super::subscriber::{Pages, Phase};
use super::topic::{Ledger, Topic, TopicId, TopicKey};
use crate::{Change, Delta, State};

/// How long a proposed floor is waited for before it is proposed again.
const FLOOR_PATIENCE: Duration = Duration::from_secs(5);

/// Every open watch of this node.
///
/// Changes come in through [`publish`](Self::publish), which never waits and whose cost does not depend on the number of
/// watches. Connections are woken ([`poll_wakes`](Self::poll_wakes)), ask which of their watches have something
/// ([`poll_ready`](Self::poll_ready)) and take it ([`poll_frames`](Self::poll_frames)) as fast as their streams do. Who
/// does not ask costs a place in a list, and reads history later.
///
/// Where both are locked, the state is locked before the hub.
#[derive(Debug)]
pub struct WatchHub {
    pub(super) config: HubConfig,
    pub(super) lineage: Option<Lineage>,
    pub(super) log: ChangeLog,
    pub(super) lists: Lists,
    /// Numbers come in order and leave a tree half empty, so what it holds is small.
    pub(super) topics: BTreeMap<TopicId, Box<Topic>>,
    pub(super) selectors: Selectors,
    pub(super) ledger: Ledger,
    pub(super) subscribers: Roll,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// Connections to be woken.
    pub(super) wakes: BTreeSet<ConnectionId>,
    /// Topics whose waiting watches are to be woken.
    pub(super) stirred: Vec<TopicId>,
    /// Watches that have seen more than this node, by what they have seen.
    pub(super) ahead: BTreeSet<(Revision, SubscriberId)>,
    next_id: u64,
    floor_proposed: Option<(Revision, Moment)>,
    found: Vec<TopicId>,
}

#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) subscribers: BTreeSet<SubscriberId>,
    /// Those with something to send, in the order in which it came.
    pub(super) ready: VecDeque<SubscriberId>,
    pub(super) is_woken: bool,
}

impl WatchHub {
    /// A hub over the history of `state`: what was loaded beside it, or a new log at its revision.
    #[must_use]
    pub fn new(config: HubConfig, state: &State, mut history: ChangeLog, now: Moment) -> Self {
        history.stamp(now);
        Self {
            config,
            lineage: state.lineage(),
            log: history,
            lists: Lists::default(),
            topics: BTreeMap::new(),
            selectors: Selectors::default(),
            ledger: Ledger::default(),
            subscribers: Roll::default(),
            connections: BTreeMap::new(),
            wakes: BTreeSet::new(),
            stirred: Vec::new(),
            ahead: BTreeSet::new(),
            next_id: 0,
            floor_proposed: None,
            found: Vec::new(),
        }
    }

    /// Takes what a command changed: into history, and to those who watch it. Called in the order of the log, while the
    /// state is locked for writing.
    pub fn publish(&mut self, delta: &Delta, now: Moment) {
        for change in &delta.changes {
            match change {
                Change::Floor { revision } => self.log.raise_floor(*revision),
                Change::Lineage { lineage } => self.lineage = Some(*lineage),
                _ => {}
            }
        }
        if let Some(block) = Block::of(delta, now).filter(|block| block.revision > self.log.head()) {
            self.distribute(&block);
            self.log.append(Arc::new(block));
        }
        self.log.advance(delta.revision);
        self.lists.unpin(&self.config, now);
        // A floor that is late, because nobody leads or the leader is busy, must not cost this node its memory. What is
        // forgotten here alone is a reset for those who ask for it here.
        if self.log.bytes() > 2 * self.config.history_bytes_max {
            self.log.raise_floor(self.log.floor_by_bytes(self.config.history_bytes_max));
        }
        while let Some(&(revision, id)) = self.ahead.first()
            && revision < self.log.head()
        {
            self.ahead.pop_first();
            if let Some(subscriber) = self.subscribers.get_mut(id) {
                subscriber.phase = Phase::CatchUp { position: revision };
            }
            self.make_ready(id);
        }
    }

    /// The state was replaced by one from another node, with its history. Watches go on where they were: from history
    /// if it reaches back to them, with a reset if not.
    pub fn install(&mut self, state: &State, mut history: ChangeLog, now: Moment) {
        history.stamp(now);
        let same_history = self.lineage.is_none() || self.lineage == state.lineage();
        let old_head = self.log.head();
        let places: Vec<_> = self
            .subscribers
            .iter()
            .map(|(id, subscriber)| {
                let phase = match subscriber.phase {
                    _ if !same_history => Phase::Stale { pages: Pages::reset(Revision::ZERO) },
                    Phase::Listing { pages, .. } | Phase::Stale { pages } => Phase::Stale { pages },
                    Phase::Ahead => Phase::CatchUp { position: subscriber.sent_to },
                    Phase::Live { .. } | Phase::CatchUp { .. } => {
                        Phase::CatchUp { position: self.position(subscriber).unwrap_or(old_head) }
                    }
                };
                (id, phase)
            })
            .collect();
        self.log = history;
        self.lineage = state.lineage();
        self.lists.clear();
        self.ahead.clear();
        for (id, phase) in places {
            let Some(subscriber) = self.subscribers.get_mut(id) else { continue };
            if let Phase::Live { place } = subscriber.phase
                && let Some(topic) = self.topics.get_mut(&subscriber.topic)
            {
                topic.leave(place, &mut self.ledger);
            }
            subscriber.phase = phase;
            self.make_ready(id);
        }
    }

    /// The floor that the leader is to propose, if history is older or larger than it may be. Trims a little more than
    /// it must, so that the log does not fill with floors.
    pub fn floor_due(&mut self, now: Moment) -> Option<Revision> {
        let HubConfig { history_bytes_max, history_age_max, .. } = self.config;
        let mut floor = self.log.floor();
        if self.log.bytes() > history_bytes_max {
            floor = floor.max(self.log.floor_by_bytes(history_bytes_max - history_bytes_max / 16));
        }
        let age = self.log.oldest().map(|oldest| now.since(oldest)).unwrap_or_default();
        if age > history_age_max + history_age_max / 20 {
            let youngest = Duration::from_nanos(now.0).saturating_sub(history_age_max);
            floor = floor.max(self.log.floor_by_age(Moment::default() + youngest));
        }
        let asked = self.floor_proposed.is_some_and(|(asked, at)| asked >= floor && now.since(at) < FLOOR_PATIENCE);
        if floor <= self.log.floor() || asked {
            return None;
        }
        self.floor_proposed = Some((floor, now));
        Some(floor)
    }

    /// Appends the events of a block to the topics that somebody follows.
    fn distribute(&mut self, block: &Block) {
        let mut found = std::mem::take(&mut self.found);
        let mut touched = Vec::new();
        let event_bytes_max = self.config.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        for record in block.records.iter() {
            found.clear();
            for key in record.keys() {
                self.selectors.find(&record.namespace, key.as_bytes(), &mut found);
            }
            if record.keys().len() > 1 {
                // A lease is one event to a topic, however many of its keys are watched.
                found.sort_unstable();
                found.dedup();
            }
            for &id in &found {
                let Some(topic) = self.topics.get_mut(&id) else { continue };
                if !record.passes(topic.key.filter) || !topic.has_followers() {
                    continue;
                }
                #[cfg(feature = "planted")]
                if hither_protocol::planted::strikes_rarely(hither_protocol::planted::Bug::DroppedEvent) {
                    continue;
                }
                let event = record.encoded(topic.key.previous, event_bytes_max);
                #[cfg(feature = "planted")]
                if hither_protocol::planted::strikes_rarely(hither_protocol::planted::Bug::DoubledEvent) {
                    topic.append(block.revision, event.clone(), self.config.page_bytes, &mut self.ledger);
                }
                topic.append(block.revision, event, self.config.page_bytes, &mut self.ledger);
                touched.push(id);
                if !topic.stirred {
                    topic.stirred = true;
                    self.stirred.push(id);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let Some(topic) = self.topics.get_mut(&id) else { continue };
            while topic.bytes() > self.config.topic_bytes_max && topic.shed(&mut self.ledger) {}
        }
        while self.ledger.bytes > self.config.live_bytes_max
            && let Some(topic) = self.ledger.oldest().and_then(|oldest| self.topics.get_mut(&oldest))
        {
            topic.shed(&mut self.ledger);
        }
        self.found = found;
    }

    pub(super) fn topic(&mut self, key: TopicKey) -> TopicId {
        let alike = self.selectors.entry(&key.namespace, &key.range);
        let is_it = |id: &&TopicId| self.topics.get(id).is_some_and(|topic| topic.key == key);
        if let Some(&id) = alike.iter().find(is_it) {
            return id;
        }
        self.next_id += 1;
        let id = TopicId(self.next_id);
        // Most ranges are watched in one way.
        alike.reserve_exact(1);
        alike.push(id);
        self.topics.insert(id, Box::new(Topic::new(id, key)));
        id
    }
}
