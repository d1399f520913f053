//! TLS 1.3: who may speak to whom.
//!
//! One configuration serves both protocols. A certificate is verified if one is shown; whether one had to be is for the
//! session to say, which knows the protocol that was agreed on.

use std::sync::Arc;

use hither_protocol::{ALPN_CLIENT, ALPN_ENROLL};
use quinn_proto::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};

use super::quiet::Quiet;
use crate::identity::Identity;

/// Sessions that can be resumed, so that ten thousand clients who come back do not cost ten thousand signatures. Who
/// they are is checked again each time.
const RESUMABLE: usize = 20_480;

pub(super) fn server_config(
    identity: &Identity,
) -> Result<Arc<dyn quinn_proto::crypto::ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority().ca_der().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider())
        .allow_unauthenticated()
        .build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity.server_certificate());
    config.alpn_protocols = vec![ALPN_CLIENT.to_vec(), ALPN_ENROLL.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(RESUMABLE);
    // What is sent before the handshake ends can be replayed by anyone.
    config.max_early_data_size = 0;
    Ok(Arc::new(Quiet(Arc::new(QuicServerConfig::try_from(config)?))))
}
