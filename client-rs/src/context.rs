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
//! them. Files are replaced as a whole: a reader sees the old one or the new one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hither_client_core::{Endpoint, Error};
use hither_protocol::{ClusterId, ErrorCode, Namespace};
use serde::{Deserialize, Serialize};

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

/// `contexts/NAME.toml`. An unknown field is kept out of it by nobody: newer versions may add some.
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

/// The folder that everything is in: `$XDG_CONFIG_HOME/hither`, or `~/.config/hither`. None if neither is known.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")))?;
    Some(base.join("hither"))
}

/// The name of the current context, if there is one.
///
/// # Errors
/// `IdentityInvalid` if the file cannot be read or names no context.
pub fn current() -> Result<Option<String>, Error> {
    let Some(directory) = directory() else { return Ok(None) };
    let path = directory.join("current");
    let Some(text) = read(&path)? else { return Ok(None) };
    let name = text.trim().to_owned();
    check_name(&name)?;
    Ok(Some(name))
}

/// Makes `name` the current context.
///
/// # Errors
/// `InvalidName`, or `IdentityInvalid` if the file cannot be written.
pub fn set_current(name: &str) -> Result<(), Error> {
    check_name(name)?;
    let directory = made()?;
    write(&directory.join("current"), format!("{name}\n").as_bytes(), 0o644)
}

/// The names of all contexts, in order.
///
/// # Errors
/// `IdentityInvalid` if the folder cannot be read.
pub fn list() -> Result<Vec<String>, Error> {
    let Some(directory) = directory() else { return Ok(Vec::new()) };
    let path = directory.join("contexts");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(&path, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unusable(&path, error))?;
        let file = entry.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".toml"));
        names.extend(name.filter(|name| check_name(name).is_ok()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The current context and its name, if there is one.
///
/// # Errors
/// As [`load`].
pub fn load_current() -> Result<Option<(String, Context)>, Error> {
    let Some(name) = current()? else { return Ok(None) };
    let context = load(&name)?;
    Ok(Some((name, context)))
}

/// The context of a name.
///
/// # Errors
/// `InvalidName`; `NotFound` if there is none; `IdentityInvalid` if a file cannot be read.
pub fn load(name: &str) -> Result<Context, Error> {
    check_name(name)?;
    let missing = || Error::new(ErrorCode::NotFound, format!("there is no context {name}"));
    let directory = directory().ok_or_else(missing)?.join("contexts");
    let path = directory.join(format!("{name}.toml"));
    let text = read(&path)?.ok_or_else(missing)?;
    let record: Record = toml::from_str(&text).map_err(|error| unusable(&path, error))?;
    let pem = |file: String| {
        let path = directory.join(file);
        read(&path)?.ok_or_else(|| unusable(&path, "it is missing"))
    };
    let (ca, identity) = (pem(format!("{name}.ca.pem"))?, zeroize::Zeroizing::new(pem(format!("{name}.pem"))?));
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
pub fn save(name: &str, context: &Context) -> Result<(), Error> {
    check_name(name)?;
    let directory = made()?.join("contexts");
    save_identity(&directory, name, &context.identity)?;
    let record = Record {
        servers: context.servers.iter().map(ToString::to_string).collect(),
        namespace: context.namespace.as_ref().map(ToString::to_string),
        cluster: context.identity.cluster().to_string(),
        origin: context.origin.clone(),
        enrolment: context.enrolment.clone(),
    };
    let path = directory.join(format!("{name}.toml"));
    let text = toml::to_string(&record).map_err(|error| unusable(&path, error))?;
    // Last: a context whose record is there is whole.
    write(&path, text.as_bytes(), 0o600)
}

/// Deletes a context; if it was the current one, there is none. Deleting what is not there succeeds.
///
/// # Errors
/// `InvalidName`, or `IdentityInvalid` if a file cannot be deleted.
pub fn remove(name: &str) -> Result<(), Error> {
    check_name(name)?;
    let Some(directory) = directory() else { return Ok(()) };
    if current()?.as_deref() == Some(name) {
        delete(&directory.join("current"))?;
    }
    // First the record: what is left without it is no context.
    ["toml", "pem", "ca.pem"]
        .iter()
        .try_for_each(|extension| delete(&directory.join("contexts").join(format!("{name}.{extension}"))))
}

/// Replaces the identity of a context, after a renewal.
pub(crate) fn renew(name: &str, identity: &Identity) -> Result<(), Error> {
    check_name(name)?;
    save_identity(&made()?.join("contexts"), name, identity)
}

/// The context that was made with this enrolment secret, if it is here.
pub(crate) fn enrolled_with(hash: &str) -> Result<Option<(String, Context)>, Error> {
    for name in list()? {
        // A context that cannot be read is not the one that is looked for.
        let Ok(context) = load(&name) else { continue };
        if context.enrolment.as_deref() == Some(hash) {
            return Ok(Some((name, context)));
        }
    }
    Ok(None)
}

fn save_identity(directory: &Path, name: &str, identity: &Identity) -> Result<(), Error> {
    write(&directory.join(format!("{name}.ca.pem")), identity.ca_pem().as_bytes(), 0o644)?;
    write(&directory.join(format!("{name}.pem")), identity.to_pem().as_bytes(), 0o600)
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

fn made() -> Result<PathBuf, Error> {
    let directory = directory().ok_or_else(|| {
        Error::new(ErrorCode::IdentityInvalid, "neither XDG_CONFIG_HOME nor HOME says where contexts are kept")
    })?;
    let contexts = directory.join("contexts");
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&contexts).map_err(|error| unusable(&contexts, error))?;
    Ok(directory)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, error)),
    }
}

/// Writes beside it, then renames over it.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", uuid::Uuid::now_v7().simple()));
    let beside = path.with_file_name(name);
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|error: io::Error| {
        // What is left of it has no reader.
        let _ = fs::remove_file(&beside);
        unusable(path, error)
    })
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
