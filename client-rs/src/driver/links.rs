//! Connections and their streams, as futures that one task polls.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use hither_client_core::{Action, Core, Endpoint, Error, LinkId};
use hither_protocol::codec::Frame;
use hither_protocol::error::CloseCode;
use hither_protocol::message::op;
use hither_protocol::{ErrorCode, Moment, SERVER_NAME};
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::dial::{self, Sockets};
use super::readers::{Kind, Read, Reader, ReaderId, Readers};
use super::transport::Transports;
use crate::identity::Identity;
use crate::tls;

/// Reads of one stream before the others have their turn.
const READS: usize = 4;
/// Streams of the server that are taken up at once.
const ACCEPTS: usize = 256;

/// All connections of a client, and what they wait for.
pub(super) struct Links {
    sockets: Arc<Sockets>,
    transports: Transports,
    links: BTreeMap<LinkId, Wires>,
    pub(super) events: FuturesUnordered<Pin<Box<dyn Future<Output = Io> + Send>>>,
    pub(super) readers: Readers,
    frames: Vec<Frame>,
}

/// One connection.
struct Wires {
    endpoint: Endpoint,
    dialing: AbortHandle,
    connection: Option<Connection>,
    /// Absent while a write is on its way.
    control: Option<SendStream>,
    lane: Option<SendStream>,
    /// Watches that are not read now, and their streams once something has come on them.
    paused: BTreeSet<u64>,
    parked: BTreeMap<u64, ReaderId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Control,
    Lane,
}

/// What a future came to.
pub(super) enum Io {
    Dialed(LinkId, Result<Box<Dialed>, Error>),
    /// An attempt was given up.
    Aborted,
    Wrote(LinkId, Which, SendStream, Result<(), WriteError>),
    Accepted(LinkId, Connection, Result<RecvStream, ConnectionError>),
    Exchanging(LinkId, Result<RecvStream, WriteError>),
    Closed(LinkId, ConnectionError),
}

/// A connection and its two lanes.
pub(super) struct Dialed {
    connection: Connection,
    control: (SendStream, RecvStream),
    lane: (SendStream, RecvStream),
}

impl Links {
    pub(super) fn new(identity: &Identity) -> Result<Self, Error> {
        Ok(Self {
            sockets: Arc::new(Sockets::default()),
            transports: Transports::new(tls::client(identity)?)?,
            links: BTreeMap::new(),
            events: FuturesUnordered::new(),
            readers: Readers::new(),
            frames: Vec::new(),
        })
    }

    /// Shows another identity, from the next connection on.
    pub(super) fn show(&mut self, identity: &Identity) -> Result<(), Error> {
        self.transports = Transports::new(tls::client(identity)?)?;
        Ok(())
    }

    pub(super) fn sockets(&self) -> Arc<Sockets> {
        Arc::clone(&self.sockets)
    }

    /// Does what the core wants. True when it wants no more.
    pub(super) fn act(&mut self, core: &mut Core) -> bool {
        while let Some(action) = core.poll_action() {
            match action {
                Action::Dial { link, endpoint } => self.dial(link, endpoint),
                Action::AllowStreams { link, count } => {
                    if let Some(connection) = self.connection(link) {
                        connection.set_max_concurrent_uni_streams(VarInt::from_u64(count).unwrap_or(VarInt::MAX));
                    }
                }
                Action::Exchange { link, frame } => self.exchange(link, frame),
                Action::Pause { link, watch } => {
                    if let Some(wires) = self.links.get_mut(&link) {
                        wires.paused.insert(watch);
                    }
                }
                Action::Resume { link, watch } => {
                    if let Some(wires) = self.links.get_mut(&link) {
                        wires.paused.remove(&watch);
                        if let Some(reader) = wires.parked.remove(&watch) {
                            self.readers.ring(reader);
                        }
                    }
                }
                Action::Hangup { link, code } => {
                    if let Some(wires) = self.forget(link) {
                        wires.close(code);
                    }
                }
                Action::Finish => return true,
            }
        }
        false
    }

    /// Writes what the core has for every lane that takes more.
    pub(super) fn write(&mut self, core: &mut Core) {
        for (link, wires) in &mut self.links {
            for which in [Which::Control, Which::Lane] {
                let slot = match which {
                    Which::Control => &mut wires.control,
                    Which::Lane => &mut wires.lane,
                };
                if slot.is_none() {
                    continue;
                }
                let bytes = match which {
                    Which::Control => core.poll_control(*link),
                    Which::Lane => core.poll_lane(*link),
                };
                if let (Some(bytes), link) = (bytes, *link)
                    && let Some(mut stream) = slot.take()
                {
                    self.events.push(Box::pin(async move {
                        let written = stream.write_chunk(bytes).await;
                        Io::Wrote(link, which, stream, written)
                    }));
                }
            }
        }
    }

    pub(super) fn handle(&mut self, core: &mut Core, now: Moment, event: Io) {
        match event {
            Io::Aborted => {}
            Io::Dialed(link, Ok(dialed)) => self.dialed(core, now, link, *dialed),
            Io::Dialed(link, Err(error)) => {
                if self.forget(link).is_some() {
                    core.handle_lost(now, link, error);
                }
            }
            Io::Wrote(link, which, stream, written) => {
                if let (Some(wires), Ok(())) = (self.links.get_mut(&link), written) {
                    match which {
                        Which::Control => wires.control = Some(stream),
                        Which::Lane => wires.lane = Some(stream),
                    }
                }
            }
            Io::Accepted(link, connection, Ok(stream)) => {
                self.read_from(core, now, link, Kind::Server, stream);
                // Those that came with it need no future of their own.
                for _ in 1..ACCEPTS {
                    let Some(Ok(stream)) = connection.accept_uni().now_or_never() else { break };
                    self.read_from(core, now, link, Kind::Server, stream);
                }
                if self.links.contains_key(&link) {
                    self.accept(link, connection);
                }
            }
            Io::Exchanging(link, Ok(stream)) => self.read_from(core, now, link, Kind::Lane, stream),
            // The end of the connection is told by the future that waits for it.
            Io::Accepted(_, _, Err(_)) | Io::Exchanging(_, Err(_)) => {}
            Io::Closed(link, error) => {
                // What had come before the end counts.
                for reader in self.readers.rung() {
                    self.read(core, now, reader);
                }
                if let Some(wires) = self.forget(link) {
                    core.handle_lost(now, link, dial::lost(&wires.endpoint, &error));
                }
            }
        }
    }

    /// Forgets a connection. Its streams ring as it ends, and are forgotten then; those that rang before are now.
    fn forget(&mut self, link: LinkId) -> Option<Wires> {
        let wires = self.links.remove(&link)?;
        wires.parked.values().for_each(|reader| self.readers.remove(*reader));
        Some(wires)
    }

    fn connection(&self, link: LinkId) -> Option<Connection> {
        self.links.get(&link)?.connection.clone()
    }

    fn dial(&mut self, link: LinkId, endpoint: Endpoint) {
        let (sockets, transports) = (Arc::clone(&self.sockets), self.transports.clone());
        let (dialing, abort) = AbortHandle::new_pair();
        let wires = Wires {
            endpoint: endpoint.clone(),
            dialing,
            connection: None,
            control: None,
            lane: None,
            paused: BTreeSet::new(),
            parked: BTreeMap::new(),
        };
        self.links.insert(link, wires);
        let dialed = async move {
            let connection = sockets.connect(&endpoint, &transports, SERVER_NAME).await?;
            let lost = |error: ConnectionError| dial::lost(&endpoint, &error);
            let control = connection.open_bi().await.map_err(lost)?;
            let lane = connection.open_bi().await.map_err(lost)?;
            Ok(Box::new(Dialed { connection, control, lane }))
        };
        let dialed = Abortable::new(dialed, abort);
        self.events.push(Box::pin(async move { dialed.await.map_or(Io::Aborted, |dialed| Io::Dialed(link, dialed)) }));
    }

    fn dialed(&mut self, core: &mut Core, now: Moment, link: LinkId, dialed: Dialed) {
        let Dialed { connection, control, lane } = dialed;
        let Some(wires) = self.links.get_mut(&link) else {
            // Given up meanwhile.
            connection.close(code(CloseCode::Moved), b"");
            return;
        };
        // Signs of life before requests, requests before what waits on streams of its own (priority 0). A stream that
        // is closed already needs none.
        let _ = control.0.set_priority(2);
        let _ = lane.0.set_priority(1);
        wires.connection = Some(connection.clone());
        wires.control = Some(control.0);
        wires.lane = Some(lane.0);
        for stream in [control.1, lane.1] {
            self.read_from(core, now, link, Kind::Lane, stream);
        }
        self.accept(link, connection.clone());
        self.events.push(Box::pin(async move { Io::Closed(link, connection.closed().await) }));
        core.handle_dialed(now, link);
    }

    fn accept(&mut self, link: LinkId, connection: Connection) {
        self.events.push(Box::pin(async move {
            let accepted = connection.accept_uni().await;
            Io::Accepted(link, connection, accepted)
        }));
    }

    fn exchange(&mut self, link: LinkId, frame: Bytes) {
        let Some(connection) = self.connection(link) else { return };
        self.events.push(Box::pin(async move {
            let exchange = async {
                let (mut send, receive) = connection.open_bi().await.map_err(WriteError::ConnectionLost)?;
                send.write_chunk(frame).await?;
                // A stream that is closed already needs no end.
                let _ = send.finish();
                Ok(receive)
            };
            Io::Exchanging(link, exchange.await)
        }));
    }

    fn read_from(&mut self, core: &mut Core, now: Moment, link: LinkId, kind: Kind, stream: RecvStream) {
        if self.links.contains_key(&link) {
            let reader = self.readers.insert(link, kind, stream);
            self.read(core, now, reader);
        }
    }

    /// Reads what a stream has. The core takes note of what came and acts on it when it is next told the time.
    pub(super) fn read(&mut self, core: &mut Core, now: Moment, id: ReaderId) {
        let Some(reader) = self.readers.get_mut(id) else { return };
        let Some(wires) = self.links.get_mut(&reader.link) else { return self.readers.remove(id) };
        if let Kind::Watch(watch) = reader.kind
            && wires.paused.contains(&watch)
        {
            wires.parked.insert(watch, id);
            return;
        }
        for _ in 0..READS {
            self.frames.clear();
            match self.readers.read(id, &mut self.frames) {
                Read::Nothing => return,
                Read::Some => self.take(core, now, id),
                Read::Ended(error) => return self.end(core, now, id, error.as_ref()),
                Read::Broken(error) => {
                    let Some(link) = self.readers.get_mut(id).map(|reader| reader.link) else { return };
                    if let Some(wires) = self.forget(link) {
                        wires.close(CloseCode::FrameTooLarge);
                        let detail = format!("what {} sends is no frame: {error}", wires.endpoint);
                        core.handle_lost(now, link, Error::caused_by(ErrorCode::ConnectionLost, detail, error));
                    }
                    return self.readers.remove(id);
                }
            }
        }
        self.readers.ring(id);
    }

    fn take(&mut self, core: &mut Core, now: Moment, id: ReaderId) {
        let Some(reader) = self.readers.get_mut(id) else { return };
        if let (Kind::Server, Some(first)) = (reader.kind, self.frames.first()) {
            reader.kind = if first.header.op == op::CREATED { Kind::Watch(first.header.id) } else { Kind::Lane };
        }
        core.take_frames(now, reader.link, &self.frames);
    }

    fn end(&mut self, core: &mut Core, now: Moment, id: ReaderId, error: Option<&ReadError>) {
        let Some(&mut Reader { link, kind, .. }) = self.readers.get_mut(id) else { return };
        self.readers.remove(id);
        // The end of the connection is told by the future that waits for it.
        if let Kind::Watch(watch) = kind
            && !matches!(error, Some(ReadError::ConnectionLost(_)))
        {
            core.handle_stream_end(now, link, watch);
        }
    }
}

impl Wires {
    fn close(&self, why: CloseCode) {
        // An attempt that nobody waits for must not go on to ask the server.
        self.dialing.abort();
        if let Some(connection) = &self.connection {
            connection.close(code(why), b"");
        }
    }
}

const fn code(code: CloseCode) -> VarInt {
    VarInt::from_u32(code as u32)
}
