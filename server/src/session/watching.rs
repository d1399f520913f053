//! The watches of one connection: a stream for each, one task for all.
//!
//! The hub says which watches have something to send; the task fetches their frames a handful at a time, so that the
//! hub's lock is never held for long, and writes what their streams take. A stream that takes no more is set aside with
//! its unwritten frames until it does, and nothing is fetched for it meanwhile: the hub keeps its place. The others go on.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hither_protocol::codec::encode;
use hither_protocol::frame::{HEADER_BYTES, Header};
use hither_protocol::message::{Created, End, EndReason};
use hither_protocol::{Moment, WatchId};
use hither_state::watch::{Frames, SubscriberId, WatchFrame};
use quinn::{SendStream, WriteError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::answer::GIVEN_UP;
use super::connection::Connection;
use super::{Plane, priority};

/// Watches whose frames are fetched under one lock.
const FETCH_MAX: usize = 64;
/// Bytes fetched for one watch at a time: what a stream takes at once, or little more.
const FRAMES_BYTES: usize = 128 * 1024;

/// The connection's end of its watches.
pub(super) struct Watching {
    plane: Arc<Plane>,
    connection: Arc<Connection>,
    /// The task, once there was a watch.
    orders: Option<mpsc::UnboundedSender<Order>>,
}

enum Order {
    Open { watch: WatchId, subscriber: SubscriberId, created: Bytes },
    Cancel(WatchId),
}

impl Watching {
    pub(super) fn new(plane: Arc<Plane>, connection: Arc<Connection>) -> Self {
        Self { plane, connection, orders: None }
    }

    /// Opens the stream of a watch that the hub has taken.
    pub(super) fn open(&mut self, watch: WatchId, subscriber: SubscriberId, created: &Created) {
        let mut frame = BytesMut::new();
        encode(&mut frame, watch.0, created);
        let orders = self.orders.get_or_insert_with(|| {
            let (orders, receiver) = mpsc::unbounded_channel();
            let task = Task::new(Arc::clone(&self.plane), Arc::clone(&self.connection), receiver);
            tokio::spawn(task.run());
            orders
        });
        let _ = orders.send(Order::Open { watch, subscriber, created: frame.freeze() });
    }

    /// Closes a watch. Unknown ones are ignored.
    pub(super) fn cancel(&mut self, watch: WatchId) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order::Cancel(watch));
        }
    }
}

/// The stream of a watch.
struct Slot {
    watch: WatchId,
    stream: Stream,
    /// There is more to fetch once the stream is back.
    is_ready: bool,
}

enum Stream {
    /// Takes bytes, as far as is known.
    Free(SendStream),
    /// Waits for the client, with what is not yet written. Dropping the sender gives it up.
    Waiting(#[expect(dead_code, reason = "what counts is its drop")] oneshot::Sender<()>),
}

/// A stream that waited takes bytes again, or is gone.
type Waited = Pin<Box<dyn Future<Output = (SubscriberId, Option<SendStream>)> + Send>>;

struct Task {
    plane: Arc<Plane>,
    connection: Arc<Connection>,
    orders: mpsc::UnboundedReceiver<Order>,
    slots: HashMap<SubscriberId, Slot>,
    by_watch: HashMap<WatchId, SubscriberId>,
    ready: VecDeque<SubscriberId>,
    waiting: FuturesUnordered<Waited>,
    /// Watches that must not be polled before a moment.
    timers: BinaryHeap<Reverse<(Moment, SubscriberId)>>,
    polled: Vec<SubscriberId>,
    fetched: Vec<(SubscriberId, WatchId, Frames)>,
    chunks: Vec<Bytes>,
}

impl Task {
    fn new(plane: Arc<Plane>, connection: Arc<Connection>, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        Self {
            plane,
            connection,
            orders,
            slots: HashMap::new(),
            by_watch: HashMap::new(),
            ready: VecDeque::new(),
            waiting: FuturesUnordered::new(),
            timers: BinaryHeap::new(),
            polled: Vec::new(),
            fetched: Vec::new(),
            chunks: Vec::new(),
        }
    }

    async fn run(mut self) {
        let connection = Arc::clone(&self.connection);
        loop {
            let timer = self.timers.peek().map(|Reverse((moment, _))| *moment);
            let due = timer.map(|moment| self.instant(moment));
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.take_order(order),
                    // The connection is over.
                    None => return,
                },
                Some((id, stream)) = self.waiting.next(), if !self.waiting.is_empty() => self.waited(id, stream),
                () = connection.wake.notified() => {
                    self.collect();
                    // The first of them do not wait for a look at the sockets.
                    self.serve_some();
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.fire(),
                () = tokio::task::yield_now(), if !self.ready.is_empty() => self.serve_some(),
            }
        }
    }

    fn take_order(&mut self, order: Order) {
        match order {
            Order::Open { watch, subscriber, created } => {
                self.connection.meters.watch_opened();
                self.by_watch.insert(watch, subscriber);
                let stream = match self.connection.quic.open_uni().now_or_never() {
                    Some(Ok(stream)) => {
                        let _ = stream.set_priority(priority::EVENTS);
                        Stream::Free(stream)
                    }
                    // The client has not raised its limit of streams yet, or is gone, which the wait will show.
                    _ => self.wait_for_stream(subscriber, created.clone()),
                };
                let is_open = matches!(stream, Stream::Free(_));
                self.slots.insert(subscriber, Slot { watch, stream, is_ready: true });
                if is_open {
                    self.chunks.push(created);
                    self.write(subscriber);
                    self.ready.push_back(subscriber);
                }
            }
            Order::Cancel(watch) => {
                if let Some(&id) = self.by_watch.get(&watch) {
                    self.plane.service.engine.machine().hub.lock().cancel(id);
                    self.end(id, Some(EndReason::Cancelled));
                }
            }
        }
    }

    /// Takes note of the watches that have something to send.
    fn collect(&mut self) {
        let mut polled = std::mem::take(&mut self.polled);
        self.plane.service.engine.machine().hub.lock().poll_ready(self.connection.id, &mut polled);
        for id in polled.drain(..) {
            self.make_ready(id);
        }
        self.polled = polled;
    }

    /// Polls those whose time has come.
    fn fire(&mut self) {
        let now = self.plane.service.engine.now();
        while let Some(&Reverse((moment, id))) = self.timers.peek() {
            if moment > now {
                break;
            }
            self.timers.pop();
            self.make_ready(id);
        }
    }

    fn make_ready(&mut self, id: SubscriberId) {
        // Ready before its order came: the order makes it ready.
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !slot.is_ready {
            slot.is_ready = true;
            if matches!(slot.stream, Stream::Free(_)) {
                self.ready.push_back(id);
            }
        }
    }

    /// Fetches and writes for a few of the watches that are ready.
    fn serve_some(&mut self) {
        let mut fetched = std::mem::take(&mut self.fetched);
        {
            let engine = &self.plane.service.engine;
            let state = engine.machine().state.read();
            let mut hub = engine.machine().hub.lock();
            let now = engine.now();
            while fetched.len() < FETCH_MAX {
                let Some(id) = self.ready.pop_front() else { break };
                let Some(slot) = self.slots.get_mut(&id) else { continue };
                if matches!(slot.stream, Stream::Free(_)) {
                    slot.is_ready = false;
                    let frames = hub.poll_frames(&state, id, FRAMES_BYTES, now);
                    // Whoever has much to fetch holds the state's lock once for it, not together with the others.
                    let is_long = matches!(frames, Frames::Frames { more: true, .. });
                    fetched.push((id, slot.watch, frames));
                    if is_long {
                        break;
                    }
                }
            }
        }
        // The headers of all share one piece of memory.
        let mut headers = BytesMut::with_capacity(fetched.len() * HEADER_BYTES);
        for (id, watch, frames) in fetched.drain(..) {
            match frames {
                Frames::Idle => {}
                Frames::NotBefore(moment) => self.timers.push(Reverse((moment, id))),
                Frames::Frames { frames, more } => {
                    self.connection.meters.frames_sent(frames.len());
                    with_headers(watch, frames, &mut headers, &mut self.chunks);
                    self.write(id);
                    if more {
                        self.make_ready(id);
                    }
                }
                Frames::Ended(end) => self.end(id, Some(end.reason)),
            }
        }
        self.fetched = fetched;
    }

    /// Writes of `chunks` what the stream takes; if that is not all, the stream is set aside with the rest.
    fn write(&mut self, id: SubscriberId) {
        let chunks = &mut self.chunks;
        let Some(slot) = self.slots.get_mut(&id) else { return chunks.clear() };
        let Stream::Free(stream) = &mut slot.stream else { return chunks.clear() };
        let mut written = 0;
        while written < chunks.len() {
            match stream.write_chunks(&mut chunks[written..]).now_or_never() {
                Some(Ok(progress)) => written += progress.chunks,
                Some(Err(_)) => {
                    chunks.clear();
                    return self.give_up(id);
                }
                None => break,
            }
        }
        let rest: Vec<Bytes> = chunks.drain(..).skip(written).collect();
        if !rest.is_empty() {
            let (keep, given_up) = oneshot::channel();
            if let Stream::Free(stream) = std::mem::replace(&mut slot.stream, Stream::Waiting(keep)) {
                self.waiting.push(Box::pin(write_rest(id, stream, rest, given_up)));
            }
        }
    }

    fn wait_for_stream(&mut self, id: SubscriberId, created: Bytes) -> Stream {
        let (keep, given_up) = oneshot::channel();
        let quic = self.connection.quic.clone();
        self.waiting.push(Box::pin(async move {
            let opened = tokio::select! {
                opened = quic.open_uni() => opened.ok(),
                _ = never(given_up) => None,
            };
            let Some(mut stream) = opened else { return (id, None) };
            let _ = stream.set_priority(priority::EVENTS);
            // The first frame of a fresh stream is smaller than any window.
            let written = stream.write_chunk(created).await;
            (id, written.is_ok().then_some(stream))
        }));
        Stream::Waiting(keep)
    }

    /// A stream that was set aside takes bytes again, or never will.
    fn waited(&mut self, id: SubscriberId, stream: Option<SendStream>) {
        let Some(stream) = stream else { return self.give_up(id) };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.stream = Stream::Free(stream);
        if slot.is_ready {
            self.ready.push_back(id);
        }
    }

    /// The client wants no more of it.
    fn give_up(&mut self, id: SubscriberId) {
        if self.slots.contains_key(&id) {
            self.plane.service.engine.machine().hub.lock().cancel(id);
            self.end(id, None);
        }
    }

    /// The hub has forgotten the watch: closes its stream, with a last frame if it can be written now.
    fn end(&mut self, id: SubscriberId, reason: Option<EndReason>) {
        let Some(slot) = self.slots.remove(&id) else { return };
        self.by_watch.remove(&slot.watch);
        self.connection.watches.lock().remove(&slot.watch);
        self.connection.meters.watches_closed(1);
        // One that waits is reset by its own future, which sees that nobody keeps it.
        let Stream::Free(mut stream) = slot.stream else { return };
        let Some(reason) = reason else { return };
        let mut frame = BytesMut::new();
        encode(&mut frame, slot.watch.0, &End { reason });
        let mut chunks = [frame.freeze()];
        match stream.write_chunks(&mut chunks).now_or_never() {
            Some(Ok(written)) if written.chunks == chunks.len() => {
                let _ = stream.finish();
            }
            _ => {
                let _ = stream.reset(GIVEN_UP);
            }
        }
    }

    /// A moment of the hub's clock on the runtime's.
    fn instant(&self, moment: Moment) -> Instant {
        let ahead = moment.since(self.plane.service.engine.now());
        // Not before the moment, though the runtime's clock counts in milliseconds.
        Instant::now() + ahead + Duration::from_micros(u64::from(ahead.is_zero()))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.connection.meters.watches_closed(self.slots.len());
    }
}

async fn write_rest(
    id: SubscriberId,
    mut stream: SendStream,
    mut chunks: Vec<Bytes>,
    given_up: oneshot::Receiver<()>,
) -> (SubscriberId, Option<SendStream>) {
    let written: Option<Result<(), WriteError>> = tokio::select! {
        written = stream.write_all_chunks(&mut chunks) => Some(written),
        _ = never(given_up) => None,
    };
    match written {
        Some(Ok(())) => (id, Some(stream)),
        Some(Err(_)) => (id, None),
        None => {
            let _ = stream.reset(GIVEN_UP);
            (id, None)
        }
    }
}

/// Resolves when the sender is dropped; nothing is ever sent.
async fn never(given_up: oneshot::Receiver<()>) {
    let _ = given_up.await;
}

/// Appends frames as they go onto a stream: headers of this watch, bodies that all watches share.
fn with_headers(watch: WatchId, frames: Vec<WatchFrame>, headers: &mut BytesMut, chunks: &mut Vec<Bytes>) {
    for frame in frames {
        // A body has at most 2 MiB.
        let length = u32::try_from(frame.body.len()).unwrap_or(u32::MAX);
        let header = Header { length, op: frame.op, version: 1, flags: frame.flags, id: watch.0 };
        headers.extend_from_slice(&header.to_bytes());
        chunks.push(headers.split().freeze());
        if !frame.body.is_empty() {
            chunks.push(frame.body);
        }
    }
}
