//! The node's own certificate, which can be replaced while connections come in.

use std::fmt;
use std::sync::Arc;

use hither_protocol::{NodeId, UnixMillis};
use parking_lot::RwLock;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::authority::issue;
use super::files::Folder;
use super::{Authority, Credentials, IdentityError};
use zeroize::Zeroizing;

const FILE: &str = "server";

/// What TLS shows to clients.
pub(crate) struct ServerCertificate {
    current: RwLock<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    expires_at: UnixMillis,
}

impl ServerCertificate {
    pub(super) fn create(folder: &Folder, authority: &Authority, node: NodeId) -> Result<(), IdentityError> {
        let (issued, key) = authority.server(node).map_err(issue)?;
        folder.write_credentials(
            FILE,
            &Credentials {
                name: node.to_string(),
                certificate: issued.certificate,
                key: Zeroizing::new(key.serialize_der()),
                ca: authority.ca(),
                expires_at: issued.expires_at,
            },
        )
    }

    pub(super) fn open(folder: &Folder, authority: &Authority, node: NodeId) -> Result<Self, IdentityError> {
        Ok(Self { current: RwLock::new(Current::read(folder, authority, node)?) })
    }

    /// Makes a new one and shows it from now on.
    pub(super) fn renew(&self, folder: &Folder, authority: &Authority, node: NodeId) -> Result<(), IdentityError> {
        Self::create(folder, authority, node)?;
        *self.current.write() = Current::read(folder, authority, node)?;
        Ok(())
    }

    /// The certificates that are shown.
    #[cfg(test)]
    pub(super) fn chain(&self) -> Vec<rustls::pki_types::CertificateDer<'static>> {
        self.current.read().key.cert.clone()
    }

    pub(super) fn expires_at(&self) -> UnixMillis {
        self.current.read().expires_at
    }
}

impl Current {
    fn read(folder: &Folder, authority: &Authority, node: NodeId) -> Result<Self, IdentityError> {
        let credentials = folder.read_credentials(FILE, &node.to_string(), authority.ca())?;
        let chain = vec![credentials.certificate.to_vec().into(), authority.ca_der().clone()];
        let key = PrivateKeyDer::Pkcs8(credentials.key.to_vec().into());
        let damaged = |error: rustls::Error| super::authority::damaged(folder, "server.pem", &error);
        let key = CertifiedKey::from_der(chain, key, &crate::quic::provider()).map_err(damaged)?;
        Ok(Self { key: Arc::new(key), expires_at: credentials.expires_at })
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("expires_at", &self.expires_at()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().key))
    }
}
