//! The client-facing CA: it signs the names that the cluster decided on, and nothing that a request asks for.

use std::time::Duration;

use bytes::Bytes;
use hither_protocol::message::Role;
use hither_protocol::{ClusterId, ErrorCode, NodeId, Refusal, SERVER_NAME, UnixMillis};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::files::{Folder, pem};
use super::{CERTIFICATE_VALID, Credentials, IdentityError, Principal};

/// How long the CA is good for: it cannot be changed without touching every client.
const CA_VALID: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How far a certificate begins in the past, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);
/// The generation of the certificates that no record of an identity speaks of, and of the first one that it does.
pub(super) const FIRST_GENERATION: u64 = 1;

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    cluster: ClusterId,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// DER.
    pub certificate: Bytes,
    /// When it ends.
    pub expires_at: UnixMillis,
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's generator does not fail once the machine is up, and a server without it must not run.
    #[expect(clippy::expect_used, reason = "see the line above")]
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

impl Authority {
    pub(super) fn create(folder: &Folder, cluster: ClusterId) -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(issue)?;
        let mut params = params(&format!("hither {cluster} clients"), CA_VALID);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = params.self_signed(&key).map_err(issue)?.der().clone();
        folder.write("ca.pem", pem("CERTIFICATE", &ca).as_bytes())?;
        folder.write("ca.key", Zeroizing::new(key.serialize_pem()).as_bytes())?;
        Self::new(cluster, ca, key)
    }

    pub(super) fn open(folder: &Folder, cluster: ClusterId) -> Result<Self, IdentityError> {
        let key = folder.read_key("ca.key")?;
        let key = key_pair(&key).map_err(|error| damaged(folder, "ca.key", &error))?;
        Self::new(cluster, folder.read_certificate("ca.pem")?, key)
    }

    fn new(cluster: ClusterId, ca: CertificateDer<'static>, key: KeyPair) -> Result<Self, IdentityError> {
        let issuer = Issuer::from_ca_cert_der(&ca, key).map_err(issue)?;
        Ok(Self { cluster, ca, issuer })
    }

    /// The CA itself, DER.
    #[must_use]
    pub fn ca(&self) -> Bytes {
        Bytes::copy_from_slice(&self.ca)
    }

    pub(crate) fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// SHA-256 of the CA: what an enrolling client pins.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        super::record::sha256(&self.ca)
    }

    /// A certificate for a client, with the public key of its request. Names in the request count for nothing.
    pub(crate) fn sign_client(&self, csr: &[u8], role: Role, name: &str, generation: u64) -> Result<Issued, Refusal> {
        let csr = parse_csr(csr)?;
        self.client(role, name, generation, &csr.public_key).map_err(|error| {
            tracing::error!(%error, "a client certificate could not be signed");
            Refusal::new(ErrorCode::Internal, "the certificate could not be signed")
        })
    }

    fn client(
        &self,
        role: Role,
        name: &str,
        generation: u64,
        key: &impl PublicKeyData,
    ) -> Result<Issued, rcgen::Error> {
        let mut params = params(&format!("hither {} {name}", role.as_str()), CERTIFICATE_VALID);
        params.subject_alt_names = vec![uri(&Principal::uri(self.cluster, role.as_str(), name))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(&Principal::serial(generation, random())));
        self.sign(params, key)
    }

    /// A certificate for a node, and its key.
    pub(super) fn server(&self, node: NodeId) -> Result<(Issued, KeyPair), rcgen::Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let mut params = params(&format!("hither node {node}"), CERTIFICATE_VALID);
        let uri = uri(&Principal::uri(self.cluster, "node", &node.to_string()))?;
        params.subject_alt_names = vec![uri, SanType::DnsName(SERVER_NAME.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok((self.sign(params, &key)?, key))
    }

    /// A fresh key and certificate for an admin.
    pub(super) fn admin_credentials(&self, name: &str) -> Result<Credentials, IdentityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(issue)?;
        let issued = self.client(Role::Admin, name, FIRST_GENERATION, &key).map_err(issue)?;
        Ok(Credentials {
            name: name.to_owned(),
            certificate: issued.certificate,
            key: Zeroizing::new(key.serialize_der()),
            ca: self.ca(),
            expires_at: issued.expires_at,
        })
    }

    fn sign(&self, mut params: CertificateParams, key: &impl PublicKeyData) -> Result<Issued, rcgen::Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let expires_at = UnixMillis(u64::try_from(params.not_after.unix_timestamp()).unwrap_or(0) * 1_000);
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(Issued { certificate: Bytes::copy_from_slice(certificate.der()), expires_at })
    }
}

/// The public key of a request, as SHA-256 of its DER: tells the one who redeemed a secret from anyone else.
pub(super) fn csr_key_hash(csr: &[u8]) -> Result<[u8; 32], Refusal> {
    Ok(super::record::sha256(&parse_csr(csr)?.public_key.subject_public_key_info()))
}

fn parse_csr(csr: &[u8]) -> Result<CertificateSigningRequestParams, Refusal> {
    // A request is a key, a name and a signature: nothing larger is worth the time of checking it.
    const CSR_BYTES_MAX: usize = 4 * 1024;
    let invalid = || Refusal::new(ErrorCode::InvalidArgument, "the certificate signing request is not usable");
    if csr.len() > CSR_BYTES_MAX {
        return Err(invalid());
    }
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).map_err(|_| invalid())
}

pub(super) fn key_pair(key: &PrivatePkcs8KeyDer<'_>) -> Result<KeyPair, rcgen::Error> {
    KeyPair::try_from(key)
}

pub(super) fn issue(error: rcgen::Error) -> IdentityError {
    IdentityError::Issue(error.to_string())
}

pub(super) fn damaged(folder: &Folder, name: &str, reason: &dyn std::error::Error) -> IdentityError {
    IdentityError::Damaged { path: folder.path(name), reason: reason.to_string() }
}

fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}

fn params(name: &str, valid: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + valid;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
