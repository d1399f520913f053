//! TLS 1.3: who may speak to whom.
//!
//! One configuration serves both protocols. A certificate is verified if one is shown; whether one had to be is for the
//! session to say, which knows the protocol that was agreed on.

use std::sync::Arc;

use hither_protocol::{ALPN_CLIENT, ALPN_ENROLL};
use quinn_proto::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::quiet::Quiet;
use super::tickets::Tickets;
use crate::identity::Identity;

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
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets::new(identity.endpoint_keys().tickets()));
    // What is sent before the handshake ends can be replayed by anyone.
    config.max_early_data_size = 0;
    Ok(Arc::new(Quiet(Arc::new(QuicServerConfig::try_from(config)?))))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hither_protocol::SERVER_NAME;
    use quinn::crypto::rustls::QuicClientConfig;
    use rustls::SignatureScheme;
    use rustls::client::ResolvesClientCert;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::sign::CertifiedKey;

    use super::super::{provider, transport};
    use super::*;
    use crate::config::{ClientsConfig, Config};
    use crate::identity::initialise;

    /// A client's certificate, and how often it was asked for.
    #[derive(Debug)]
    struct Shown {
        certificate: Arc<CertifiedKey>,
        times: AtomicUsize,
    }

    impl ResolvesClientCert for Shown {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            self.times.fetch_add(1, Ordering::Relaxed);
            Some(Arc::clone(&self.certificate))
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    fn serve(identity: &Identity, clients: &ClientsConfig) -> (quinn::Endpoint, SocketAddr) {
        let tls = server_config(identity).expect("a configuration");
        let [far, _] = transport::server_configs(clients, tls).expect("a configuration");
        let endpoint = quinn::Endpoint::server(far, (Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let address = endpoint.local_addr().expect("an address");
        (endpoint, address)
    }

    #[tokio::test]
    async fn a_client_comes_back_to_a_server_that_was_restarted_without_its_certificate_and_is_known() {
        let data = tempfile::tempdir().expect("a directory");
        let identity = initialise(data.path()).expect("is made");
        let admin = identity.admin().expect("reads");
        let chain = vec![CertificateDer::from(admin.certificate.to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(admin.key.to_vec()));
        let certificate = Arc::new(CertifiedKey::from_der(chain, key, &provider()).expect("an identity"));
        let shown = Arc::new(Shown { certificate, times: AtomicUsize::new(0) });
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority().ca_der().clone()).expect("a CA");
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesClientCert>);
        tls.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a cipher suite")));
        let client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let clients = Config::default().clients;
        for _process in 0..3 {
            let (server, address) = serve(&identity, &clients);
            let connecting = client.connect_with(config.clone(), address, SERVER_NAME).expect("is dialed");
            let incoming = server.accept().await.expect("is dialed");
            let (here, there) = tokio::join!(connecting, incoming);
            let (here, there) = (here.expect("connects"), there.expect("connects"));
            let chain = there.peer_identity().expect("shown").downcast::<Vec<CertificateDer<'static>>>().expect("TLS");
            assert_eq!(chain.first().map(|certificate| &certificate[..]), Some(&admin.certificate[..]));
            // The tickets come before whatever is sent after the handshake.
            there.open_uni().await.expect("a stream").finish().expect("is open");
            here.accept_uni().await.expect("the stream");
            assert_eq!(shown.times.load(Ordering::Relaxed), 1, "the certificate was shown again");
        }
    }
}
