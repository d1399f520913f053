//! A small server over real QUIC, played by the test: it keeps keys in memory and notes what clients say.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

mod authority;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use hither::{ClientBuilder, Entry, Event, Key, Lineage, NodeId, Previous, Revision, SessionId, Version};
use hither_protocol::codec::{Decoder, Frame, Message, decode, encode};
use hither_protocol::error::CloseCode;
use hither_protocol::message::{
    Batch, CancelRequest, CancelWatch, ClientAddReply, Created, End, EndReason, EnrolReply, GetReply, Goodbye, Hello,
    KeepAlive, KeepAliveReply, LeaseGrantReply, LeaseRevokeReply, Put, PutReply, RangeReply, RenewIdentityReply, Reply,
    Request, SessionOpenReply, SnapshotPage, Stamp, Start, Subscribe, TxnOp, TxnReply, TxnResult, Welcome,
    encode_refusal, op,
};
use hither_protocol::{ALPN_CLIENT, ALPN_ENROLL, ErrorCode, LeaseId, Refusal, RequestNumber, UnixMillis};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{mpsc, watch};

pub use authority::{Authority, CLUSTER};

/// How long anything may take before a test has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asked for a lease of this time to live, the server does not answer.
pub const HANGING: Duration = Duration::from_secs(66);

/// Waits no longer than [`PATIENCE`].
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// What a client said, as far as tests want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Anything at all from somebody who would enrol.
    Enrolment,
    Hello,
    Request(&'static str),
    OwnStream,
    Cancelled,
    Unwatched,
    Goodbye,
    Gone,
}

#[derive(Default)]
struct Store {
    revision: u64,
    entries: BTreeMap<Key, Entry>,
    log: Vec<Event>,
    secrets: Vec<Vec<u8>>,
}

/// A server, which ends when it is dropped.
pub struct Server {
    pub authority: Arc<Authority>,
    pub address: SocketAddr,
    endpoint: quinn::Endpoint,
    shared: Arc<Shared>,
    pub heard: mpsc::UnboundedReceiver<Heard>,
}

struct Shared {
    authority: Arc<Authority>,
    store: Mutex<Store>,
    changed: watch::Sender<u64>,
    heard: mpsc::UnboundedSender<Heard>,
    address: String,
    /// Keep-alives are answered.
    vouching: watch::Sender<bool>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Arc::new(Authority::new()), &[ALPN_CLIENT, ALPN_ENROLL])
    }

    pub fn with(authority: Arc<Authority>, protocols: &[&[u8]]) -> Self {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = quinn::Endpoint::server(authority.server_config(protocols), local).expect("a port");
        let address = endpoint.local_addr().expect("an address");
        let (sender, heard) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            authority: Arc::clone(&authority),
            store: Mutex::default(),
            changed: watch::Sender::new(0),
            heard: sender,
            address: address.to_string(),
            vouching: watch::Sender::new(true),
        });
        tokio::spawn(accept(endpoint.clone(), Arc::clone(&shared)));
        Self { authority, address, endpoint, shared, heard }
    }

    pub fn url(&self) -> String {
        format!("hither://{}", self.address)
    }

    /// A client of this server, with an identity of its own.
    pub fn client(&self) -> ClientBuilder {
        hither::Client::builder().url(self.url()).identity(self.authority.identity("tester"))
    }

    pub fn vouch(&self, vouching: bool) {
        self.shared.vouching.send_replace(vouching);
    }

    pub fn add_secret(&self, secret: &[u8]) {
        self.shared.store.lock().expect("no panic").secrets.push(secret.to_vec());
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.endpoint.close(VarInt::from_u32(CloseCode::ShuttingDown as u32), b"test");
    }

    /// Waits until a client said this; what it said before is forgotten.
    pub async fn hears(&mut self, wanted: &Heard) {
        let heard = async {
            while let Some(heard) = self.heard.recv().await {
                if heard == *wanted {
                    return;
                }
            }
            panic!("the server is gone");
        };
        soon(&format!("{wanted:?}"), heard).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(endpoint: quinn::Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let data = connection.handshake_data().expect("it is complete");
            let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().expect("rustls");
            if data.protocol.as_deref() == Some(ALPN_ENROLL) {
                enrol(&connection, &shared).await;
            } else {
                serve(connection, shared).await;
            }
        });
    }
}

async fn enrol(connection: &Connection, shared: &Shared) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let _ = shared.heard.send(Heard::Enrolment);
    let mut decoder = Decoder::default();
    let Some(frame) = next(&mut receive, &mut decoder).await else { return };
    let Ok((_, Request::Enrol(enrol))) = Request::decode(&frame) else { return };
    let known = {
        let mut store = shared.store.lock().expect("no panic");
        let before = store.secrets.len();
        store.secrets.retain(|secret| *secret != enrol.secret);
        store.secrets.len() < before
    };
    let mut out = BytesMut::new();
    if known {
        let certificate = shared.authority.certify(&enrol.csr, "enrolled");
        let reply = EnrolReply {
            cluster: CLUSTER,
            name: "enrolled".to_owned(),
            role: hither::Role::Client,
            certificate: certificate.into(),
            ca: shared.authority.ca_der().into(),
            expires_at: UnixMillis(0),
            endpoints: vec![shared.address.clone()],
        };
        Reply::Enrol(reply).encode(&mut out, RequestNumber(1), &Stamp::default(), false);
    } else {
        let refusal = Refusal::new(ErrorCode::EnrolmentInvalid, "used");
        encode_refusal(&mut out, RequestNumber(1), &refusal);
    }
    let _ = send.write_all(&out).await;
    let _ = send.finish();
    connection.closed().await;
}

async fn serve(connection: Connection, shared: Arc<Shared>) {
    let Ok((mut control, mut from)) = connection.accept_bi().await else { return };
    let mut decoder = Decoder::default();
    let Some(frame) = next(&mut from, &mut decoder).await else { return };
    let Ok(hello) = decode::<Hello>(&frame) else { return };
    let _ = shared.heard.send(Heard::Hello);
    let welcome = Welcome {
        lineage: Lineage { cluster: CLUSTER, incarnation: 1 },
        node: NodeId(1),
        version: "test".to_owned(),
        name: "tester".to_owned(),
        role: hither::Role::Client,
        term: 1,
        revision: Revision(shared.store.lock().expect("no panic").revision),
        leader: None,
        session: hello.session.map(|_| hither_protocol::message::SessionReply::Expired),
        beat_ms: 1_000,
        endpoints: vec![],
    };
    say(&mut control, 0, &welcome).await;
    tokio::spawn(lanes(connection.clone(), Arc::clone(&shared)));
    let mut watches: BTreeMap<u64, tokio::task::JoinHandle<()>> = BTreeMap::new();
    while let Some(frame) = next(&mut from, &mut decoder).await {
        match frame.header.op {
            op::KEEP_ALIVE => {
                let number = decode::<KeepAlive>(&frame).expect("KeepAlive").number;
                if *shared.vouching.borrow() {
                    say(&mut control, 0, &KeepAliveReply { number, session_alive: Some(true) }).await;
                }
            }
            op::SUBSCRIBE => {
                let subscribe: Subscribe = decode(&frame).expect("Subscribe");
                let id = subscribe.watch.0;
                watches.insert(id, tokio::spawn(watch_stream(connection.clone(), Arc::clone(&shared), subscribe)));
            }
            op::CANCEL_WATCH => {
                let cancel: CancelWatch = decode(&frame).expect("CancelWatch");
                if let Some(task) = watches.remove(&cancel.watch.0) {
                    task.abort();
                }
                let _ = shared.heard.send(Heard::Unwatched);
            }
            op::CANCEL_REQUEST => {
                let _: CancelRequest = decode(&frame).expect("CancelRequest");
                let _ = shared.heard.send(Heard::Cancelled);
            }
            op::GOODBYE => {
                let Goodbye {} = decode(&frame).expect("Goodbye");
                let _ = shared.heard.send(Heard::Goodbye);
                connection.close(VarInt::from_u32(0), b"goodbye");
            }
            _ => {}
        }
    }
    let _ = shared.heard.send(Heard::Gone);
}

async fn lanes(connection: Connection, shared: Arc<Shared>) {
    let mut first = true;
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(lane(send, receive, Arc::clone(&shared), std::mem::take(&mut first)));
    }
}

async fn lane(mut send: SendStream, mut receive: RecvStream, shared: Arc<Shared>, shared_lane: bool) {
    let mut decoder = Decoder::default();
    while let Some(frame) = next(&mut receive, &mut decoder).await {
        let (_, request) = Request::decode(&frame).expect("a request");
        let _ = shared.heard.send(if shared_lane { Heard::Request(request.name()) } else { Heard::OwnStream });
        let Some(answer) = answer(&shared, &request) else { continue };
        let mut out = BytesMut::new();
        let number = RequestNumber(frame.header.id);
        let revision = Revision(shared.store.lock().expect("no panic").revision);
        match answer {
            Ok(reply) => reply.encode(&mut out, number, &Stamp { revision, ..Stamp::default() }, false),
            Err(refusal) => encode_refusal(&mut out, number, &refusal),
        }
        let _ = send.write_all(&out).await;
    }
}

impl Shared {
    fn put(&self, store: &mut Store, put: &Put) -> PutReply {
        store.revision += 1;
        let revision = Revision(store.revision);
        let entry = Entry {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: Version(1),
            lease: put.lease,
        };
        let previous = store.entries.insert(put.key.clone(), entry.clone()).filter(|_| put.previous);
        store.log.push(Event::Put { entry, previous: Previous::NotAsked });
        self.changed.send_replace(store.revision);
        PutReply { revision, previous }
    }
}

/// None: it is never answered.
fn answer(shared: &Shared, request: &Request) -> Option<Result<Reply, Refusal>> {
    let mut store = shared.store.lock().expect("no panic");
    Some(Ok(match request {
        Request::Get(get) if get.key.as_bytes().starts_with(b"hang") => return None,
        Request::Put(put) if put.key.as_bytes().starts_with(b"hang") => return None,
        Request::LeaseGrant(grant) if grant.ttl_ms == HANGING.as_millis() as u64 => return None,
        Request::Get(get) => Reply::Get(GetReply { entry: store.entries.get(&get.key).cloned() }),
        Request::Range(range) => {
            let inside = |entry: &&Entry| range.range.contains(entry.key.as_bytes());
            let entries: Vec<Entry> = store.entries.values().filter(inside).cloned().collect();
            let count = entries.len() as u64;
            Reply::Range(RangeReply { entries, count, more: false })
        }
        Request::Put(put) => Reply::Put(shared.put(&mut store, put)),
        Request::Txn(txn) => {
            assert!(txn.when.is_empty(), "this server compares nothing");
            let result = |op: &TxnOp| match op {
                TxnOp::Put(put) => TxnResult::Put(shared.put(&mut store, put)),
                other => panic!("this server does not know {other:?} in a transaction"),
            };
            let results = txn.then.iter().map(result).collect();
            let revision = Revision(store.revision);
            Reply::Txn(TxnReply { revision, succeeded: true, results, results_forgotten: false })
        }
        Request::SessionOpen(open) => {
            Reply::SessionOpen(SessionOpenReply { session: SessionId(5), ttl_ms: open.ttl_ms, epoch: 1 })
        }
        Request::LeaseGrant(grant) => {
            Reply::LeaseGrant(LeaseGrantReply { lease: LeaseId(9), ttl_ms: grant.ttl_ms, epoch: 1 })
        }
        Request::LeaseRevoke(_) => {
            Reply::LeaseRevoke(LeaseRevokeReply { revision: Revision(store.revision), deleted: 0 })
        }
        Request::ClientAdd(_) => Reply::ClientAdd(ClientAddReply {
            secret: b"a secret".as_slice().into(),
            ca_pin: shared.authority.pin(),
            expires_at: UnixMillis(0),
            endpoints: vec![shared.address.clone()],
        }),
        Request::RenewIdentity(renew) => Reply::RenewIdentity(RenewIdentityReply {
            certificate: shared.authority.certify(&renew.csr, "tester").into(),
            ca: shared.authority.ca_der().into(),
            expires_at: UnixMillis(0),
        }),
        _ => return Some(Err(Refusal::new(ErrorCode::Unsupported, "not in this test"))),
    }))
}

async fn watch_stream(connection: Connection, shared: Arc<Shared>, subscribe: Subscribe) {
    let Ok(mut stream) = connection.open_uni().await else { return };
    let id = subscribe.watch.0;
    let mut changed = shared.changed.subscribe();
    let (mut position, entries) = {
        let store = shared.store.lock().expect("no panic");
        let inside = |entry: &&Entry| subscribe.range.contains(entry.key.as_bytes());
        let entries: Vec<Entry> = store.entries.values().filter(inside).cloned().collect();
        (store.revision, entries)
    };
    if let Start::After(revision) = subscribe.start {
        position = revision.0;
    }
    let lineage = Lineage { cluster: CLUSTER, incarnation: 1 };
    say(&mut stream, id, &Created { revision: Revision(position), lineage }).await;
    if subscribe.start == Start::Snapshot {
        say(&mut stream, id, &SnapshotPage { revision: Revision(position), entries }).await;
    }
    // Events of one batch: well within a frame.
    const EVENTS_MAX: usize = 50;
    loop {
        let (to, events) = {
            let store = shared.store.lock().expect("no panic");
            let owed = |event: &&Event| {
                event.revision().0 > position && event.key().is_some_and(|key| subscribe.range.contains(key.as_bytes()))
            };
            let events: Vec<Event> = store.log.iter().filter(owed).take(EVENTS_MAX).cloned().collect();
            let whole = events.len() < EVENTS_MAX;
            let to = if whole { store.revision } else { events.last().map_or(0, |event| event.revision().0) };
            (to, events)
        };
        if !events.is_empty() {
            let batch = Batch { from: Revision(position), to: Revision(to), folded: false, events };
            say(&mut stream, id, &batch).await;
            position = to;
            continue;
        }
        if changed.changed().await.is_err() {
            say(&mut stream, id, &End { reason: EndReason::ShuttingDown }).await;
            return;
        }
    }
}

async fn say<M: Message>(stream: &mut SendStream, id: u64, message: &M) {
    let mut out = BytesMut::new();
    encode(&mut out, id, message);
    // A client that is gone hears nothing.
    let _ = stream.write_all(&out).await;
}

async fn next(stream: &mut RecvStream, decoder: &mut Decoder) -> Option<Frame> {
    loop {
        if let Some(frame) = decoder.next_frame().expect("a frame") {
            return Some(frame);
        }
        let chunk = stream.read_chunk(64 * 1024, true).await.ok()??;
        decoder.push(&chunk.bytes);
    }
}
