//! Somebody with any certificate at all, made with the cluster's own CA, which only this test machine can read.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;
use hither_protocol::codec::{Decoder, encode};
use hither_protocol::error::CloseCode;
use hither_protocol::message::op;
use hither_protocol::{ALPN_CLIENT, SERVER_NAME};
use hither_tests::node::Node;
use hither_tests::raw::hello;
use hither_tests::wait::within;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const AT_ONCE: Duration = Duration::from_secs(10);

/// The CA of a node.
#[derive(Debug)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// The cluster, as certificates name it.
    pub cluster: String,
}

/// What became of a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// They are welcome.
    Welcomed,
    /// TLS refused them, with this alert.
    Alert(u64),
    /// The server closed the connection.
    Closed(CloseCode),
    /// Anything else.
    Lost,
}

impl Authority {
    /// Reads it from the node's data directory.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(node: &Node) -> anyhow::Result<Self> {
        let folder = node.home().data().join("identity");
        let key = KeyPair::from_pem(&std::fs::read_to_string(folder.join("ca.key"))?)?;
        let certificate = CertificateDer::from_pem_file(folder.join("ca.pem"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        let about = std::fs::read_to_string(folder.join("about.toml"))?;
        let line = about.lines().find_map(|line| line.strip_prefix("cluster")).context("it names no cluster")?;
        let cluster = line.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        Ok(Self { certificate, issuer, cluster })
    }

    /// Signs a certificate; `change` says what is wrong with it.
    ///
    /// # Errors
    /// What was asked for makes no certificate.
    pub fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> anyhow::Result<Shown> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(&format!("hither://{}/admin/admin", self.cluster))?];
        // Of the first generation, as that of whoever started the node.
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&((1_u128 << 64) | 7).to_be_bytes()));
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2099, 1, 1));
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Shown {
            ca: self.certificate.clone(),
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }
}

/// A name of a certificate.
///
/// # Errors
/// It is no ASCII.
pub fn uri(text: &str) -> anyhow::Result<rcgen::SanType> {
    Ok(rcgen::SanType::URI(text.try_into()?))
}

/// What is shown in a handshake.
#[derive(Debug)]
pub struct Shown {
    ca: CertificateDer<'static>,
    /// The certificate, and what is sent after it.
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Shown {
    /// How it would connect as a client. `early`: with data before the handshake ends, if the server takes any.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn config(&self, early: bool) -> anyhow::Result<ClientConfig> {
        Ok(ClientConfig::new(Arc::new(self.tls(early)?)))
    }

    /// The part of it that is TLS.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn tls(&self, early: bool) -> anyhow::Result<QuicClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        tls.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        tls.enable_early_data = early;
        Ok(QuicClientConfig::try_from(tls)?)
    }

    /// Knocks at a node, and says hello if the door opens.
    ///
    /// # Errors
    /// Nothing happens at all.
    pub async fn knock(&self, node: &Node) -> anyhow::Result<Met> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let connecting = endpoint.connect_with(self.config(false)?, node.addr(), SERVER_NAME)?;
        let connection = match within("the handshake", AT_ONCE, connecting).await {
            Ok(connection) => connection,
            Err(error) => return Ok(met(&error)),
        };
        match greet(&connection).await {
            Some(true) => Ok(Met::Welcomed),
            _ => Ok(met(&within("the server closes", AT_ONCE, connection.closed()).await)),
        }
    }
}

/// Says hello; whether the answer is a welcome, none if there is no answer.
async fn greet(connection: &Connection) -> Option<bool> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    let mut out = BytesMut::new();
    encode(&mut out, 0, &hello());
    send.write_all(&out).await.ok()?;
    let mut decoder = Decoder::default();
    loop {
        if let Some(frame) = decoder.next_frame().ok()? {
            return Some(frame.header.op == op::WELCOME);
        }
        decoder.push(&receive.read_chunk(usize::MAX, true).await.ok()??.bytes);
    }
}

fn met(error: &ConnectionError) -> Met {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_number(close.error_code.into_inner()).map_or(Met::Lost, Met::Closed)
        }
        ConnectionError::ConnectionClosed(close) => Met::Alert(close.error_code.into()),
        _ => Met::Lost,
    }
}
