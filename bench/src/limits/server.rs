//! The other end of the limits, in a process of its own.
//!
//! `E` echoes messages of [`MESSAGE_BYTES`]; `P` and a count opens that many streams, and then pushes one message to each
//! of them for every byte that follows; `L` is told what others relay; `R` relays messages: each is written to a file and
//! synced, then goes to all who are told, and then back.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::sync::Mutex;

use super::{MESSAGE_BYTES, bytes, transport};

/// A file of the relay is as long, and full of zeros, so that a sync has nothing to say of its length or its blocks.
const FILE_BYTES: u64 = 8 << 20;

/// Those who are told what is relayed.
type Listeners = Arc<Mutex<Vec<SendStream>>>;

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
    let listeners = Listeners::default();
    while let Some(incoming) = endpoint.accept().await {
        let listeners = Arc::clone(&listeners);
        tokio::spawn(async move {
            let connection = incoming.await?;
            let (mut send, mut receive) = connection.accept_bi().await?;
            let mut purpose = [0];
            receive.read_exact(&mut purpose).await?;
            match purpose[0] {
                b'P' => push(&connection, receive).await,
                b'R' => relay(&listeners, send, receive).await,
                b'L' => {
                    send.write_all(&[0]).await?;
                    listeners.lock().await.push(send);
                    connection.closed().await;
                    Ok(())
                }
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

/// The sync is this thread's: nobody has to be woken for it, and nothing else is to be served meanwhile.
async fn relay(listeners: &Listeners, mut send: SendStream, mut receive: RecvStream) -> anyhow::Result<()> {
    let file = tempfile::tempfile_in(".")?;
    fill(&file)?;
    send.write_all(&[0]).await?;
    let mut message = bytes();
    let mut at = 0;
    while receive.read_exact(&mut message).await.is_ok() {
        file.write_all_at(&message, at)?;
        file.sync_data()?;
        for listener in listeners.lock().await.iter_mut() {
            listener.write_all(&message).await?;
        }
        send.write_all(&message).await?;
        at = (at + MESSAGE_BYTES as u64) % (FILE_BYTES - MESSAGE_BYTES as u64);
    }
    Ok(())
}

fn fill(file: &File) -> std::io::Result<()> {
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()
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
