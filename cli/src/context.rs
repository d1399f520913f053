//! The context that a server writes for its own user, so that nothing needs to be said to connect to it.

use std::path::Path;

use hither::context::{self, Context};
use hither::{Endpoint, Error, ErrorCode, Identity};
use hither_storage::DataDir;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its name.
    pub(crate) name: String,
    /// The context that is current and stays so, if that is another one.
    pub(crate) current: Option<String>,
}

/// Writes the context of the server that `command` runs in `data`, and makes it the current one unless another server's
/// or an enrolled one is.
pub(crate) fn keep(
    command: &str,
    data: &Path,
    wanted: Option<&str>,
    server: Endpoint,
    identity: Identity,
) -> Result<Kept, Error> {
    let name = match wanted {
        Some(name) if is_free(name, data)? => name.to_owned(),
        Some(name) => {
            return Err(Error::new(ErrorCode::AlreadyExists, format!("the context {name} is not this server's")));
        }
        None => free_name(command, data)?,
    };
    let origin = Some(format!("{command} {}", data.display()));
    context::save(&name, &Context { servers: vec![server], namespace: None, identity, origin, enrolment: None })?;
    let current = match context::current()? {
        Some(current) if current != name && !is_free(&current, data)? => Some(current),
        _ => {
            context::set_current(&name)?;
            None
        }
    };
    Ok(Kept { name, current })
}

/// The server's own context of an earlier start, or the first name that nobody has.
fn free_name(command: &str, data: &Path) -> Result<String, Error> {
    let mut number = 1;
    loop {
        let name = if number == 1 { command.to_owned() } else { format!("{command}-{number}") };
        if is_free(&name, data)? {
            return Ok(name);
        }
        number += 1;
    }
}

/// Whether the server in `data` may have this name: there is no such context, or it is its own, or that of a directory
/// in which there is no node any more.
fn is_free(name: &str, data: &Path) -> Result<bool, Error> {
    match context::load(name) {
        Ok(context) => Ok(is_ours(context.origin.as_deref(), data)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(true),
        Err(error) if error.code() == ErrorCode::InvalidName => Err(error),
        // What cannot be read may still be somebody's.
        Err(_) => Ok(false),
    }
}

fn is_ours(origin: Option<&str>, data: &Path) -> bool {
    let directory = origin.and_then(|origin| origin.split_once(' ')).map(|(_, directory)| Path::new(directory));
    directory.is_some_and(|directory| directory == data || !DataDir::exists(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_context_and_that_of_a_dead_directory_are_replaced() {
        let alive = tempfile::tempdir().unwrap();
        std::fs::write(alive.path().join("IDENT"), "").unwrap();
        let origin = format!("dev {}", alive.path().display());
        assert!(is_ours(Some(&origin), alive.path()));
        assert!(!is_ours(Some(&origin), Path::new("/elsewhere")));
        assert!(is_ours(Some("dev /no/such/directory"), Path::new("/elsewhere")));
        assert!(!is_ours(None, Path::new("/elsewhere")), "an enrolled one is nobody's to replace");
    }
}
