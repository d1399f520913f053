//! A client that does what it likes: bare QUIC and bare frames, with or without a certificate. For what the real
//! client would never send.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hither_protocol::codec::{Decoder, Frame, Message, encode};
use hither_protocol::error::CloseCode;
use hither_protocol::message::{Context, Hello, Reply, Request, Welcome};
use hither_protocol::{Refusal, RequestNumber, Revision, SERVER_NAME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::node::Home;
use crate::wait::within;

/// How long a server may take for what it does at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A client's certificate, and the CA that it trusts.
#[derive(Debug)]
pub struct Certificates {
    /// Whom it trusts.
    pub ca: CertificateDer<'static>,
    /// What it shows; nothing if it is none.
    pub own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

impl Certificates {
    /// Those of the user who started the node: an admin's.
    pub fn of(home: &Home) -> Self {
        let context = home.context();
        let own = std::fs::read(context.with_extension("pem")).expect("the node wrote an identity");
        let own = (
            CertificateDer::from_pem_slice(&own).expect("a certificate"),
            PrivateKeyDer::from_pem_slice(&own).expect("a private key"),
        );
        let ca = std::fs::read(context.with_extension("ca.pem")).expect("the node wrote its CA");
        Self { ca: CertificateDer::from_pem_slice(&ca).expect("a certificate"), own: Some(own) }
    }

    /// Nothing to show.
    pub fn without_own(mut self) -> Self {
        self.own = None;
        self
    }

    /// A certificate with the same names, that another CA made.
    pub fn forged(self) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::Issuer::new(ca, rcgen::KeyPair::generate().expect("a key"));
        let mut leaf = rcgen::CertificateParams::default();
        let (own, _) = self.own.as_ref().expect("a certificate to forge");
        leaf.subject_alt_names = uri_names(own)
            .into_iter()
            .map(|uri| rcgen::SanType::URI(uri.as_str().try_into().expect("a URI is ASCII")))
            .collect();
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Self { ca: self.ca, own: Some((certificate.der().clone(), key)) }
    }

    fn config(&self, alpn: &[u8]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).expect("a CA");
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is spoken")
            .with_root_certificates(roots);
        let mut tls = match &self.own {
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .expect("the key is the certificate's"),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = if alpn.is_empty() { Vec::new() } else { vec![alpn.to_vec()] };
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3 has what QUIC needs")))
    }
}

/// The URIs that a certificate is for.
fn uri_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    // Everything from the scheme to the first byte that no such URI has: enough for certificates that Hither makes.
    let text: String = certificate.iter().map(|&byte| char::from(byte)).collect();
    let parts = text
        .match_indices("hither://")
        .map(|(at, _)| text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || "/:._-".contains(*c)).collect());
    parts.collect()
}

/// A connection, and nothing said on it yet.
#[derive(Debug)]
pub struct Raw {
    connection: Connection,
    /// Ends with its last handle.
    _endpoint: Endpoint,
}

impl Raw {
    /// Connects, offering one protocol, or none if it is empty. In TLS 1.3 a server's refusal of the certificate shows only later.
    ///
    /// # Errors
    /// What the handshake says.
    pub async fn connect(
        server: SocketAddr,
        alpn: &[u8],
        certificates: &Certificates,
    ) -> Result<Self, ConnectionError> {
        Self::connect_with(server, certificates.config(alpn)).await
    }

    /// Connects in a way of its own.
    ///
    /// # Errors
    /// What the handshake says.
    pub async fn connect_with(server: SocketAddr, config: ClientConfig) -> Result<Self, ConnectionError> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let connecting = endpoint.connect_with(config, server, SERVER_NAME).expect("valid settings");
        let connection = within("the handshake", AT_ONCE, connecting).await?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Opens a lane.
    pub async fn lane(&self) -> Lane {
        self.try_lane().await.expect("the connection is open, and streams are granted")
    }

    /// Opens a lane; none if the server has closed the connection.
    pub async fn try_lane(&self) -> Option<Lane> {
        let (send, receive) = within("a stream", AT_ONCE, self.connection.open_bi()).await.ok()?;
        Some(Lane { send, receive, decoder: Decoder::default() })
    }

    /// Says hello on the first lane and waits for the welcome; then opens the second, for requests.
    pub async fn greet(&self) -> (Lane, Lane) {
        let mut control = self.lane().await;
        control.say(0, &hello()).await;
        let welcome = control.next().await.expect("a welcome");
        hither_protocol::codec::decode::<Welcome>(&welcome).expect("a welcome");
        (control, self.lane().await)
    }

    /// Waits until the server has closed the connection, and returns the code it gave.
    pub async fn closed(&self) -> Option<CloseCode> {
        match within("the server closes", AT_ONCE, self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => CloseCode::from_number(close.error_code.into_inner()),
            _ => None,
        }
    }

    /// Whether it is still open.
    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// The connection itself.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

/// A greeting as any client would send it.
pub fn hello() -> Hello {
    Hello {
        agent: "hither-tests".into(),
        namespace: "default".into(),
        cluster: None,
        session: None,
        seen: Revision::ZERO,
    }
}

/// One stream with frames both ways.
#[derive(Debug)]
pub struct Lane {
    send: SendStream,
    receive: RecvStream,
    decoder: Decoder,
}

impl Lane {
    /// Sends bytes, whatever they are. A lane that the server has given up takes none: what it says tells.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// Ends this side of it.
    pub fn finish(&mut self) {
        let _ = self.send.finish();
    }

    /// Sends a message.
    pub async fn say<M: Message>(&mut self, id: u64, message: &M) {
        let mut out = BytesMut::new();
        encode(&mut out, id, message);
        self.send(&out).await;
    }

    /// Sends a request.
    pub async fn ask(&mut self, number: u64, request: impl Into<Request>) {
        let mut out = BytesMut::new();
        request.into().encode(&mut out, RequestNumber(number), &Context::default());
        self.send(&out).await;
    }

    /// The next frame; none when the stream is over.
    pub async fn next(&mut self) -> Option<Frame> {
        within("an answer", AT_ONCE, async {
            loop {
                if let Some(frame) = self.decoder.next_frame().expect("the server sends frames within the limit") {
                    return Some(frame);
                }
                let piece = self.receive.read_chunk(usize::MAX, true).await.ok()??;
                self.decoder.push(&piece.bytes);
            }
        })
        .await
    }

    /// The answer to the request of this number. Answers to others are skipped.
    pub async fn answer(&mut self, number: u64) -> Result<Reply, Refusal> {
        loop {
            let frame = self.next().await.expect("an answer before the stream ends");
            if frame.header.id == number {
                return Reply::decode(&frame).expect("a reply").map(|(_, reply)| reply);
            }
        }
    }
}
