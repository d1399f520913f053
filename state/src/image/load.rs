//! A state out of its rows.

use std::io;
use std::sync::Arc;

use hither_protocol::{Namespace, SessionId};

use super::Meta;
use super::row::{self, SessionRow};
use crate::apply::check_outcome;
use crate::device::{Space, StateDevice};
use crate::keyset::KeySet;
use crate::lease::Lease;
use crate::{LeaseRecord, State};

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub state: State,
    /// Where in the log it stands.
    pub meta: Meta,
}

/// Loads the state from a device; none if nothing was ever written to it. The change log is not part of it: it is loaded
/// from the same device beside it.
///
/// # Errors
/// `InvalidData` if a row is damaged, missing or contradicts another; `Unsupported` for rows of another format; those of
/// the device.
pub fn load(device: &(impl StateDevice + ?Sized)) -> io::Result<Option<Loaded>> {
    let Some(meta) = device.meta()? else { return Ok(None) };
    let meta = Meta::decode(&meta)?;
    let mut state = State::new(meta.limits);
    state.revision = meta.revision;
    state.floor = meta.floor;
    state.lineage = meta.lineage;
    // In this order, so that each row finds what it refers to.
    scan(device, Space::Session, |key, value| add_session_row(&mut state, key, value))?;
    let mut names = Names::default();
    scan(device, Space::Lease, |key, value| add_lease(&mut state, &mut names, key, value))?;
    scan(device, Space::Kv, |key, value| add_entry(&mut state, key, value))?;
    if state.hash.value() != meta.hash {
        return Err(damaged(format!(
            "the rows of the state do not add up: hash {:032x} instead of {:032x} at revision {}",
            state.hash.value(),
            meta.hash,
            meta.revision,
        )));
    }
    Ok(Some(Loaded { state, meta }))
}

fn scan(
    device: &(impl StateDevice + ?Sized),
    space: Space,
    mut add: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> io::Result<()> {
    device.scan(space, &mut |key, value| {
        add(key, value).map_err(|why| {
            damaged(format!("row `{}` of table `{}` of the state is damaged: {why}", key.escape_ascii(), space.name()))
        })
    })
}

fn add_session_row(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), String> {
    match row::read_session(key, value)? {
        SessionRow::Record(id, record) => {
            state.hash.add_session(id, &record);
            state.sessions.insert(id, record);
        }
        SessionRow::Acknowledged(id, acknowledged) => {
            // It comes right after the record, before any outcome.
            let session = state.sessions.get_mut(id).ok_or_else(|| no_session(id))?;
            state.hash.acknowledge(id, session.record.acknowledged, acknowledged);
            session.record.acknowledged = acknowledged;
        }
        SessionRow::Outcome(id, sequence, outcome) => {
            let session = state.sessions.get_mut(id).ok_or_else(|| no_session(id))?;
            if sequence > session.record.acknowledged {
                check_outcome(&outcome)?;
                state.hash.add_outcome(id, sequence, &outcome);
                session.remember(sequence, outcome);
            }
        }
    }
    Ok(())
}

/// The names that the last lease had: many of the same share their memory.
#[derive(Default)]
struct Names {
    namespace: Namespace,
    owner: Arc<str>,
}

impl Names {
    fn share(&mut self, record: &mut LeaseRecord) {
        if record.namespace == self.namespace {
            record.namespace = self.namespace.clone();
        } else {
            self.namespace = record.namespace.clone();
        }
        if record.owner == self.owner {
            record.owner = self.owner.clone();
        } else {
            self.owner = record.owner.clone();
        }
    }
}

fn add_lease(state: &mut State, names: &mut Names, key: &[u8], value: &[u8]) -> Result<(), String> {
    let (id, mut record) = row::read_lease(key, value)?;
    names.share(&mut record);
    if let Some(owner) = record.session {
        let session = state.sessions.get_mut(owner).ok_or_else(|| no_session(owner))?;
        if owner.lease() != id {
            session.bound.insert(id);
        }
    }
    state.hash.add_lease(id, &record);
    state.leases.insert(id, Lease { record, keys: KeySet::default() });
    Ok(())
}

fn add_entry(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), String> {
    let (namespace, entry) = row::read_entry(key, value)?;
    if entry.mod_revision > state.revision {
        return Err(format!("written at revision {} of {}", entry.mod_revision, state.revision));
    }
    if let Some(id) = entry.lease {
        let lease = state.leases.get_mut(id).ok_or_else(|| format!("its lease {id} is not there"))?;
        lease.keys.insert(entry.key.clone());
    }
    state.hash.add_entry(&namespace, &entry);
    if state.store.load(&namespace, entry) { Ok(()) } else { Err("it is there twice".to_owned()) }
}

fn no_session(id: SessionId) -> String {
    format!("its session {id} is not there")
}

fn damaged(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
