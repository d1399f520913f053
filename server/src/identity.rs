//! Who the node is to its clients, and who they are to it.
//!
//! A data directory is born with a cluster id and an authority of its own: the CA that every client pins, a certificate
//! for the node, and the first admin. Private keys are files that only their owner can read; what is known *about*
//! identities ([`Book`]) is data like any other, in the server's own namespace.

mod authority;
mod book;
mod endpoint_keys;
mod files;
mod principal;
mod record;
mod server_certificate;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hither_protocol::{ClusterId, NodeId, UnixMillis};
use zeroize::Zeroizing;

pub use authority::{Authority, Issued};
pub(crate) use book::{Book, Denied};
pub(crate) use endpoint_keys::EndpointKeys;
pub(crate) use principal::{Kind, Principal};
pub(crate) use record::IDENTITIES;
pub(crate) use server_certificate::ServerCertificate;

use files::Folder;

/// How long a certificate of a node or a client is good for. It is renewed at two thirds of that.
pub const CERTIFICATE_VALID: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The name of the identity that every data directory is born with.
pub const FIRST_ADMIN: &str = "admin";

/// The folder of identities in the data directory.
const FOLDER: &str = "identity";
/// The format of the folder.
const FORMAT: u32 = 1;

/// Why the identity of a node cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read a private file.
    #[error("{path} can be read by others: run `chmod -R go-rwx {folder}`")]
    TooOpen {
        /// Which.
        path: PathBuf,
        /// The folder to close.
        folder: PathBuf,
    },
    /// Written by a newer version.
    #[error("{path} has format {format}, this version reads format {FORMAT}: start the version that wrote it")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Not what was written.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Issue(String),
}

/// What a client shows to the cluster and checks it against: certificate, key and CA.
#[derive(Clone)]
pub struct Credentials {
    /// The name of the identity.
    pub name: String,
    /// The certificate, DER.
    pub certificate: Bytes,
    /// Its private key, PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    /// The cluster's client-facing CA, DER.
    pub ca: Bytes,
    /// When the certificate ends.
    pub expires_at: UnixMillis,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The identity of a node, as its data directory keeps it.
#[derive(Clone, Debug)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: Folder,
    cluster: ClusterId,
    node: NodeId,
    authority: Authority,
    server: Arc<ServerCertificate>,
    endpoint_keys: EndpointKeys,
}

/// What the folder says about itself.
#[derive(serde::Serialize, serde::Deserialize)]
struct About {
    format: u32,
    cluster: String,
    node: u64,
}

/// The identity in the data directory; made, with a cluster id drawn at random, if there is none. The node is then
/// node 1 of a new cluster.
///
/// # Errors
/// [`IdentityError`].
pub fn initialise(data: &Path) -> Result<Identity, IdentityError> {
    if let Some(identity) = open(data)? {
        return Ok(identity);
    }
    let cluster = ClusterId(authority::random());
    let node = NodeId(1);
    // Made beside its place and renamed into it, so that a crash leaves all of it or nothing.
    let building = Folder::create_empty(data, &format!("{FOLDER}.new"))?;
    let about = About { format: FORMAT, cluster: cluster.to_string(), node: node.0 };
    let about = toml::to_string(&about).map_err(|error| IdentityError::Issue(error.to_string()))?;
    building.write("about.toml", about.as_bytes())?;
    let authority = Authority::create(&building, cluster)?;
    ServerCertificate::create(&building, &authority, node)?;
    EndpointKeys::create(&building)?;
    building.write_credentials("admin", &authority.admin_credentials(FIRST_ADMIN)?)?;
    building.rename(FOLDER)?;
    open(data)?.ok_or_else(|| IdentityError::Damaged {
        path: data.join(FOLDER),
        reason: "it vanished while it was made".to_owned(),
    })
}

/// The identity in the data directory, if there is one.
///
/// # Errors
/// [`IdentityError`].
pub fn open(data: &Path) -> Result<Option<Identity>, IdentityError> {
    let Some(folder) = Folder::open(data, FOLDER)? else { return Ok(None) };
    let text = folder.read("about.toml")?;
    let damaged = |reason: String| IdentityError::Damaged { path: folder.path("about.toml"), reason };
    let text = std::str::from_utf8(&text).map_err(|error| damaged(error.to_string()))?;
    let about: About = toml::from_str(text).map_err(|error| damaged(error.message().to_owned()))?;
    if about.format > FORMAT {
        return Err(IdentityError::Newer { path: folder.path("about.toml"), format: about.format });
    }
    let cluster = about.cluster.parse().map_err(|_| damaged(format!("`{}` is no cluster id", about.cluster)))?;
    let node = NodeId(about.node);
    let authority = Authority::open(&folder, cluster)?;
    let server = Arc::new(ServerCertificate::open(&folder, &authority, node)?);
    let endpoint_keys = EndpointKeys::open(&folder)?;
    let identity = Identity { inner: Arc::new(Inner { folder, cluster, node, authority, server, endpoint_keys }) };
    identity.renew_if_due()?;
    Ok(Some(identity))
}

impl Identity {
    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.inner.cluster
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The CA, DER: what clients pin.
    #[must_use]
    pub fn ca(&self) -> Bytes {
        self.inner.authority.ca()
    }

    /// What the first admin shows: for the context of the user who owns the data directory.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn admin(&self) -> Result<Credentials, IdentityError> {
        self.inner.folder.read_credentials("admin", FIRST_ADMIN, self.ca())
    }

    /// Who signs.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.inner.authority
    }

    pub(crate) fn server_certificate(&self) -> Arc<ServerCertificate> {
        Arc::clone(&self.inner.server)
    }

    pub(crate) fn endpoint_keys(&self) -> &EndpointKeys {
        &self.inner.endpoint_keys
    }

    /// Renews what has lived two thirds of its time; connections that are open do not notice.
    pub(crate) fn renew_if_due(&self) -> Result<(), IdentityError> {
        let Inner { folder, node, authority, server, .. } = &*self.inner;
        if is_due(server.expires_at()) {
            server.renew(folder, authority, *node)?;
            tracing::info!("the certificate of this node was renewed");
        }
        if is_due(self.admin()?.expires_at) {
            folder.write_credentials("admin", &authority.admin_credentials(FIRST_ADMIN)?)?;
        }
        Ok(())
    }
}

/// Whether less than a third of its time is left to a certificate.
fn is_due(expires_at: UnixMillis) -> bool {
    let left = expires_at.0.saturating_sub(now().0);
    u128::from(left) < CERTIFICATE_VALID.as_millis() / 3
}

pub(crate) fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
