use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use hither_protocol::codec::{Decoder, Frame, Message, decode, encode, encode_with};
use hither_protocol::error::CloseCode;
use hither_protocol::message::{
    ClientList, Context, Created, Delete, Get, Hello, Put, Range, Reply, Request, SessionOpen, Stamp, Start, Subscribe,
    Welcome, op,
};
use hither_protocol::{
    ALPN_CLIENT, ALPN_ENROLL, Entry, KeyRange, Refusal, RequestNumber, Revision, SERVER_NAME, SessionId, WatchId,
};
use hither_server::identity::Credentials;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::within;

/// One direction out, one in, and what came.
pub struct Lane {
    pub send: SendStream,
    pub recv: Incoming,
}

/// Frames off a stream.
pub struct Incoming {
    stream: RecvStream,
    decoder: Decoder,
}

impl Incoming {
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    /// The next frame; none at the end of the stream.
    pub async fn try_next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the server sends frames") {
                return Some(frame);
            }
            let chunk = within("a frame", self.stream.read_chunk(64 * 1024, true)).await.ok()??;
            self.decoder.push(&chunk.bytes);
        }
    }

    pub async fn next(&mut self) -> Frame {
        self.try_next().await.expect("a frame, not the end")
    }

    /// The next frame of this op; others are passed over, as beats are.
    pub async fn next_of(&mut self, op: u16) -> Frame {
        within("a frame of an op", async {
            loop {
                let frame = self.next().await;
                if frame.header.op == op {
                    return frame;
                }
            }
        })
        .await
    }

    pub async fn message<M: Message>(&mut self) -> M {
        decode(&self.next_of(M::OP).await).expect("decodes")
    }

    /// The next refusal, whatever comes before it.
    pub async fn refusal(&mut self) -> Refusal {
        let frame = self.next_of(op::ERROR).await;
        Reply::decode(&frame).expect("decodes").expect_err("is a refusal")
    }
}

impl Lane {
    pub async fn write(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.expect("writes");
    }

    pub async fn tell<M: Message>(&mut self, id: u64, message: &M) {
        let mut out = BytesMut::new();
        encode(&mut out, id, message);
        self.write(&out).await;
    }
}

/// A connection that was not greeted.
pub struct Stranger {
    _endpoint: Endpoint,
    pub quic: quinn::Connection,
}

impl Stranger {
    /// Connects with whatever identity and protocol; nothing is said yet.
    pub async fn connect(
        address: SocketAddr,
        ca: &Bytes,
        credentials: Option<&Credentials>,
        alpn: &[u8],
    ) -> Result<Self, ConnectionError> {
        Self::connect_with(address, ca, credentials, alpn, |_| {}).await
    }

    /// The same, over a transport that was changed so.
    pub async fn connect_with(
        address: SocketAddr,
        ca: &Bytes,
        credentials: Option<&Credentials>,
        alpn: &[u8],
        change: impl FnOnce(&mut quinn::TransportConfig),
    ) -> Result<Self, ConnectionError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.to_vec())).expect("a CA");
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots);
        let mut tls = match credentials {
            Some(credentials) => {
                let chain = vec![CertificateDer::from(credentials.certificate.to_vec())];
                let key = PrivateKeyDer::Pkcs8(credentials.key.to_vec().into());
                builder.with_client_auth_cert(chain, key).expect("a key")
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a configuration")));
        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_uni_streams(VarInt::from_u32(2_000));
        change(&mut transport);
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
        let connecting = endpoint.connect_with(config, address, SERVER_NAME).expect("an address");
        let quic = within("a handshake", connecting).await?;
        Ok(Self { _endpoint: endpoint, quic })
    }

    pub async fn open(&self) -> Lane {
        let (send, recv) = within("a stream", self.quic.open_bi()).await.expect("opens");
        Lane { send, recv: Incoming::new(recv) }
    }

    /// Why the server closed the connection.
    pub async fn closed(&self) -> ConnectionError {
        within("the end of the connection", self.quic.closed()).await
    }
}

/// The close code that the server gave; none for another end.
pub fn closed_with(error: &ConnectionError) -> Option<CloseCode> {
    match error {
        ConnectionError::ApplicationClosed(close) => CloseCode::from_number(close.error_code.into_inner()),
        _ => None,
    }
}

/// A client that was welcomed.
pub struct Client {
    pub stranger: Stranger,
    pub control: Lane,
    pub requests: Lane,
    pub welcome: Welcome,
    next_number: AtomicU64,
}

pub fn hello() -> Hello {
    Hello {
        agent: "test/1".to_owned(),
        namespace: "default".to_owned(),
        cluster: None,
        session: None,
        seen: Revision::ZERO,
    }
}

impl Client {
    pub async fn connect(address: SocketAddr, credentials: &Credentials) -> Self {
        Self::greet(address, credentials, hello()).await
    }

    pub async fn greet(address: SocketAddr, credentials: &Credentials, hello: Hello) -> Self {
        let stranger =
            Stranger::connect(address, &credentials.ca, Some(credentials), ALPN_CLIENT).await.expect("connects");
        let mut control = stranger.open().await;
        control.tell(1, &hello).await;
        let welcome = control.recv.message::<Welcome>().await;
        let requests = stranger.open().await;
        Self { stranger, control, requests, welcome, next_number: AtomicU64::new(1) }
    }

    pub fn number(&self) -> RequestNumber {
        RequestNumber(self.next_number.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a request on the lane; returns its number.
    pub async fn ask(&mut self, request: impl Into<Request>, context: &Context) -> RequestNumber {
        let number = self.number();
        let mut out = BytesMut::new();
        request.into().encode(&mut out, number, context);
        self.requests.write(&out).await;
        number
    }

    /// The answer to a request, with nothing else under way.
    pub async fn call(&mut self, request: impl Into<Request>) -> Result<(Stamp, Reply), Refusal> {
        self.call_with(request, &Context::default()).await
    }

    pub async fn call_with(
        &mut self,
        request: impl Into<Request>,
        context: &Context,
    ) -> Result<(Stamp, Reply), Refusal> {
        let number = self.ask(request, context).await;
        let frame = self.requests.recv.next().await;
        assert_eq!(frame.header.id, number.0);
        Reply::decode(&frame).expect("decodes")
    }

    pub async fn put(&mut self, key: &str, value: impl AsRef<[u8]>) -> Revision {
        let value = Bytes::copy_from_slice(value.as_ref());
        match self.call(Put { key: key.into(), value, lease: None, previous: false }).await {
            Ok((_, Reply::Put(put))) => put.revision,
            other => panic!("{other:?}"),
        }
    }

    /// Writes one key after the other; returns the revisions in the same order.
    pub async fn put_all(&mut self, keys: impl Iterator<Item = String>, value: &[u8]) -> Vec<Revision> {
        let value = Bytes::copy_from_slice(value);
        let (mut first, mut count) = (None, 0);
        let mut frames = Vec::new();
        for key in keys {
            let number = self.number();
            first.get_or_insert(number);
            count += 1;
            frames
                .push(frame_of(Put { key: key.into(), value: value.clone(), lease: None, previous: false }, number.0));
        }
        let (first, count) = (first.map_or(0, |first| first.0), count);
        let Lane { send, recv } = &mut self.requests;
        let write = async {
            for frame in &frames {
                send.write_all(frame).await.expect("writes");
            }
        };
        let read = async {
            let mut revisions = vec![Revision::ZERO; count];
            for _ in 0..count {
                let frame = recv.next().await;
                let place = usize::try_from(frame.header.id - first).expect("fits");
                match Reply::decode(&frame).expect("decodes") {
                    Ok((_, Reply::Put(put))) => revisions[place] = put.revision,
                    other => panic!("{other:?}"),
                }
            }
            revisions
        };
        tokio::join!(write, read).1
    }

    pub async fn get(&mut self, key: &str) -> Option<Entry> {
        match self.call(Get { key: key.into(), consistency: Default::default() }).await {
            Ok((_, Reply::Get(get))) => get.entry,
            other => panic!("{other:?}"),
        }
    }

    pub async fn delete(&mut self, range: KeyRange) -> u64 {
        match self.call(Delete { range, previous: false }).await {
            Ok((_, Reply::Delete(delete))) => delete.deleted,
            other => panic!("{other:?}"),
        }
    }

    pub async fn open_session(&mut self, ttl_ms: u64) -> SessionId {
        match self.call(SessionOpen { ttl_ms, nonce: [7; 16] }).await {
            Ok((_, Reply::SessionOpen(open))) => open.session,
            other => panic!("{other:?}"),
        }
    }

    /// Connections that an identity has open.
    pub async fn connections_of(&mut self, name: &str) -> u32 {
        match self.call(ClientList {}).await {
            Ok((_, Reply::ClientList(list))) => {
                list.clients.iter().find(|client| client.name == name).map_or(0, |client| client.connections)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Works: writes a key and reads it back. What somebody else does must not keep it from that.
    pub async fn is_undisturbed(&mut self) {
        let revision = self.put("undisturbed", "yes").await;
        let entry = self.get("undisturbed").await.expect("is there");
        assert_eq!(entry.mod_revision, revision);
    }

    pub async fn subscribe(&mut self, watch: u64, range: KeyRange, start: Start) {
        let subscribe = Subscribe {
            watch: WatchId(watch),
            range,
            start,
            lineage: None,
            mode: Default::default(),
            filter: Default::default(),
            previous: false,
            min_interval_ms: 0,
        };
        self.control.tell(watch, &subscribe).await;
    }

    /// The next stream that the server opens.
    pub async fn accept(&self) -> Incoming {
        Incoming::new(within("a stream", self.stranger.quic.accept_uni()).await.expect("accepts"))
    }

    /// Opens a watch and takes its first frame.
    pub async fn watch(&mut self, watch: u64, range: KeyRange, start: Start) -> (Incoming, Created) {
        self.subscribe(watch, range, start).await;
        let mut stream = self.accept().await;
        let first = stream.next().await;
        assert_eq!(first.header.id, watch);
        let created = decode(&first).expect("decodes");
        (stream, created)
    }

    pub fn range(range: KeyRange) -> Range {
        Range { range, limit: 0, reverse: false, projection: Default::default(), consistency: Default::default() }
    }
}

/// The frame of a request, for those who want to break it.
pub fn frame_of(request: impl Into<Request>, number: u64) -> BytesMut {
    let mut out = BytesMut::new();
    request.into().encode(&mut out, RequestNumber(number), &Context::default());
    out
}

/// Redeems a secret, as another machine would.
pub async fn enrol(
    address: SocketAddr,
    ca: &Bytes,
    secret: Bytes,
    key: &rcgen::KeyPair,
) -> Result<Credentials, Refusal> {
    let stranger = Stranger::connect(address, ca, None, ALPN_ENROLL).await.expect("connects");
    let mut lane = stranger.open().await;
    let csr = rcgen::CertificateParams::default().serialize_request(key).expect("a request");
    let mut out = BytesMut::new();
    let request = hither_protocol::message::Enrol { secret, csr: Bytes::copy_from_slice(csr.der()) };
    encode_with(&mut out, 1, &Context::default(), &request);
    lane.write(&out).await;
    match Reply::decode(&lane.recv.next().await).expect("decodes")? {
        (_, Reply::Enrol(reply)) => Ok(Credentials {
            name: reply.name,
            certificate: reply.certificate,
            key: key.serialize_der().into(),
            ca: reply.ca,
            expires_at: reply.expires_at,
        }),
        other => panic!("{other:?}"),
    }
}
