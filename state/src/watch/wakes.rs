//! Who has something to be sent, and what the beat says of the others.

use std::collections::{BTreeMap, BTreeSet};

use super::hub::{Connection, WatchHub};
use super::spec::{ConnectionId, HubBeat, SubscriberId};
use super::subscriber::{Phase, Subscriber};
use super::topic::Unread;

impl WatchHub {
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
            if let Some(subscriber) = self.subscribers.get_mut(id) {
                subscriber.is_ready = false;
                out.push(id);
            }
        }
    }

    /// What the connection's next beat says about its watches, counting every frame handed out so far as sent.
    pub fn beat(&mut self, connection: ConnectionId) -> HubBeat {
        let mut beat = HubBeat { revision: self.log.head(), ..HubBeat::default() };
        let Some(connection) = self.connections.get(&connection) else { return beat };
        for &id in &connection.subscribers {
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

    /// Wakes the watches that wait for the topics that have something new.
    pub(super) fn spread(&mut self) {
        for id in std::mem::take(&mut self.stirred) {
            let Some(topic) = self.topics.get_mut(&id) else { continue };
            topic.stirred = false;
            for id in topic.waiting.drain(..) {
                if let Some(subscriber) = self.subscribers.get_mut(id)
                    && std::mem::take(&mut subscriber.waits)
                {
                    ready(id, subscriber, &mut self.connections, &mut self.wakes);
                }
            }
        }
    }

    pub(super) fn make_ready(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.subscribers.get_mut(id) {
            ready(id, subscriber, &mut self.connections, &mut self.wakes);
        }
    }
}

/// Puts a watch into its connection's queue of those to be polled.
fn ready(
    id: SubscriberId,
    subscriber: &mut Subscriber,
    connections: &mut BTreeMap<ConnectionId, Connection>,
    wakes: &mut BTreeSet<ConnectionId>,
) {
    let Some(connection) = connections.get_mut(&subscriber.connection) else { return };
    if !std::mem::replace(&mut subscriber.is_ready, true) {
        connection.ready.push_back(id);
    }
    if !std::mem::replace(&mut connection.is_woken, true) {
        wakes.insert(subscriber.connection);
    }
}
