//! The control lane, and with it the life of a connection: liveness, watches to open and close, beats, and the goodbye.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hither_protocol::codec::{Frame, Message, decode, encode, unknown_operation};
use hither_protocol::error::CloseCode;
use hither_protocol::message::{
    Beat, CancelRequest, CancelWatch, GoAway, Goodbye, KeepAlive, KeepAliveReply, Subscribe, SubscribeRefused,
    encode_refusal,
};
use hither_protocol::{ErrorCode, Refusal, RequestNumber, SessionId, UnixMillis};
use hither_state::door::check_range;
use hither_state::watch::WatchSpec;
use quinn::ReadError;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Connection;
use super::greeting::ControlLane;
use super::liveness::Liveness;
use super::refusals::{is_malformed, refuse_and_close};
use super::registry::Present;
use super::watching::Watching;
use super::{Plane, lane, single};
use crate::identity::now;

/// When clients that were told to go elsewhere may come back here: about as long as a restart takes.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Bytes taken off the lane at once.
const READ_BYTES: usize = 16 * 1024;

/// Serves a welcomed connection until it ends, and cleans up after it.
pub(super) async fn run(plane: Arc<Plane>, present: Present, lane: ControlLane) {
    let connection = Arc::clone(present.connection());
    let streams = tokio::spawn(streams(Arc::clone(&plane), Arc::clone(&connection)));
    let mut control = Control::new(Arc::clone(&plane), Arc::clone(&connection), lane);
    let end = control.serve().await;
    match end {
        End::Gone => {}
        End::Close(code) => connection.close(code),
        End::Refuse(number, refusal, code) => {
            connection.count_error(&plane, &refusal);
            refuse_and_close(&connection.quic, control.lane.send, number, &refusal, code).await;
        }
    }
    connection.quic.closed().await;
    streams.abort();
    drop(present);
    plane.service.engine.machine().hub.lock().disconnect(connection.id);
}

/// Takes up the streams that the client opens: the request lane first, then one for each large request.
async fn streams(plane: Arc<Plane>, connection: Arc<Connection>) {
    let mut has_lane = false;
    while let Ok((send, recv)) = connection.quic.accept_bi().await {
        let (plane, connection) = (Arc::clone(&plane), Arc::clone(&connection));
        if has_lane {
            tokio::spawn(single::serve(plane, connection, send, recv));
        } else {
            has_lane = true;
            connection.lane.is_open.store(true, Ordering::Relaxed);
            tokio::spawn(lane::serve(plane, connection, send, recv));
        }
    }
}

/// Why the control lane ended.
enum End {
    /// The connection is gone.
    Gone,
    /// It has to be closed.
    Close(CloseCode),
    /// It has to be closed, once the client was told why.
    Refuse(RequestNumber, Refusal, CloseCode),
}

/// What the lane waits for from elsewhere.
enum Done {
    /// The leader knows of the client, or could not be reached.
    Vouched(u64, Option<bool>),
    /// The leader knows of the client, which did not ask.
    Heard,
    /// The session is closed.
    SaidGoodbye,
}

type Pending = Pin<Box<dyn Future<Output = Done> + Send>>;

struct Control {
    plane: Arc<Plane>,
    connection: Arc<Connection>,
    lane: ControlLane,
    watching: Watching,
    liveness: Liveness,
    pending: FuturesUnordered<Pending>,
    /// A keep-alive that came while the leader was asked about an earlier one.
    next_keep_alive: Option<u64>,
    is_vouching: bool,
    out: BytesMut,
}

impl Control {
    fn new(plane: Arc<Plane>, connection: Arc<Connection>, lane: ControlLane) -> Self {
        let watching = Watching::new(Arc::clone(&plane), Arc::clone(&connection));
        Self {
            plane,
            connection,
            lane,
            watching,
            liveness: Liveness::new(),
            pending: FuturesUnordered::new(),
            next_keep_alive: None,
            is_vouching: false,
            out: BytesMut::new(),
        }
    }

    async fn serve(&mut self) -> End {
        let mut draining = self.plane.draining.clone();
        let mut next_beat = Instant::now() + self.plane.clients.beat_interval;
        let mut is_told_to_go = false;
        loop {
            // Frames that came together are answered together.
            if let Err(end) = self.take_frames() {
                return end;
            }
            if !self.out.is_empty() {
                let patience = self.plane.clients.idle_timeout;
                // A client that does not read its control lane cannot be told anything.
                match timeout(patience, self.lane.send.write_all(&self.out)).await {
                    Ok(Ok(())) => self.out.clear(),
                    Ok(Err(_)) => return End::Gone,
                    Err(_) => return End::Close(CloseCode::ProtocolViolation),
                }
            }
            let next = self.liveness.next_look(&self.connection).map_or(next_beat, |look| look.min(next_beat));
            tokio::select! {
                chunk = self.lane.recv.read_chunk(READ_BYTES, true) => match chunk {
                    Ok(Some(chunk)) => self.lane.decoder.push(&chunk.bytes),
                    Ok(None) if self.lane.decoder.pending_bytes() > 0 => return End::Close(CloseCode::MalformedFrame),
                    Ok(None) | Err(ReadError::Reset(_)) => return End::Close(CloseCode::ProtocolViolation),
                    Err(_) => return End::Gone,
                },
                Some(done) = self.pending.next(), if !self.pending.is_empty() => match done {
                    Done::Vouched(number, alive) => self.vouched(number, alive),
                    Done::Heard => {}
                    Done::SaidGoodbye => return End::Close(CloseCode::Goodbye),
                },
                () = sleep_until(next) => {
                    if let Some(session) = self.liveness.look(&self.connection) {
                        self.heard(session);
                    }
                    if Instant::now() >= next_beat {
                        next_beat = Instant::now() + self.plane.clients.beat_interval;
                        if self.connection.principal.expires_at <= now() {
                            return End::Close(CloseCode::IdentityInvalid);
                        }
                        // A connection without a watch has nothing to be told; its client asks now and then.
                        if !self.connection.watches.lock().is_empty() {
                            self.beat().await;
                        }
                    }
                }
                Ok(()) = draining.changed(), if !is_told_to_go => {
                    is_told_to_go = true;
                    let retry_after_ms = u64::try_from(RETRY_AFTER.as_millis()).unwrap_or(u64::MAX);
                    encode(&mut self.out, 0, &GoAway { retry_after_ms, reason: "the server is going down".to_owned() });
                }
            }
        }
    }

    fn take_frames(&mut self) -> Result<(), End> {
        loop {
            match self.lane.decoder.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(refusal) = self.handle(&frame) {
                        encode_refusal(&mut self.out, RequestNumber(frame.header.id), &refusal);
                        if is_malformed(&refusal) {
                            self.connection.count_error(&self.plane, &refusal);
                        }
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    let refusal = Refusal::new(ErrorCode::FrameTooLarge, error.to_string());
                    return Err(End::Refuse(RequestNumber(0), refusal, CloseCode::FrameTooLarge));
                }
            }
        }
    }

    fn handle(&mut self, frame: &Frame) -> Result<(), Refusal> {
        match frame.header.op {
            KeepAlive::OP => {
                let KeepAlive { number } = decode(frame)?;
                self.keep_alive(number);
            }
            Subscribe::OP => {
                let subscribe: Subscribe = decode(frame)?;
                if let Err(refusal) = self.subscribe(&subscribe) {
                    encode(&mut self.out, subscribe.watch.0, &SubscribeRefused { watch: subscribe.watch, refusal });
                }
            }
            CancelWatch::OP => {
                let CancelWatch { watch } = decode(frame)?;
                self.watching.cancel(watch);
            }
            CancelRequest::OP => {
                let CancelRequest { request } = decode(frame)?;
                if let Some(name) = self.connection.in_flight.cancel(request) {
                    self.connection.meters.count(name, ErrorCode::Cancelled);
                    // There is room for another.
                    self.connection.tray.ring();
                }
            }
            Goodbye::OP => {
                let Goodbye {} = decode(frame)?;
                self.goodbye();
            }
            other => return Err(unknown_operation(other)),
        }
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), Refusal> {
        if self.plane.is_draining() {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is going down"));
        }
        check_range(&subscribe.range)?;
        if self.connection.watches.lock().contains(&subscribe.watch) {
            let detail = format!("watch {} is open; number each watch of a connection once", subscribe.watch);
            return Err(Refusal::new(ErrorCode::AlreadyExists, detail));
        }
        let spec = WatchSpec::new(self.connection.caller.namespace.clone(), subscribe);
        let engine = &self.plane.service.engine;
        let (subscriber, created) = {
            let state = engine.machine().state.read();
            let mut hub = engine.machine().hub.lock();
            hub.subscribe(&state, self.connection.id, spec, engine.now())?
        };
        self.connection.watches.lock().insert(subscribe.watch);
        self.watching.open(subscribe.watch, subscriber, &created);
        Ok(())
    }

    fn keep_alive(&mut self, number: u64) {
        let Some(session) = self.connection.session() else {
            encode(&mut self.out, 0, &KeepAliveReply { number, session_alive: None });
            return;
        };
        if self.is_vouching {
            self.next_keep_alive = Some(number);
            return;
        }
        self.is_vouching = true;
        let engine = self.plane.service.engine.clone();
        self.pending.push(Box::pin(async move { Done::Vouched(number, engine.vouch(session).await.ok()) }));
    }

    fn heard(&mut self, session: SessionId) {
        // If the leader is slow to answer, one question is enough.
        if self.pending.is_empty() {
            let engine = self.plane.service.engine.clone();
            self.pending.push(Box::pin(async move {
                let _ = engine.vouch(session).await;
                Done::Heard
            }));
        }
    }

    /// Without the leader's word the answer says no more than that this node is there: the client then counts its leases as
    /// running out.
    fn vouched(&mut self, number: u64, alive: Option<bool>) {
        self.is_vouching = false;
        encode(&mut self.out, 0, &KeepAliveReply { number, session_alive: alive });
        if let Some(next) = self.next_keep_alive.take() {
            self.keep_alive(next);
        }
    }

    fn goodbye(&mut self) {
        let (plane, connection) = (Arc::clone(&self.plane), Arc::clone(&self.connection));
        self.pending.push(Box::pin(async move {
            if let Some(session) = connection.session() {
                let at: UnixMillis = now();
                let command = super::answer::session_close(&connection.caller, session, at);
                if plane.service.engine.propose(command).await.is_ok() {
                    connection.release(session);
                }
            }
            Done::SaidGoodbye
        }));
    }

    async fn beat(&mut self) {
        // A node that has lost its leader goes on to beat: how old its state is, is what a beat tells.
        let stamp = self.plane.service.stamp_of_now().await;
        let beat = self.plane.service.engine.machine().hub.lock().beat(self.connection.id);
        let beat = Beat {
            revision: beat.revision,
            sent: beat.sent,
            behind: beat.behind,
            age_ms: stamp.age_ms,
            term: stamp.term,
        };
        encode(&mut self.out, 0, &beat);
    }
}
