//! Private files: a folder that only its owner can enter, and files that only their owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::{Credentials, IdentityError, Principal};

/// A folder of private files.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes an empty one in `parent`, which is made too if it is missing.
    pub(super) fn create_empty(parent: &Path, name: &str) -> Result<Self, IdentityError> {
        let path = parent.join(name);
        let file = |source| IdentityError::File { path: path.clone(), source };
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(file)?;
        Ok(Self { path })
    }

    /// Opens the one in `parent`, if it is there.
    pub(super) fn open(parent: &Path, name: &str) -> Result<Option<Self>, IdentityError> {
        let folder = Self { path: parent.join(name) };
        match fs::metadata(&folder.path) {
            Ok(metadata) => {
                folder.check_private(&folder.path, metadata.mode())?;
                Ok(Some(folder))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::File { path: folder.path, source }),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let path = self.path(name);
        let mode = fs::metadata(&path).map_err(|source| IdentityError::File { path: path.clone(), source })?.mode();
        self.check_private(&path, mode)?;
        fs::read(&path).map(Zeroizing::new).map_err(|source| IdentityError::File { path, source })
    }

    /// Writes a file whole or not at all.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        let write = || -> io::Result<()> {
            let partial = self.path(&format!("{name}.partial"));
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&partial, self.path(name))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| IdentityError::File { path: self.path(name), source })
    }

    /// Gives the folder its name, durably.
    pub(super) fn rename(&self, name: &str) -> Result<(), IdentityError> {
        let to = self.path.with_file_name(name);
        let rename = || -> io::Result<()> {
            fs::rename(&self.path, &to)?;
            File::open(to.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        rename().map_err(|source| IdentityError::File { path: to.clone(), source })
    }

    pub(super) fn read_certificate(&self, name: &str) -> Result<CertificateDer<'static>, IdentityError> {
        let path = self.path(name);
        CertificateDer::from_pem_slice(&self.read(name)?)
            .map_err(|error| IdentityError::Damaged { path, reason: error.to_string() })
    }

    pub(super) fn read_key(&self, name: &str) -> Result<PrivatePkcs8KeyDer<'static>, IdentityError> {
        let path = self.path(name);
        PrivatePkcs8KeyDer::from_pem_slice(&self.read(name)?)
            .map_err(|error| IdentityError::Damaged { path, reason: error.to_string() })
    }

    /// Certificate and key in one file, so that they are never of different ages.
    pub(super) fn write_credentials(&self, name: &str, credentials: &Credentials) -> Result<(), IdentityError> {
        let mut text = Zeroizing::new(pem("CERTIFICATE", &credentials.certificate));
        text.push_str(&Zeroizing::new(pem("PRIVATE KEY", &credentials.key)));
        self.write(&format!("{name}.pem"), text.as_bytes())
    }

    pub(super) fn read_credentials(&self, name: &str, of: &str, ca: Bytes) -> Result<Credentials, IdentityError> {
        let file = format!("{name}.pem");
        let certificate = self.read_certificate(&file)?;
        let key = self.read_key(&file)?;
        let expires_at = Principal::expiry(&certificate)
            .map_err(|error| IdentityError::Damaged { path: self.path(&file), reason: error.to_string() })?;
        Ok(Credentials {
            name: of.to_owned(),
            certificate: Bytes::copy_from_slice(&certificate),
            key: Zeroizing::new(key.secret_pkcs8_der().to_vec()),
            ca,
            expires_at,
        })
    }

    fn check_private(&self, path: &Path, mode: u32) -> Result<(), IdentityError> {
        if mode & 0o077 == 0 {
            return Ok(());
        }
        Err(IdentityError::TooOpen { path: path.to_owned(), folder: self.path.clone() })
    }
}

/// The PEM form of `der`.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new(label, der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}
