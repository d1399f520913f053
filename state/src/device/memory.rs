//! Devices in memory with a pending and a durable half: what a crash leaves is a choice of the test.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{LogDevice, LogItem, LogReader, LogRecord, Recovered, RowChange, Space, StateDevice};

#[derive(Clone, Debug, Default)]
struct LogHalf {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<(u64, Bytes)>,
    records: BTreeMap<u64, Bytes>,
}

#[derive(Debug, Default)]
struct LogDisk {
    durable: LogHalf,
    pending: LogHalf,
    /// What the durable half lacks.
    unsynced: Vec<LogItem>,
    syncs: u64,
}

/// A log in memory. Clones share the disk, so that a test keeps one, drops the node's and opens it again.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    disk: Arc<Mutex<LogDisk>>,
}

/// Reads a [`MemoryLog`].
#[derive(Clone, Debug)]
pub struct MemoryLogReader(MemoryLog);

impl MemoryLog {
    /// Throws away everything that was not synced, as a power failure may.
    pub fn crash(&self) {
        let mut disk = self.disk();
        disk.pending = disk.durable.clone();
        disk.unsynced.clear();
    }

    /// Another disk, with what a crash now would leave of this one: whoever still writes to this one does not disturb it.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let durable = self.disk().durable.clone();
        let pending = durable.clone();
        Self { disk: Arc::new(Mutex::new(LogDisk { durable, pending, ..LogDisk::default() })) }
    }

    /// Synced writes so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    fn disk(&self) -> MutexGuard<'_, LogDisk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogHalf {
    fn carry_out(&mut self, item: &LogItem) -> io::Result<()> {
        match item {
            LogItem::Append(records) => {
                for record in records {
                    let last = self.records.last_key_value().map(|(&index, _)| index);
                    let last = last.or(self.purged.as_ref().map(|&(index, _)| index));
                    if last.is_some_and(|last| record.index != last + 1) {
                        return Err(io::Error::other(format!("record {} does not follow {last:?}", record.index)));
                    }
                    self.records.insert(record.index, record.payload.clone());
                }
            }
            LogItem::TruncateAfter(None) => self.records.clear(),
            LogItem::TruncateAfter(Some(last)) => drop(self.records.split_off(&(last + 1))),
            LogItem::Purge { up_to, last } => {
                self.records = self.records.split_off(&(up_to + 1));
                self.purged = Some((*up_to, last.clone()));
            }
            LogItem::Vote(vote) => self.vote = Some(vote.clone()),
            LogItem::Committed(committed) => self.committed = Some(committed.clone()),
        }
        Ok(())
    }
}

impl LogDevice for MemoryLog {
    type Reader = MemoryLogReader;

    fn recover(&mut self) -> io::Result<Recovered> {
        let disk = self.disk();
        let LogHalf { vote, committed, purged, records } = &disk.pending;
        let ends = records.first_key_value().zip(records.last_key_value());
        Ok(Recovered {
            vote: vote.clone(),
            committed: committed.clone(),
            purged: purged.clone(),
            range: ends.map(|((&first, _), (&last, _))| (first, last)),
        })
    }

    fn reader(&self) -> MemoryLogReader {
        MemoryLogReader(self.clone())
    }

    fn write(&mut self, items: &[LogItem], sync: bool) -> io::Result<()> {
        let disk = &mut *self.disk();
        for item in items {
            disk.pending.carry_out(item)?;
        }
        disk.unsynced.extend_from_slice(items);
        if sync {
            for item in disk.unsynced.drain(..) {
                disk.durable.carry_out(&item)?;
            }
            disk.syncs += 1;
        }
        Ok(())
    }
}

impl LogReader for MemoryLogReader {
    fn read(&self, first: u64, end: u64, bytes_max: usize) -> io::Result<Vec<LogRecord>> {
        let disk = self.0.disk();
        let mut bytes = 0;
        let mut records: Vec<LogRecord> = Vec::new();
        for (&index, payload) in disk.pending.records.range(first..end.max(first)) {
            bytes += payload.len();
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push(LogRecord { index, payload: payload.clone() });
        }
        Ok(records)
    }
}

#[derive(Clone, Debug, Default)]
struct StateHalf {
    meta: Option<Bytes>,
    rows: BTreeMap<(Space, Bytes), Bytes>,
}

#[derive(Debug, Default)]
struct StateDisk {
    durable: StateHalf,
    pending: StateHalf,
    /// What the durable half lacks.
    unflushed: Vec<RowChange>,
}

/// A state in memory. Clones share the disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    disk: Arc<Mutex<StateDisk>>,
}

impl MemoryState {
    /// Throws away everything that was not flushed, as a power failure may.
    pub fn crash(&self) {
        let mut disk = self.disk();
        disk.pending = disk.durable.clone();
        disk.unflushed.clear();
    }

    /// Another disk, with what a crash now would leave of this one.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let durable = self.disk().durable.clone();
        let pending = durable.clone();
        Self { disk: Arc::new(Mutex::new(StateDisk { durable, pending, ..StateDisk::default() })) }
    }

    fn disk(&self) -> MutexGuard<'_, StateDisk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateHalf {
    fn carry_out(&mut self, changes: &[RowChange]) {
        let rows = &mut self.rows;
        for change in changes {
            match change {
                RowChange::Put(space, key, value) => drop(rows.insert((*space, key.clone()), value.clone())),
                RowChange::Delete(space, key) => drop(rows.remove(&(*space, key.clone()))),
                RowChange::DeleteRange(_, from, to) if from >= to => {}
                RowChange::DeleteRange(space, from, to) => {
                    let gone: Vec<_> =
                        rows.range((*space, from.clone())..(*space, to.clone())).map(|(key, _)| key.clone()).collect();
                    gone.iter().for_each(|key| drop(rows.remove(key)));
                }
            }
        }
    }
}

impl StateDevice for MemoryState {
    fn meta(&self) -> io::Result<Option<Bytes>> {
        Ok(self.disk().pending.meta.clone())
    }

    fn scan(&self, space: Space, visit: &mut dyn FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let rows = self.disk().pending.rows.clone();
        rows.iter().filter(|((of, _), _)| *of == space).try_for_each(|((_, key), value)| visit(key, value))
    }

    fn write(&mut self, changes: &[RowChange], meta: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        disk.pending.carry_out(changes);
        disk.pending.meta = Some(Bytes::copy_from_slice(meta));
        disk.unflushed.extend_from_slice(changes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let disk = &mut *self.disk();
        disk.durable.carry_out(&disk.unflushed);
        disk.durable.meta.clone_from(&disk.pending.meta);
        disk.unflushed.clear();
        Ok(())
    }

    fn replace(&mut self, rows: &mut dyn Iterator<Item = (Space, Bytes, Bytes)>, meta: &[u8]) -> io::Result<()> {
        let rows = rows.map(|(space, key, value)| ((space, key), value)).collect();
        let half = StateHalf { meta: Some(Bytes::copy_from_slice(meta)), rows };
        let mut disk = self.disk();
        disk.pending = half.clone();
        disk.durable = half;
        disk.unflushed.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64) -> LogItem {
        LogItem::Append(vec![LogRecord { index, payload: Bytes::from(index.to_string()) }])
    }

    #[test]
    fn the_contract_is_kept() {
        let log = MemoryLog::default();
        super::super::contract::log(|| log.clone());
        let state = MemoryState::default();
        super::super::contract::state(|| state.clone());
    }

    #[test]
    fn a_crash_takes_what_was_not_synced_and_nothing_else() {
        let mut log = MemoryLog::default();
        log.write(&[record(1)], true).unwrap();
        log.write(&[record(2)], false).unwrap();
        log.crash();
        assert_eq!(log.recover().unwrap().range, Some((1, 1)));

        let mut state = MemoryState::default();
        let row = |key: &'static str| RowChange::Put(Space::Kv, key.into(), "v".into());
        state.write(&[row("a")], b"1").unwrap();
        state.flush().unwrap();
        state.write(&[row("b")], b"2").unwrap();
        state.crash();
        assert_eq!(state.meta().unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn a_hole_in_the_log_is_refused() {
        let mut log = MemoryLog::default();
        log.write(&[record(1)], true).unwrap();
        assert!(log.write(&[record(3)], true).is_err());
    }
}
