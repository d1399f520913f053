//! A client whose words are changed after the library has made them and before it encrypts them: for what no library
//! would send. What the peer answers, the library reads as if nothing had happened.

use std::any::Any;
use std::sync::Arc;

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::crypto::{
    ClientConfig as Crypto, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
};
use quinn::{ClientConfig, ConnectError, ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;

/// What is changed. Lengths stay as they are.
pub trait Forgery: Send + Sync + 'static {
    /// The first words of TLS, which have the client's transport parameters in them.
    fn greeting(&self, _words: &mut [u8]) {}

    /// The frames of one packet, once the handshake is over. Zeros are padding.
    fn frames(&self, _frames: &mut [u8]) {}
}

/// Bytes of a frame with one byte of a stream.
pub const BYTE_OF_STREAM: usize = 11;

/// Writes a frame with the byte at `offset` of a stream, and nothing of the stream before or after it.
///
/// # Panics
/// Where it does not fit.
pub fn byte_of_stream(frame: &mut [u8], stream: u64, offset: u32) {
    /// It says its offset and its length.
    const STREAM: u8 = 0x0e;
    /// In front of a number of four bytes.
    const FOUR_BYTES: u32 = 0x8000_0000;
    let stream = u32::try_from(stream).expect("one of the first streams");
    frame[0] = STREAM;
    frame[1..5].copy_from_slice(&(FOUR_BYTES | stream).to_be_bytes());
    frame[5..9].copy_from_slice(&(FOUR_BYTES | offset).to_be_bytes());
    (frame[9], frame[10]) = (1, 0);
}

/// How to connect with these words changed.
pub fn forged(tls: QuicClientConfig, forgery: Arc<dyn Forgery>) -> ClientConfig {
    ClientConfig::new(Arc::new(Forger { tls: Arc::new(tls), forgery }))
}

struct Forger {
    tls: Arc<QuicClientConfig>,
    forgery: Arc<dyn Forgery>,
}

impl Crypto for Forger {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = Arc::clone(&self.tls).start_session(version, server_name, params)?;
        Ok(Box::new(Forged { session, forgery: Arc::clone(&self.forgery), greeted: false, keys: 0 }))
    }
}

struct Forged {
    session: Box<dyn Session>,
    forgery: Arc<dyn Forgery>,
    greeted: bool,
    /// Sets of keys so far: the first is the handshake's, the second that of everything after it.
    keys: u8,
}

impl Forged {
    fn seal(&self, key: Box<dyn PacketKey>) -> Box<dyn PacketKey> {
        Box::new(Seal { key, forgery: Arc::clone(&self.forgery) })
    }
}

impl Session for Forged {
    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let before = buf.len();
        let keys = self.session.write_handshake(buf);
        if !self.greeted {
            self.greeted = true;
            self.forgery.greeting(&mut buf[before..]);
        }
        let Keys { header, packet: KeyPair { local, remote } } = keys?;
        self.keys += 1;
        let local = if self.keys == 2 { self.seal(local) } else { local };
        Some(Keys { header, packet: KeyPair { local, remote } })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let KeyPair { local, remote } = self.session.next_1rtt_keys()?;
        Some(KeyPair { local: self.seal(local), remote })
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

/// The key that packets are sealed with, after they were forged.
struct Seal {
    key: Box<dyn PacketKey>,
    forgery: Arc<dyn Forgery>,
}

impl PacketKey for Seal {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - self.key.tag_len();
        self.forgery.frames(&mut buf[header_len..end]);
        self.key.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}
