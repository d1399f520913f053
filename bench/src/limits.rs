//! What the machine allows: a bare QUIC echo, and raw QUIC streams that a server pushes to. No Hither in it.
//!
//! A connection's first stream says what it is for: `E` echoes messages of [`MESSAGE_BYTES`]; `P` and a count opens that
//! many streams, and then pushes one message to each of them for every byte that follows.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::sync::{Semaphore, mpsc};

use crate::latency::Latencies;
use crate::process::Server;
use crate::spent::Spent;
use crate::workload::Figures;

/// A value of 256 bytes and what surrounds it on the wire.
const MESSAGE_BYTES: usize = 300;

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_uni_streams(2_000_u32.into());
    transport.max_concurrent_bidi_streams(8_u32.into());
    Arc::new(transport)
}

/// Serves until it is killed; prints its address.
pub(crate) async fn server() -> anyhow::Result<()> {
    let key = rcgen::generate_simple_self_signed(["limits".to_owned()])?;
    let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())?;
    tls.alpn_protocols = vec![b"limits".to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(quinn::crypto::rustls::QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    let endpoint = Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", endpoint.local_addr()?);
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            let (send, mut receive) = connection.accept_bi().await?;
            let mut purpose = [0];
            receive.read_exact(&mut purpose).await?;
            match purpose[0] {
                b'P' => push(&connection, receive).await,
                _ => echo(send, receive).await,
            }
        });
    }
    Ok(())
}

async fn echo(mut send: SendStream, mut receive: RecvStream) -> anyhow::Result<()> {
    let mut held = Vec::new();
    while let Some(chunk) = receive.read_chunk(64 * 1024, true).await? {
        held.extend_from_slice(&chunk.bytes);
        // Whole messages only, all that one read brought with one write: as Hither's request lane does.
        let whole = held.len() / MESSAGE_BYTES * MESSAGE_BYTES;
        send.write_all(&held[..whole]).await?;
        held.drain(..whole);
    }
    Ok(())
}

async fn push(connection: &Connection, mut receive: RecvStream) -> anyhow::Result<()> {
    let mut count = [0; 4];
    receive.read_exact(&mut count).await?;
    let mut streams = Vec::new();
    for _ in 0..u32::from_le_bytes(count) {
        let mut stream = connection.open_uni().await?;
        stream.write_all(&[0]).await?;
        streams.push(stream);
    }
    let message = bytes();
    let mut rounds = [0; 64];
    while let Some(read) = receive.read(&mut rounds).await? {
        for _ in 0..read {
            for stream in &mut streams {
                stream.write_all(&message).await?;
            }
        }
    }
    Ok(())
}

fn bytes() -> Vec<u8> {
    vec![b'v'; MESSAGE_BYTES]
}

/// Round trips over one connection.
pub(crate) async fn echo_loop(server: &Server, in_flight: usize, seconds: f64) -> anyhow::Result<Figures> {
    let connection = connect(server).await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"E").await?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let permits = Arc::new(Semaphore::new(in_flight));
    let (sent, mut order) = mpsc::unbounded_channel();
    let latencies = Rc::new(RefCell::new(Latencies::new()));
    let cpu = server.cpu()?;
    let writing = async {
        let message = bytes();
        while Instant::now() < end {
            permits.acquire().await?.forget();
            // Every message that has a permit goes out with one write.
            let more = permits.available_permits();
            permits.forget_permits(more);
            let now = Instant::now();
            (0..=more).try_for_each(|_| sent.send(now))?;
            send.write_all(&message.repeat(more + 1)).await?;
        }
        drop(sent);
        anyhow::Ok(())
    };
    let reading = async {
        let mut held = 0;
        while let Some(chunk) = receive.read_chunk(64 * 1024, true).await? {
            held += chunk.bytes.len();
            while held >= MESSAGE_BYTES {
                held -= MESSAGE_BYTES;
                let Some(start) = order.recv().await else { return anyhow::Ok(()) };
                latencies.borrow_mut().record(start.elapsed());
                permits.add_permits(1);
            }
            if order.is_closed() && order.is_empty() {
                break;
            }
        }
        Ok(())
    };
    tokio::try_join!(writing, reading)?;
    let cpu = server.cpu()? - cpu;
    let latencies = latencies.borrow();
    let operations = latencies.count() as f64;
    Ok(Figures::from([
        ("operations/s", operations / seconds),
        ("p50 ms", latencies.quantile_ms(0.5)),
        ("p99 ms", latencies.quantile_ms(0.99)),
        ("server CPU us/op", cpu.as_secs_f64() * 1e6 / operations),
    ]))
}

/// One message to each of very many streams, from its trigger to the last arrival.
pub(crate) async fn push_rounds(server: &Server, streams: usize, connections: usize) -> anyhow::Result<Figures> {
    const ROUNDS: usize = 20;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut triggers = Vec::new();
    let mut held = Vec::new();
    for _ in 0..connections {
        let connection = connect(server).await?;
        let (mut send, receive) = connection.open_bi().await?;
        let count = u32::try_from(streams / connections)?;
        send.write_all(b"P").await?;
        send.write_all(&count.to_le_bytes()).await?;
        for _ in 0..count {
            let mut stream = connection.accept_uni().await?;
            let arrived = arrived.clone();
            tokio::spawn(async move {
                let mut first = [0];
                stream.read_exact(&mut first).await?;
                let mut message = bytes();
                while stream.read_exact(&mut message).await.is_ok() {
                    if arrived.send(()).is_err() {
                        break;
                    }
                }
                anyhow::Ok(())
            });
        }
        triggers.push(send);
        held.push((connection, receive));
    }
    let mut times = Vec::new();
    let spent = Spent::by(server)?;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for trigger in &mut triggers {
            trigger.write_all(&[0]).await?;
        }
        for _ in 0..streams {
            arrivals.recv().await.context("every message arrives")?;
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let spent = spent.since(server)?;
    let total: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    let deliveries = ROUNDS * streams;
    Ok(Figures::from([
        ("acknowledgement to last p50 ms", times[times.len() / 2]),
        ("deliveries/s", deliveries as f64 / total * 1e3),
        ("client CPU us/delivery", spent.own_us(deliveries)),
        ("server CPU us/delivery", spent.server_us(deliveries)),
    ]))
}

async fn connect(server: &Server) -> anyhow::Result<Connection> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"limits".to_vec()];
    let mut config = ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint.connect(server.address.parse()?, "limits")?.await?)
}

/// The two ends are the same program, a moment apart, on one machine: there is nobody to tell from anybody.
#[derive(Debug)]
struct Unchecked(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
