//! Who watches: watches come and go.

use hither_protocol::message::{Created, EndReason, Start};
use hither_protocol::{ErrorCode, Moment, Refusal, Revision};

use super::hub::WatchHub;
use super::spec::{ConnectionId, SubscriberId, WatchSpec};
use super::subscriber::{Pages, Phase, Subscriber};
use super::topic::TopicKey;
use crate::State;

impl WatchHub {
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
            #[cfg(feature = "planted")]
            Start::Now if hither_protocol::planted::strikes(hither_protocol::planted::Bug::NowTooLate) => {
                (Phase::Ahead, head.next())
            }
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
            #[cfg(feature = "planted")]
            Start::After(revision)
                if revision < head
                    && hither_protocol::planted::strikes(hither_protocol::planted::Bug::ResumeOffByOne) =>
            {
                (Phase::CatchUp { position: revision.next() }, revision)
            }
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
        let mut follows = false;
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.members += 1;
            if let Phase::CatchUp { position } = subscriber.phase
                && position == head
            {
                let place = topic.join(head, self.config.frame_bytes_max, &mut self.ledger);
                subscriber.phase = Phase::Live { place };
                subscriber.waits = true;
                follows = true;
            }
        }
        let is_ahead = matches!(subscriber.phase, Phase::Ahead);
        let id = self.subscribers.insert(subscriber);
        if is_ahead {
            self.ahead.insert((revision, id));
        }
        self.connections.entry(connection).or_default().subscribers.insert(id);
        match self.topics.get_mut(&topic) {
            Some(topic) if follows => topic.waiting.push(id),
            _ if is_ahead => {}
            _ => self.make_ready(id),
        }
        Ok((id, Created { revision, lineage }))
    }

    /// Ends a watch from the server's side: the next poll says so. Unknown ids are ignored.
    pub fn end(&mut self, id: SubscriberId, reason: EndReason) {
        if let Some(subscriber) = self.subscribers.get_mut(id) {
            subscriber.ending = Some(reason);
            self.make_ready(id);
        }
    }

    /// Ends every watch of this node.
    pub fn end_all(&mut self, reason: EndReason) {
        let ids: Vec<_> = self.subscribers.iter().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.end(id, reason));
    }

    /// Forgets a watch at once. Unknown ids are ignored.
    pub fn cancel(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.remove(id) else { return };
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
            self.topics.remove(&subscriber.topic);
        } else {
            topic.tidy(|id| self.subscribers.get(id).is_some_and(|subscriber| subscriber.waits));
        }
    }

    /// Forgets every watch of a connection that is gone.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        let Some(gone) = self.connections.get_mut(&connection) else { return };
        let ids = std::mem::take(&mut gone.subscribers);
        ids.into_iter().for_each(|id| self.cancel(id));
    }
}
