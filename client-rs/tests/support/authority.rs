//! A cluster's CA, made for one test.

use std::sync::Arc;

use hither::{ClusterId, Identity};
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

pub const CLUSTER: ClusterId = ClusterId([7; 16]);

/// A certificate authority.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Vec<u8>,
    /// How long ago certificates began, and how long they last, in seconds.
    pub lifetime: (i64, i64),
}

impl Authority {
    pub fn new() -> Self {
        Self::lasting(60, 3_600)
    }

    pub fn lasting(before: i64, after: i64) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate").der().to_vec();
        Self { params, key, certificate, lifetime: (before, after) }
    }

    pub fn ca_der(&self) -> Vec<u8> {
        self.certificate.clone()
    }

    /// SHA-256 of the CA's certificate.
    pub fn pin(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.certificate);
        digest.as_ref().try_into().expect("32 bytes")
    }

    /// An identity of a client of this cluster.
    pub fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = self.sign(&key, name);
        Identity::from_der(self.ca_der(), certificate, key.serialize_der()).expect("an identity")
    }

    /// What a server answers to a signing request.
    pub fn certify(&self, csr: &[u8], name: &str) -> Vec<u8> {
        let request = CertificateSigningRequestDer::from(csr);
        let request = CertificateSigningRequestParams::from_der(&request).expect("a signing request");
        self.sign(&request.public_key, name)
    }

    fn sign(&self, key: &impl PublicKeyData, name: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let uri = format!("hither://{CLUSTER}/client/{name}").try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::seconds(self.lifetime.0);
        params.not_after = now + time::Duration::seconds(self.lifetime.1);
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).expect("a certificate").der().to_vec()
    }

    pub fn server_config(&self, protocols: &[&[u8]]) -> quinn::ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["hither".to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("a certificate").der().to_vec();
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca_der())).expect("a CA");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .expect("a verifier");
        let chain = vec![CertificateDer::from(certificate), CertificateDer::from(self.ca_der())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).expect("TLS 1.3")))
    }
}
