//! Whether a log that opened holds all that it must.

use std::path::Path;

use bytes::Bytes;
use hither_state::device::Recovered;
use rocksdb::{DB, Direction, IteratorMode};

use super::head::Head;
use super::run::Run;
use super::{COMMITTED, HEAD, IDENT, PURGED, VOTE, key, runs};
use crate::mark::Durable;
use crate::{Identity, StorageError, rocks};

/// What a good log holds.
pub(super) struct Checked {
    pub(super) head: Head,
    pub(super) recovered: Recovered,
    /// How far the state was durable when the log was last purged.
    pub(super) state_cut: u64,
}

/// Reads everything. The log is good if it has what its head says, and its head is not older than cycle `needed`, nor at
/// odds with `durable`.
pub(super) fn check(
    db: &DB,
    path: &Path,
    identity: &Identity,
    durable: Durable,
    needed: u64,
) -> Result<Checked, StorageError> {
    let damaged = |what: String| StorageError::damaged(path, what);
    let get = |name: &[u8]| db.get(name).map(|row| row.map(Bytes::from)).map_err(StorageError::rocks(path, "read"));

    if get(IDENT)?.as_deref() != Some(&identity.row()) {
        return Err(damaged("it belongs to another data directory than IDENT says".into()));
    }
    let head = head(db, path)?;
    let next = head.next;
    if head.cycle < needed {
        let (cycle, known) = (head.cycle, durable.next);
        return Err(damaged(format!(
            "acknowledged writes are missing: {cycle} of {needed} are there, and it ends before record {next}, \
             when it was durable up to before record {known}"
        )));
    }
    if head.cycle == durable.cycle && next != durable.next && durable != Durable::default() {
        return Err(damaged(format!("it goes on at record {next}, and durable.mark says {}", durable.next)));
    }
    check_runs(db, path, &head)?;

    let vote = stamped(get(VOTE)?, head.vote).ok_or_else(|| damaged("its vote is missing or old".into()))?;
    let purged = stamped(get(PURGED)?, head.purge).ok_or_else(|| damaged("its purge is missing or old".into()))?;
    let (state_cut, purged) = match purged {
        None => (0, None),
        Some(row) if row.len() >= 8 => {
            let cut = row[..8].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            (cut, Some((head.purged - 1, row.slice(8..))))
        }
        Some(_) => return Err(damaged("its purge is too short".into())),
    };
    let recovered = Recovered { vote, committed: get(COMMITTED)?, purged, range: head.range() };
    Ok(Checked { head, recovered, state_cut })
}

/// The head as it is now.
fn head(db: &DB, path: &Path) -> Result<Head, StorageError> {
    let row = db.get(HEAD).map_err(StorageError::rocks(path, "read"))?;
    row.as_deref()
        .and_then(Head::decode)
        .ok_or_else(|| StorageError::damaged(path, "its head is missing or unreadable"))
}

/// What follows the stamp of a row that begins with the cycle that wrote it. The outer none: that is not `cycle`.
fn stamped(row: Option<Bytes>, cycle: u64) -> Option<Option<Bytes>> {
    match row {
        None => (cycle == 0).then_some(None),
        Some(row) => (row.get(..8)? == cycle.to_be_bytes()).then(|| Some(row.slice(8..))),
    }
}

/// Every run, in its place in the chain, from the row of the first record to the last one, and none behind it.
fn check_runs(db: &DB, path: &Path, head: &Head) -> Result<(), StorageError> {
    let from = key(head.row);
    let rows = db.iterator_cf_opt(runs(db), rocks::scan_options(), IteratorMode::From(&from, Direction::Forward));
    let mut before: Option<(u64, u32)> = None;
    for row in rows {
        let (found, value) = row.map_err(StorageError::rocks(path, "read"))?;
        let bad = |what: &str| StorageError::damaged(path, format!("the row of the log at {}: {what}", hex(&found)));
        let (run, crc) = Run::decode(&found, value.into()).map_err(bad)?;
        match before {
            None if run.first != head.row || head.is_empty() => return Err(bad("it should not be the first")),
            Some((next, _)) if run.first != next => return Err(bad(&format!("the one before ends at {next}"))),
            Some((_, chain)) if run.chain != chain => return Err(bad("it does not continue the one before")),
            _ => before = Some((run.next(), crc)),
        }
    }
    let expected = (!head.is_empty()).then_some((head.next, head.chain));
    if before != expected {
        let next = before.map_or(head.row, |(next, _)| next);
        return Err(StorageError::damaged(path, format!("its records end before {next}, its head says {}", head.next)));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
