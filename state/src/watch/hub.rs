//! The watch hub: every open watch of this node, and every change on its way to them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hither_protocol::message::{Created, EndReason, Start};
use hither_protocol::{ErrorCode, Lineage, Moment, Refusal, Revision};

use super::batch::ENVELOPE_BYTES;
use super::block::Block;
use super::history::ChangeLog;
use super::listing::Lists;
use super::selectors::Selectors;
use super::spec::{ConnectionId, HubBeat, HubConfig, Lag, SubscriberId, WatchSpec};
use super::subscriber::{Pages, Phase, Subscriber};
use super::topic::{Ledger, Topic, TopicId, TopicKey, Unread};
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
    pub(super) topics: BTreeMap<TopicId, Topic>,
    /// Looked up, never walked.
    topic_ids: HashMap<TopicKey, TopicId>,
    selectors: Selectors,
    pub(super) ledger: Ledger,
    pub(super) subscribers: BTreeMap<SubscriberId, Subscriber>,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// Connections to be woken.
    wakes: BTreeSet<ConnectionId>,
    /// Topics whose waiting watches are to be woken.
    stirred: Vec<TopicId>,
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
    ready: VecDeque<SubscriberId>,
    is_woken: bool,
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
            topic_ids: HashMap::new(),
            selectors: Selectors::default(),
            ledger: Ledger::default(),
            subscribers: BTreeMap::new(),
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
            if let Some(subscriber) = self.subscribers.get_mut(&id) {
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
            .map(|(&id, subscriber)| {
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
            let Some(subscriber) = self.subscribers.get_mut(&id) else { continue };
            if let Phase::Live { place } = subscriber.phase
                && let Some(topic) = self.topics.get_mut(&subscriber.topic)
            {
                topic.leave(place, &mut self.ledger);
            }
            subscriber.phase = phase;
            self.make_ready(id);
        }
    }

    /// Opens a watch. Atomic with apply, since the caller has the state locked: every change after the revision that
    /// `Created` names is one that the watch sees. The connection should ask [`poll_ready`](Self::poll_ready) next.
    ///
    /// # Errors
    /// `TooManyWatches`; `ServerBusy` while snapshots take up all the memory that they may; `NotReady` before the
    /// cluster's first command.
    pub fn subscribe(
        &mut self,
        state: &State,
        connection: ConnectionId,
        spec: WatchSpec,
        now: Moment,
    ) -> Result<(SubscriberId, Created), Refusal> {
        let Some(lineage) = self.lineage else {
            return Err(Refusal::new(ErrorCode::NotReady, "the cluster is being initialised"));
        };
        let most = self.config.connection_watches_max;
        if self.connections.get(&connection).is_some_and(|connection| connection.subscribers.len() >= most) {
            let detail = format!("the connection has {most} watches, which is the limit");
            return Err(Refusal::new(ErrorCode::TooManyWatches, detail));
        }
        let head = self.log.head();
        let (phase, revision) = match spec.start {
            Start::Now => (Phase::CatchUp { position: head }, head),
            Start::Snapshot => {
                let selector = (&spec.namespace, &spec.range);
                let list = self.lists.open(state, &self.log, &self.config, selector, now);
                let Some((list, revision)) = list else {
                    let detail = "snapshots of other watches take up all the memory that they may; try again shortly";
                    return Err(Refusal::new(ErrorCode::ServerBusy, detail));
                };
                (Phase::Listing { list, pages: Pages::default() }, revision)
            }
            Start::After(_) if spec.lineage.is_some_and(|of| of != lineage) => {
                (Phase::Stale { pages: Pages::reset(Revision::ZERO) }, Revision::ZERO)
            }
            Start::After(revision) if revision > head => (Phase::Ahead, revision),
            Start::After(revision) => (Phase::CatchUp { position: revision }, revision),
        };
        let topic = self.topic(TopicKey {
            namespace: spec.namespace,
            range: spec.range,
            filter: spec.filter,
            previous: spec.previous,
        });
        let mut subscriber = Subscriber {
            connection,
            watch: spec.watch,
            topic,
            mode: spec.mode,
            min_interval: spec.min_interval,
            phase,
            sent_to: revision,
            frames: 0,
            frames_beaten: 0,
            not_before: Moment::default(),
            is_ready: false,
            waits: false,
            ending: None,
        };
        let id = SubscriberId(self.next_number());
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.members += 1;
            if let Phase::CatchUp { position } = subscriber.phase
                && position == head
            {
                let place = topic.join(head, self.config.frame_bytes_max, &mut self.ledger);
                subscriber.phase = Phase::Live { place };
                subscriber.waits = true;
                topic.waiting.push(id);
            }
        }
        let rests = matches!(subscriber.phase, Phase::Live { .. } | Phase::Ahead);
        if let Phase::Ahead = subscriber.phase {
            self.ahead.insert((revision, id));
        }
        self.subscribers.insert(id, subscriber);
        self.connections.entry(connection).or_default().subscribers.insert(id);
        if !rests {
            self.make_ready(id);
        }
        Ok((id, Created { revision, lineage }))
    }

    /// Ends a watch from the server's side: the next poll says so. Unknown ids are ignored.
    pub fn end(&mut self, id: SubscriberId, reason: EndReason) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.ending = Some(reason);
            self.make_ready(id);
        }
    }

    /// Ends every watch of this node.
    pub fn end_all(&mut self, reason: EndReason) {
        let ids: Vec<_> = self.subscribers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id, reason));
    }

    /// Forgets a watch at once. Unknown ids are ignored.
    pub fn cancel(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.remove(&id) else { return };
        if let Some(connection) = self.connections.get_mut(&subscriber.connection) {
            connection.subscribers.remove(&id);
            if connection.subscribers.is_empty() {
                self.connections.remove(&subscriber.connection);
                self.wakes.remove(&subscriber.connection);
            } else if connection.ready.len() > 2 * connection.subscribers.len() + 8 {
                connection.ready.retain(|ready| connection.subscribers.contains(ready));
            }
        }
        self.ahead.remove(&(subscriber.sent_to, id));
        if let Phase::Listing { list, .. } = subscriber.phase {
            self.lists.release(list);
        }
        let Some(topic) = self.topics.get_mut(&subscriber.topic) else { return };
        if let Phase::Live { place } = subscriber.phase {
            topic.leave(place, &mut self.ledger);
        }
        topic.members -= 1;
        if topic.members == 0 {
            self.selectors.remove(&topic.key.namespace, &topic.key.range, topic.id);
            self.topic_ids.remove(&topic.key);
            self.topics.remove(&subscriber.topic);
        } else {
            topic.tidy(|id| self.subscribers.get(&id).is_some_and(|subscriber| subscriber.waits));
        }
    }

    /// Forgets every watch of a connection that is gone.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        let Some(gone) = self.connections.get_mut(&connection) else { return };
        let ids = std::mem::take(&mut gone.subscribers);
        ids.into_iter().for_each(|id| self.cancel(id));
    }

    /// Appends the connections that have ready watches and were not woken since they last asked for them.
    pub fn poll_wakes(&mut self, out: &mut Vec<ConnectionId>) {
        self.spread();
        out.extend(std::mem::take(&mut self.wakes));
    }

    /// Appends the watches of a connection that have something to send, in the order in which it came, and forgets that
    /// they do: the connection polls each of them until it says that it is idle or when to come back.
    pub fn poll_ready(&mut self, connection: ConnectionId, out: &mut Vec<SubscriberId>) {
        self.spread();
        self.wakes.remove(&connection);
        let Some(connection) = self.connections.get_mut(&connection) else { return };
        connection.is_woken = false;
        for id in connection.ready.drain(..) {
            if let Some(subscriber) = self.subscribers.get_mut(&id) {
                subscriber.is_ready = false;
                out.push(id);
            }
        }
    }

    /// What the connection's next beat says about its watches, counting every frame handed out so far as sent.
    pub fn beat(&mut self, connection: ConnectionId) -> HubBeat {
        let mut beat = HubBeat { revision: self.log.head(), ..HubBeat::default() };
        let Some(connection) = self.connections.get(&connection) else { return beat };
        for id in &connection.subscribers {
            let Some(subscriber) = self.subscribers.get_mut(id) else { continue };
            if subscriber.frames != subscriber.frames_beaten {
                subscriber.frames_beaten = subscriber.frames;
                beat.sent.push((subscriber.watch, subscriber.frames));
            }
            let topic = self.topics.get(&subscriber.topic);
            let is_synced = match subscriber.phase {
                Phase::Live { place } => topic.is_some_and(|topic| matches!(topic.unread(place), Unread::Nothing)),
                Phase::Ahead => true,
                Phase::Listing { .. } | Phase::Stale { .. } | Phase::CatchUp { .. } => false,
            };
            if !is_synced {
                beat.behind.push(subscriber.watch);
            }
        }
        beat
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

    /// The revision that was last published.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.log.head()
    }

    /// Watches can resume here only after this revision or a later one.
    #[must_use]
    pub const fn floor(&self) -> Revision {
        self.log.floor()
    }

    /// Open watches.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.subscribers.len()
    }

    /// Open watches of one connection.
    #[must_use]
    pub fn watches_of(&self, connection: ConnectionId) -> usize {
        self.connections.get(&connection).map_or(0, |connection| connection.subscribers.len())
    }

    /// Topics: sets of watches that see the same events.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Bytes of history.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Bytes of what topics keep for watches that are a little behind.
    #[must_use]
    pub const fn live_bytes(&self) -> usize {
        self.ledger.bytes
    }

    /// Bytes of the lists that snapshots and resets are made of.
    #[must_use]
    pub const fn snapshot_bytes(&self) -> usize {
        self.lists.bytes()
    }

    /// How far the slowest watch is behind. Looks at every watch.
    #[must_use]
    pub fn lag(&self) -> Lag {
        let positions = self.subscribers.values().filter_map(|subscriber| self.position(subscriber));
        let Some(slowest) = positions.min() else { return Lag::default() };
        let revisions = self.log.head().0.saturating_sub(slowest.0);
        Lag { revisions, bytes: self.log.bytes_after(slowest) }
    }

    /// Up to where a watch has everything; none if that is the present or beyond.
    fn position(&self, subscriber: &Subscriber) -> Option<Revision> {
        match subscriber.phase {
            Phase::Live { place } => match self.topics.get(&subscriber.topic)?.unread(place) {
                Unread::Nothing => None,
                Unread::Batches(_, begin) | Unread::Lost(begin) => Some(begin.previous()),
            },
            Phase::Ahead => None,
            Phase::Listing { list, .. } => Some(self.lists.get(list)?.revision),
            Phase::Stale { pages } => Some(pages.base.unwrap_or_default().max(self.log.floor())),
            Phase::CatchUp { position } => Some(position),
        }
    }

    /// Appends the events of a block to the topics that somebody follows.
    fn distribute(&mut self, block: &Block) {
        let mut found = std::mem::take(&mut self.found);
        let mut touched = Vec::new();
        let event_bytes_max = self.config.frame_bytes_max.saturating_sub(ENVELOPE_BYTES);
        for record in &block.records {
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
                let event = record.encoded(topic.key.previous, event_bytes_max);
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

    /// Wakes the watches that wait for the topics that have something new.
    fn spread(&mut self) {
        for id in std::mem::take(&mut self.stirred) {
            let Some(topic) = self.topics.get_mut(&id) else { continue };
            topic.stirred = false;
            for id in std::mem::take(&mut topic.waiting) {
                if let Some(subscriber) = self.subscribers.get_mut(&id)
                    && std::mem::take(&mut subscriber.waits)
                {
                    self.make_ready(id);
                }
            }
        }
    }

    fn make_ready(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        let Some(connection) = self.connections.get_mut(&subscriber.connection) else { return };
        if !std::mem::replace(&mut subscriber.is_ready, true) {
            connection.ready.push_back(id);
        }
        if !std::mem::replace(&mut connection.is_woken, true) {
            self.wakes.insert(subscriber.connection);
        }
    }

    fn topic(&mut self, key: TopicKey) -> TopicId {
        if let Some(&id) = self.topic_ids.get(&key) {
            return id;
        }
        let id = TopicId(self.next_number());
        self.selectors.insert(&key.namespace, &key.range, id);
        self.topic_ids.insert(key.clone(), id);
        self.topics.insert(id, Topic::new(id, key));
        id
    }

    fn next_number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
