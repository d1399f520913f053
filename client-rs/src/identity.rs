//! Who a client is: a private key, its certificate, and the CA that it trusts.

use std::fmt;
use std::sync::Arc;

use hither_client_core::Error;
use hither_protocol::message::Role;
use hither_protocol::{ClusterId, ErrorCode, UnixMillis};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// An identity of a cluster. Cheap to clone. Its `Debug` does not show the key.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
    cluster: ClusterId,
    name: String,
    role: Role,
    not_before: UnixMillis,
    not_after: UnixMillis,
}

impl Identity {
    /// An identity from its parts, all DER: the cluster's client-facing CA, the client's certificate, and its private
    /// key in PKCS #8.
    ///
    /// # Errors
    /// `IdentityInvalid` if the certificate does not name one client or admin of a cluster.
    pub fn from_der(ca: Vec<u8>, certificate: Vec<u8>, key: Vec<u8>) -> Result<Self, Error> {
        let key = Zeroizing::new(key);
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| Error::caused_by(ErrorCode::IdentityInvalid, "the certificate does not decode", error))?;
        let (cluster, role, name) = named(&parsed)?;
        let milliseconds = |time: i64| UnixMillis(u64::try_from(time).unwrap_or(0).saturating_mul(1_000));
        let validity = parsed.validity();
        let (not_before, not_after) =
            (milliseconds(validity.not_before.timestamp()), milliseconds(validity.not_after.timestamp()));
        let (ca, certificate) = (CertificateDer::from(ca), CertificateDer::from(certificate));
        Ok(Self(Arc::new(Inner { ca, certificate, key, cluster, name, role, not_before, not_after })))
    }

    /// An identity from PEM: the CA's certificate; and the client's certificate and private key together.
    ///
    /// # Errors
    /// `IdentityInvalid`.
    pub fn from_pem(ca: &[u8], identity: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str| {
            let detail = format!("the identity has no {what}");
            move |error| Error::caused_by(ErrorCode::IdentityInvalid, detail, PemError(error))
        };
        let ca = CertificateDer::from_pem_slice(ca).map_err(wrong("CA certificate"))?;
        let certificate = CertificateDer::from_pem_slice(identity).map_err(wrong("certificate"))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(identity).map_err(wrong("PKCS #8 private key"))?;
        Self::from_der(ca.to_vec(), certificate.to_vec(), key.secret_pkcs8_der().to_vec())
    }

    /// The client's certificate and private key as PEM: a secret.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = pem::Pem::new("PRIVATE KEY", self.0.key.to_vec());
        let certificate = pem::Pem::new("CERTIFICATE", self.0.certificate.to_vec());
        Zeroizing::new(pem::encode(&key) + &pem::encode(&certificate))
    }

    /// The cluster's CA as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.0.ca.to_vec()))
    }

    /// The cluster that issued it.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.role
    }

    /// When its certificate ends.
    #[must_use]
    pub fn expires_at(&self) -> UnixMillis {
        self.0.not_after
    }

    /// When it is renewed: after two thirds of its certificate's time.
    #[must_use]
    pub fn renew_at(&self) -> UnixMillis {
        let lifetime = self.0.not_after.0.saturating_sub(self.0.not_before.0);
        UnixMillis(self.0.not_before.0.saturating_add(lifetime / 3 * 2))
    }

    pub(crate) fn ca_der(&self) -> CertificateDer<'static> {
        self.0.ca.clone()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.certificate.clone()]
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.key.to_vec()))
    }

    /// Whether both have the same certificate.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.0.certificate == other.0.certificate
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &self.0.cluster)
            .field("name", &self.0.name)
            .field("role", &self.0.role)
            .finish_non_exhaustive()
    }
}

/// What the certificate says: `hither://CLUSTER/{client,admin}/NAME`.
fn named(certificate: &X509Certificate<'_>) -> Result<(ClusterId, Role, String), Error> {
    let wrong = || Error::new(ErrorCode::IdentityInvalid, "the certificate names no client of a cluster");
    let extension = certificate.subject_alternative_name().ok().flatten().ok_or_else(wrong)?;
    let mut uris = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("hither://"),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(wrong()) };
    let mut parts = uri.splitn(3, '/');
    let cluster = parts.next().and_then(|cluster| cluster.parse().ok()).ok_or_else(wrong)?;
    let role = match parts.next() {
        Some("client") => Role::Client,
        Some("admin") => Role::Admin,
        _ => return Err(wrong()),
    };
    let name = parts.next().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
    Ok((cluster, role, name.to_owned()))
}

/// The PEM error type of rustls has no `Error` of its own in every configuration.
#[derive(Debug)]
struct PemError(rustls::pki_types::pem::Error);

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for PemError {}
