//! TLS 1.3 with the cluster's CA pinned. Every choice of a crypto provider is here.

use std::sync::Arc;

use hither_client_core::Error;
use hither_protocol::{ALPN_CLIENT, ALPN_ENROLL, ErrorCode};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::identity::Identity;

/// Given explicitly everywhere: a library installs no default for its whole process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    // A handshake hashes hundreds of times, and processors have instructions for SHA-256 that they lack for SHA-384. The
    // server takes what its client prefers.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// The TLS side of a client with an identity.
pub(crate) fn client(identity: &Identity) -> Result<QuicClientConfig, Error> {
    let wrong = |error: rustls::Error| {
        Error::caused_by(ErrorCode::IdentityInvalid, format!("the identity cannot be used: {error}"), error)
    };
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca_der()).map_err(wrong)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong)?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain(), identity.key_der())
        .map_err(wrong)?;
    config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    quic(config)
}

/// The TLS side of an enrolment: no identity yet, and of the CA only its SHA-256.
pub(crate) fn enrolment(pin: [u8; 32]) -> Result<QuicClientConfig, Error> {
    let wrong = |error: rustls::Error| Error::caused_by(ErrorCode::Internal, "TLS cannot be set up", error);
    let verifier = Arc::new(Pinned { pin, provider: provider() });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_ENROLL.to_vec()];
    quic(config)
}

fn quic(config: ClientConfig) -> Result<QuicClientConfig, Error> {
    QuicClientConfig::try_from(config)
        .map_err(|error| Error::caused_by(ErrorCode::Internal, "QUIC has no cipher suite to begin with", error))
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// Trusts the one CA whose hash it knows; the server sends its certificate along.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| sha256(certificate) == self.pin)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC speaks TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_processors_are_fast_at_is_preferred_and_the_rest_is_offered() {
        let offered: Vec<CipherSuite> = provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(offered[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        for other in [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256] {
            assert!(offered.contains(&other), "{other:?}");
        }
    }
}
