//! What the segments say when they are read from the first to the last, and whether that is all they must say.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::frame::{self, HEADER_BYTES, Header, Item, RECORD_BYTES, State};
use super::index::{Index, Place};
use super::{Head, segment};
use crate::mark::Durable;
use crate::{Identity, StorageError};

/// What a good log holds.
pub(super) struct Replayed {
    pub(super) head: Head,
    pub(super) index: Index,
    /// The segment that ends the log, and where in it the log ends.
    pub(super) segment: u64,
    pub(super) end: u64,
    /// The frames at its end that are not known to be durable.
    pub(super) unsure: Bytes,
    /// Segments after it, which are not of the log.
    pub(super) beyond: Vec<u64>,
    /// Whether bytes of writes that are not of the log follow its end.
    pub(super) is_torn: bool,
}

/// Reads everything. The log is good if its frames reach `durable`, and as far as any frame that survived behind them
/// knew the log to be durable.
pub(super) fn replay(directory: &Path, identity: &Identity, durable: Durable) -> Result<Replayed, StorageError> {
    let damaged = |what: String| StorageError::damaged(directory, what);
    let numbers = segment::numbers(directory).map_err(StorageError::io(directory, "list it"))?;
    let Some((&first, rest)) = numbers.split_first() else { return Err(damaged("it has no segments".into())) };
    let mut bytes = read(directory, first)?;
    let begun = begin(&bytes, first).ok_or_else(|| damaged(format!("segment {first} does not begin a log")))?;
    if begun.1.identity != identity.row() {
        return Err(damaged("it belongs to another data directory than IDENT says".into()));
    }
    let base = begun.1.next;
    let head = Head { cycle: begun.0.cycle - 1, ..Head::default() };
    let mut replay = Replay { head, index: Index::default(), durable: durable.cycle, sure: 0 };
    replay.head.chain = begun.2;
    let (mut number, mut end, mut at) = (first, replay.segment(directory, first, &bytes)?, 0);
    for (place, &next) in rest.iter().enumerate() {
        let following = read(directory, next)?;
        if !replay.continues(&following, next) {
            break;
        }
        (number, bytes, at) = (next, following, place + 1);
        end = replay.segment(directory, next, &bytes)?;
    }
    let beyond = numbers[at + 1..].to_vec();
    let Replay { head, index, sure, .. } = replay;

    // What lies behind the end was never durable, or is what should be there. Its own words tell.
    let tail = &bytes[end..];
    // The body of a frame that is there in part is what clients wrote, who may write what looks like a header.
    let torn = Header::read(tail).filter(|header| header.segment == number && header.cycle == head.cycle + 1);
    let behind = torn.map_or(0, |torn| HEADER_BYTES + torn.length as usize);
    let mut known = durable.cycle.max(torn.map_or(0, |torn| torn.synced));
    let mut look = |bytes: &[u8], segment: u64| {
        let is_later =
            |header: &Header| header.segment == segment && header.cycle > head.cycle && header.synced < header.cycle;
        let mut later = Header::find_all(bytes).filter(is_later).peekable();
        let found = later.peek().is_some();
        known = later.fold(known, |known, header| known.max(header.synced));
        found
    };
    let mut is_torn = is_written(tail);
    if is_torn {
        look(tail.get(behind..).unwrap_or_default(), number);
    }
    for &number in &beyond {
        let bytes = read(directory, number)?;
        is_torn |= is_written(&bytes) && look(&bytes, number);
    }
    let (cycle, next) = (head.cycle, head.state.next);
    if cycle < known {
        return Err(damaged(format!(
            "acknowledged writes are missing: {cycle} of {known} are there, and it ends before record {next}, when it \
             was durable up to before record {}",
            durable.next
        )));
    }
    if cycle == durable.cycle && next != durable.next && durable != Durable::default() {
        return Err(damaged(format!("it goes on at record {next}, and durable.mark says {}", durable.next)));
    }
    let expected = (head.state.first < next).then_some((head.state.first, next));
    if index.range() != expected {
        return Err(damaged(format!("records before {base} are missing: a segment before {first} is gone")));
    }
    Ok(Replayed { head, index, segment: number, end: end as u64, unsure: bytes.slice(sure..end), beyond, is_torn })
}

/// Whether there is anything but zeros. Most of a segment is zeros, so they are looked at many at a time.
fn is_written(bytes: &[u8]) -> bool {
    bytes.chunks(4096).any(|bytes| bytes.iter().fold(0, |all, byte| all | byte) != 0)
}

fn read(directory: &Path, number: u64) -> Result<Bytes, StorageError> {
    let path = segment::path(directory, number);
    fs::read(&path).map(Bytes::from).map_err(StorageError::io(&path, "read"))
}

/// The first frame of a segment that may be the first, and what the chain was before it. The frames before are gone,
/// so it is taken at its own word: its header's checksum, and those of the frames after it.
fn begin(bytes: &Bytes, number: u64) -> Option<(Header, State, u32)> {
    let header = Header::read(bytes).filter(|header| header.segment == number && header.cycle > 0)?;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + header.length as usize)?;
    let items = frame::items(&Bytes::copy_from_slice(body))?;
    let [Item::State(state)] = &items[..] else { return None };
    let chain = state.chain;
    header.body(bytes, 0, chain)?;
    Some((header, State::clone(state), chain))
}

struct Replay {
    head: Head,
    index: Index,
    /// The last cycle that the mark knows to be durable, and where in the segment the frames up to it end.
    durable: u64,
    sure: usize,
}

impl Replay {
    /// The frame here, if it is the next one of the log.
    fn next(&self, bytes: &Bytes, at: usize, number: u64) -> Option<(Header, Bytes, Vec<Item>)> {
        let header = Header::read(bytes.get(at..)?)?;
        if header.segment != number || header.cycle != self.head.cycle + 1 {
            return None;
        }
        let body = header.body(bytes, at, self.head.chain)?;
        let items = frame::items(&body)?;
        Some((header, body, items))
    }

    fn continues(&self, bytes: &Bytes, number: u64) -> bool {
        self.next(bytes, 0, number).is_some()
    }

    /// Takes the frames of a segment; returns where they end.
    fn segment(&mut self, directory: &Path, number: u64, bytes: &Bytes) -> Result<usize, StorageError> {
        let path = segment::path(directory, number);
        let file = File::open(&path).map_err(StorageError::io(&path, "open"))?;
        // What a process wrote before it was killed is readable, and not yet durable.
        file.sync_data().map_err(StorageError::io(&path, "sync"))?;
        self.index.begin(number);
        self.sure = 0;
        let mut at = 0;
        while let Some((header, body, items)) = self.next(bytes, at, number) {
            self.head.cycle = header.cycle;
            self.head.chain = header.chain;
            for item in items {
                self.take(item, number, at + HEADER_BYTES, &body).map_err(|error| {
                    StorageError::damaged(&path, format!("write {} contradicts those before: {error}", header.cycle))
                })?;
            }
            at += HEADER_BYTES + header.length as usize;
            if header.cycle <= self.durable {
                self.sure = at;
            }
        }
        Ok(at)
    }

    fn take(&mut self, item: Item, segment: u64, begin: usize, body: &Bytes) -> io::Result<()> {
        let state = &mut self.head.state;
        match item {
            Item::State(found) => *state = *found,
            Item::Append(first, payloads) => {
                state.append(first, payloads.len())?;
                let place = |payload: std::ops::Range<usize>| Place {
                    segment,
                    offset: (begin + payload.start - RECORD_BYTES) as u64,
                    length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
                };
                debug_assert!(payloads.iter().all(|payload| payload.end <= body.len()));
                self.index.append(first, payloads.into_iter().map(place));
            }
            Item::Truncate(next) => {
                state.truncate(next);
                self.index.truncate(next);
            }
            Item::Purge(purged, cut, last) => {
                state.purge(purged, cut, last);
                self.index.purge(purged);
            }
            Item::Vote(vote) => state.vote = Some(vote),
            Item::Committed(committed) => state.committed = Some(committed),
        }
        Ok(())
    }
}
