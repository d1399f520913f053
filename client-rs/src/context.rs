//! Contexts: clusters that this user knows, each with an identity, in `$XDG_CONFIG_HOME/hither/` (by default
//! `~/.config/hither/`).
//!
//! ```text
//! current              the name of the context that is used when nothing else is said
//! contexts/NAME.toml   its servers and namespace
//! contexts/NAME.pem    its certificate and private key, readable by its owner only
//! contexts/NAME.ca.pem the cluster's CA
//! ```
//!
//! They are written by `hither dev`, `hither serve` and [`Enrolment`](crate::Enrolment) strings; every client reads
//! them. Files are replaced as a whole: a reader sees the old one or the new one. The functions here work on this
//! user's folder; [`Contexts`] works on any.

use std::path::{Path, PathBuf};
use std::{fs, io};

use hither_client_core::{Endpoint, Error};
use hither_protocol::{ClusterId, ErrorCode, Namespace};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::identity::Identity;

/// A cluster that this user knows.
#[derive(Clone, Debug)]
pub struct Context {
    /// Its servers: one at least.
    pub servers: Vec<Endpoint>,
    /// The namespace; `default` if none.
    pub namespace: Option<Namespace>,
    /// Who the user is there.
    pub identity: Identity,
    /// Who wrote it: `dev DIR` or `serve DIR`, so that only the same replaces it; none for one that was enrolled.
    pub origin: Option<String>,
    /// SHA-256 of the enrolment secret that it was made with, in hexadecimal, so that the same string finds it again.
    pub enrolment: Option<String>,
}

/// `contexts/NAME.toml`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    servers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    cluster: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolment: Option<String>,
}

/// The folder of this user: `$XDG_CONFIG_HOME/hither`, or `~/.config/hither`. None if neither is known.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")))?;
    Some(base.join("hither"))
}

/// The name of the current context, if there is one.
///
/// # Errors
/// As [`Contexts::current`].
pub fn current() -> Result<Option<String>, Error> {
    Contexts::of_user().map_or(Ok(None), |contexts| contexts.current())
}

/// Makes `name` the current context.
///
/// # Errors
/// As [`Contexts::set_current`].
pub fn set_current(name: &str) -> Result<(), Error> {
    of_user()?.set_current(name)
}

/// The names of all contexts, in order.
///
/// # Errors
/// As [`Contexts::list`].
pub fn list() -> Result<Vec<String>, Error> {
    Contexts::of_user().map_or(Ok(Vec::new()), |contexts| contexts.list())
}

/// The current context and its name, if there is one.
///
/// # Errors
/// As [`Contexts::load`].
pub fn load_current() -> Result<Option<(String, Context)>, Error> {
    Contexts::of_user().map_or(Ok(None), |contexts| contexts.load_current())
}

/// The context of a name.
///
/// # Errors
/// As [`Contexts::load`].
pub fn load(name: &str) -> Result<Context, Error> {
    of_user()?.load(name)
}

/// Writes a context, replacing one of the same name. It does not become the current one.
///
/// # Errors
/// As [`Contexts::save`].
pub fn save(name: &str, context: &Context) -> Result<(), Error> {
    of_user()?.save(name, context)
}

/// Deletes a context; if it was the current one, there is none. Deleting what is not there succeeds.
///
/// # Errors
/// As [`Contexts::remove`].
pub fn remove(name: &str) -> Result<(), Error> {
    of_user()?.remove(name)
}

fn of_user() -> Result<Contexts, Error> {
    Contexts::of_user().ok_or_else(|| {
        Error::new(ErrorCode::IdentityInvalid, "neither XDG_CONFIG_HOME nor HOME says where contexts are kept")
    })
}

/// The contexts in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contexts {
    directory: PathBuf,
}

impl Contexts {
    /// Those of this user; see [`directory`].
    #[must_use]
    pub fn of_user() -> Option<Self> {
        directory().map(Self::at)
    }

    /// Those in a folder, which is made when something is saved.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The name of the current context, if there is one.
    ///
    /// # Errors
    /// `IdentityInvalid` if the file cannot be read; `InvalidName` if it names no context.
    pub fn current(&self) -> Result<Option<String>, Error> {
        let Some(text) = read(&self.directory.join("current"))? else { return Ok(None) };
        let name = text.trim().to_owned();
        check_name(&name)?;
        Ok(Some(name))
    }

    /// Makes `name` the current context.
    ///
    /// # Errors
    /// `InvalidName`, or `IdentityInvalid` if the file cannot be written.
    pub fn set_current(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        self.make()?;
        write(&self.directory.join("current"), format!("{name}\n").as_bytes(), files::PUBLIC)
    }

    /// The names of all contexts, in order.
    ///
    /// # Errors
    /// `IdentityInvalid` if the folder cannot be read.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let path = self.directory.join("contexts");
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable(&path, error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(|error| unusable(&path, error))?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".toml"));
            names.extend(name.filter(|name| check_name(name).is_ok()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The current context and its name, if there is one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_current(&self) -> Result<Option<(String, Context)>, Error> {
        let Some(name) = self.current()? else { return Ok(None) };
        let context = self.load(&name)?;
        Ok(Some((name, context)))
    }

    /// The context of a name.
    ///
    /// # Errors
    /// `InvalidName`; `NotFound` if there is none; `IdentityInvalid` if a file cannot be read.
    pub fn load(&self, name: &str) -> Result<Context, Error> {
        check_name(name)?;
        let path = self.path(name, "toml");
        let missing = || Error::new(ErrorCode::NotFound, format!("there is no context {name}"));
        let text = read(&path)?.ok_or_else(missing)?;
        let record: Record = toml::from_str(&text).map_err(|error| unusable(&path, error))?;
        let pem = |extension| {
            let path = self.path(name, extension);
            read(&path)?.ok_or_else(|| unusable(&path, "it is missing"))
        };
        let (ca, identity) = (pem("ca.pem")?, zeroize::Zeroizing::new(pem("pem")?));
        let identity = Identity::from_pem(ca.as_bytes(), identity.as_bytes())?;
        let cluster: ClusterId = record.cluster.parse().map_err(|error| unusable(&path, error))?;
        if identity.cluster() != cluster {
            return Err(unusable(&path, "its certificate is of another cluster"));
        }
        let servers: Vec<Endpoint> = record.servers.iter().map(|server| server.parse()).collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(unusable(&path, "it names no server"));
        }
        let namespace = record.namespace.map(|namespace| namespace.parse()).transpose()?;
        Ok(Context { servers, namespace, identity, origin: record.origin, enrolment: record.enrolment })
    }

    /// Writes a context, replacing one of the same name. It does not become the current one.
    ///
    /// # Errors
    /// `InvalidName`, or `IdentityInvalid` if a file cannot be written.
    pub fn save(&self, name: &str, context: &Context) -> Result<(), Error> {
        self.save_identity(name, &context.identity)?;
        let record = Record {
            servers: context.servers.iter().map(ToString::to_string).collect(),
            namespace: context.namespace.as_ref().map(ToString::to_string),
            cluster: context.identity.cluster().to_string(),
            origin: context.origin.clone(),
            enrolment: context.enrolment.clone(),
        };
        let path = self.path(name, "toml");
        let text = toml::to_string(&record).map_err(|error| unusable(&path, error))?;
        // Last: a context whose record is there is whole.
        write(&path, text.as_bytes(), files::SECRET)
    }

    /// Deletes a context; if it was the current one, there is none. Deleting what is not there succeeds.
    ///
    /// # Errors
    /// `InvalidName`, or `IdentityInvalid` if a file cannot be deleted.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        if self.current()?.as_deref() == Some(name) {
            delete(&self.directory.join("current"))?;
        }
        // First the record: what is left without it is no context.
        ["toml", "pem", "ca.pem"].iter().try_for_each(|extension| delete(&self.path(name, extension)))
    }

    /// Replaces the identity of a context, after a renewal.
    pub(crate) fn save_identity(&self, name: &str, identity: &Identity) -> Result<(), Error> {
        check_name(name)?;
        self.make()?;
        write(&self.path(name, "ca.pem"), identity.ca_pem().as_bytes(), files::PUBLIC)?;
        write(&self.path(name, "pem"), identity.to_pem().as_bytes(), files::SECRET)
    }

    /// The context that was made with this enrolment secret, if it is here.
    pub(crate) fn enrolled_with(&self, hash: &str) -> Result<Option<(String, Context)>, Error> {
        for name in self.list()? {
            // A context that cannot be read is not the one that is looked for.
            let Ok(context) = self.load(&name) else { continue };
            if context.enrolment.as_deref() == Some(hash) {
                return Ok(Some((name, context)));
            }
        }
        Ok(None)
    }

    /// The context that has one of these servers: the current one, or else the first.
    pub(crate) fn serving(&self, servers: &[Endpoint]) -> Result<Option<(String, Context)>, Error> {
        let names = self.current()?.into_iter().chain(self.list()?);
        for name in names {
            let Ok(context) = self.load(&name) else { continue };
            if context.servers.iter().any(|server| servers.contains(server)) {
                return Ok(Some((name, context)));
            }
        }
        Ok(None)
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.directory.join("contexts").join(format!("{name}.{extension}"))
    }

    fn make(&self) -> Result<(), Error> {
        let path = self.directory.join("contexts");
        files::make_directory(&path).map_err(|error| unusable(&path, error))
    }
}

/// Names are file names.
fn check_name(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.is_empty() && name.len() <= 63 && !name.starts_with('.') && name.bytes().all(plain) {
        return Ok(());
    }
    let detail = format!("{name:?} is no name of a context: write 1 to 63 of a-z A-Z 0-9 . _ -, no dot in front");
    Err(Error::new(ErrorCode::InvalidName, detail))
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, error)),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    files::replace(path, bytes, mode).map_err(|error| unusable(path, error))
}

fn delete(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(path, error)),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    Error::caused_by(ErrorCode::IdentityInvalid, format!("{} cannot be used: {error}", path.display()), error)
}
