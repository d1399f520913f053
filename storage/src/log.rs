//! The log on disk: files of our own, written from front to back by one thread.
//!
//! A write is one [frame](frame) at the end of the newest [segment](segment), and at most one sync. What is acknowledged
//! is what a synced frame holds, and `durable.mark` [remembers](crate::mark) the last of those outside the log. Opening
//! [reads everything](replay) and compares it with the mark: a log from which something acknowledged is missing does
//! not open, however well-formed the rest is. Where each record lies is kept [in memory](index).

use std::fs;
use std::io;
use std::mem;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hither_state::device::{LogDevice, LogItem, Recovered};

use self::frame::{HEADER_BYTES, Header, State};
use self::index::{Index, Place};
use self::keeper::Keeper;
use self::segment::{SEGMENT_BYTES, Segment};
use self::tail::Tail;
use crate::files::{sync_directory, sync_tree};
use crate::lock::Lock;
use crate::mark::{Durable, Mark};
use crate::{Identity, StorageError};

mod frame;
mod index;
mod keeper;
mod reader;
mod replay;
mod segment;
mod tail;

pub use reader::FileLogReader;

pub(crate) const DIRECTORY: &str = "log";

/// What is set aside of a damaged end, followed by a number.
const DAMAGED: &str = "log.damaged-";

/// A segment that is filled so far has the next one made.
const PREPARE_AT: u64 = SEGMENT_BYTES / 2;

/// The log of a node.
#[derive(Debug)]
pub struct FileLog {
    shared: Arc<Shared>,
    keeper: Keeper,
    mark: Mark,
    head: Head,
    /// The last cycle that is known to be durable.
    synced: u64,
    recovered: Recovered,
    segment: u64,
    tail: Tail,
    /// The frame that is being made.
    frame: Vec<u8>,
    changes: Vec<Change>,
    /// Whether a purge is not durable yet.
    purges: bool,
    /// How far the state is durable: what a purge relies on.
    state_cut: Arc<AtomicU64>,
    /// The disk has refused something. What it holds now is not known, and nothing follows.
    is_broken: bool,
}

/// What the log shares with its readers.
#[derive(Debug)]
struct Shared {
    index: Mutex<Index>,
    path: PathBuf,
    /// Let go of after the files are closed.
    _lock: Arc<Lock>,
}

/// The log after one of its writes.
#[derive(Clone, Debug, Default)]
struct Head {
    /// The number of the write. That which creates the log is the first.
    cycle: u64,
    /// The checksum of its frame, which the next one continues.
    chain: u32,
    state: State,
}

/// What a frame will have done to the index.
#[derive(Debug)]
enum Change {
    /// Records from this index on, by where they begin in the frame and how long their payloads are.
    Append(u64, Vec<(usize, u32)>),
    Truncate(u64),
    Purge(u64),
}

impl FileLog {
    /// Creates an empty log and its mark.
    pub(crate) fn create(directory: &Path, identity: &Identity) -> Result<(), StorageError> {
        let path = directory.join(DIRECTORY);
        let create = || {
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            let segment = Segment::create_first(&path, 1)?;
            let state = State { identity: identity.row(), ..State::default() };
            let mut frame = Vec::new();
            state_frame(&mut frame, &Head { state, ..Head::default() }, 0, 1);
            segment.file.write_all_at(&frame, 0)?;
            segment.file.sync_all()?;
            sync_directory(directory)
        };
        create().map_err(StorageError::io(&path, "create it"))?;
        Mark::create(directory)
    }

    /// Opens the log and checks all of it. The second number is how far the state has to be durable.
    pub(crate) fn open(
        directory: &Path,
        identity: &Identity,
        lock: Arc<Lock>,
        state_cut: Arc<AtomicU64>,
    ) -> Result<(Self, u64), StorageError> {
        let path = directory.join(DIRECTORY);
        let (mark, durable) = Mark::open(directory)?;
        let replay::Replayed { head, index, segment: number, end, unsure, beyond, is_torn } =
            replay::replay(&path, identity, durable)?;
        if is_torn {
            set_aside(directory, &path, number).map_err(StorageError::io(&path, "set its damaged end aside"))?;
            tracing::warn!(
                log = %path.display(), cycle = head.cycle, next = head.state.next,
                "the end of the log was damaged; nothing acknowledged was in it, and it is cut off"
            );
        }
        // Made in advance and not used, or torn.
        for number in beyond {
            let path = segment::path(&path, number);
            fs::remove_file(&path).map_err(StorageError::io(&path, "remove"))?;
        }
        let segment = Segment::open(&path, number).map_err(StorageError::io(&path, "open"))?;
        let sure = end - unsure.len() as u64;
        write_again(&segment.file, &unsure, sure).map_err(StorageError::io(&path, "write its end again"))?;
        let tail = Tail::open(&segment::path(&path, number), segment.file, end);
        let tail = tail.map_err(StorageError::io(&path, "read the end of"))?;
        let state = &head.state;
        let recovered = Recovered {
            vote: state.vote.clone(),
            committed: state.committed.clone(),
            purged: state.last_purged.clone().map(|last| (state.purged - 1, last)),
            range: (!state.is_empty()).then(|| (state.first, state.next - 1)),
        };
        let needed = state.state_cut;
        let keeper = Keeper::start(&path)?;
        let mut log = Self {
            shared: Arc::new(Shared { index: Mutex::new(index), path, _lock: lock }),
            keeper,
            mark,
            synced: head.cycle,
            head,
            recovered,
            segment: number,
            tail,
            frame: Vec::new(),
            changes: Vec::new(),
            // Segments whose purge became durable just before the crash.
            purges: true,
            state_cut,
            is_broken: false,
        };
        // What is torn stays where it is: a segment that is begun after it says that the log ends before.
        let begun = if is_torn { log.roll().and_then(|()| log.sync()) } else { Ok(()) };
        begun.map_err(StorageError::io(&log.shared.path, "write"))?;
        Ok((log, needed))
    }

    /// Puts an item into the frame.
    fn put(&mut self, state: &mut State, item: &LogItem) -> io::Result<()> {
        let out = &mut self.frame;
        match item {
            LogItem::Append(records) => {
                for run in records.chunk_by(|one, next| next.index == one.index + 1) {
                    let first = run[0].index;
                    state.append(first, run.len())?;
                    let mut begins = Vec::with_capacity(run.len());
                    frame::put_append(out, first, run.iter().map(|record| &record.payload), |at| begins.push(at));
                    let lengths = run.iter().map(|record| u32::try_from(record.payload.len()).unwrap_or(u32::MAX));
                    self.changes.push(Change::Append(first, begins.into_iter().zip(lengths).collect()));
                }
            }
            LogItem::TruncateAfter(after) => {
                let next = after.map_or(0, |last| last.saturating_add(1));
                state.truncate(next);
                frame::put_truncate(out, next);
                self.changes.push(Change::Truncate(next));
            }
            LogItem::Purge { up_to, last } => {
                let (purged, cut) = (up_to.saturating_add(1), self.state_cut.load(Ordering::Acquire));
                if state.purge(purged, cut, last.clone()) {
                    frame::put_purge(out, purged, cut, last);
                    self.changes.push(Change::Purge(purged));
                }
            }
            LogItem::Vote(vote) => {
                state.vote = Some(vote.clone());
                frame::put_vote(out, vote);
            }
            LogItem::Committed(committed) => {
                state.committed = Some(committed.clone());
                frame::put_committed(out, committed);
            }
        }
        Ok(())
    }

    /// Writes the frame that was made, after which the log is as `state` says.
    fn commit(&mut self, state: State, sync: bool) -> io::Result<()> {
        // A frame that is larger than what a segment has left when it is half full goes beyond its end.
        if self.tail.end() >= PREPARE_AT && self.tail.end() + self.frame.len() as u64 > SEGMENT_BYTES {
            let frame = mem::take(&mut self.frame);
            self.roll()?;
            self.frame = frame;
        }
        let cycle = self.head.cycle + 1;
        let header = Header {
            length: u32::try_from(self.frame.len() - HEADER_BYTES).map_err(io::Error::other)?,
            cycle,
            synced: self.synced,
            segment: self.segment,
            chain: 0,
        };
        let chain = header.seal(&mut self.frame, self.head.chain).chain;
        let at = self.tail.append(&self.frame)?;
        if sync {
            self.tail.sync()?;
        }
        self.head = Head { cycle, chain, state };
        self.update_index(at);
        if sync {
            self.note_synced()?;
        }
        if self.tail.end() >= PREPARE_AT {
            self.keeper.prepare(self.segment + 1);
        }
        Ok(())
    }

    fn update_index(&mut self, at: u64) {
        let mut index = self.shared.index();
        for change in self.changes.drain(..) {
            match change {
                Change::Append(first, records) => {
                    let segment = self.segment;
                    let place = |(begin, length)| Place { segment, offset: at + begin as u64, length };
                    index.append(first, records.into_iter().map(place));
                }
                Change::Truncate(next) => index.truncate(next),
                Change::Purge(purged) => {
                    index.purge(purged);
                    self.purges = true;
                }
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.tail.sync()?;
        self.note_synced()
    }

    /// Everything that was written is durable.
    fn note_synced(&mut self) -> io::Result<()> {
        self.synced = self.head.cycle;
        self.mark.store(Durable { cycle: self.head.cycle, next: self.head.state.next })?;
        // Not earlier: if the purge were lost, its records would be missed.
        if mem::take(&mut self.purges) {
            let dead = self.shared.index().take_dead(self.segment);
            if !dead.is_empty() {
                self.keeper.remove(dead);
            }
        }
        Ok(())
    }

    /// Begins the next segment.
    fn roll(&mut self) -> io::Result<()> {
        // A segment that is durable must not follow one that is not.
        if self.synced < self.head.cycle {
            self.sync()?;
        }
        let Segment { number, file } = self.keeper.take(self.segment + 1)?;
        let mut frame = Vec::new();
        let chain = state_frame(&mut frame, &self.head, self.synced, number);
        self.tail = Tail::open(&segment::path(&self.shared.path, number), file, 0)?;
        self.tail.append(&frame)?;
        self.shared.index().begin(number);
        self.segment = number;
        self.head.cycle += 1;
        self.head.chain = chain;
        Ok(())
    }
}

impl LogDevice for FileLog {
    type Reader = FileLogReader;

    fn recover(&mut self) -> io::Result<Recovered> {
        Ok(mem::take(&mut self.recovered))
    }

    fn reader(&self) -> FileLogReader {
        FileLogReader::new(self.shared.clone())
    }

    fn write(&mut self, items: &[LogItem], sync: bool) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("the disk has refused a write of the log before; nothing follows it"));
        }
        self.frame.clear();
        self.frame.resize(HEADER_BYTES, 0);
        self.changes.clear();
        let mut state = self.head.state.clone();
        items.iter().try_for_each(|item| self.put(&mut state, item))?;
        let written = self.commit(state, sync);
        self.is_broken = written.is_err();
        written
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        // Only sharpens what a loss of power leaves; an error has nobody to go to.
        drop(self.mark.sync());
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        // Nothing under the lock panics half-way.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frame that begins a segment; returns its checksum.
fn state_frame(frame: &mut Vec<u8>, head: &Head, synced: u64, segment: u64) -> u32 {
    frame.resize(HEADER_BYTES, 0);
    frame::put_state(frame, &State { chain: head.chain, ..head.state.clone() });
    let length = u32::try_from(frame.len() - HEADER_BYTES).expect("a state is far smaller than 4 GiB");
    let header = Header { length, cycle: head.cycle + 1, synced, segment, chain: 0 };
    header.seal(frame, head.chain).chain
}

/// Makes frames durable that may be so or not. After a failed sync the system takes what it has of a file for written, and
/// neither reading it nor another sync tells that the disk has something else.
fn write_again(file: &fs::File, frames: &[u8], at: u64) -> io::Result<()> {
    if frames.is_empty() {
        return Ok(());
    }
    file.write_all_at(frames, at)?;
    file.sync_data()
}

/// Copies the end of the log as it is: the segment of this number and those behind it.
fn set_aside(directory: &Path, log: &Path, number: u64) -> io::Result<()> {
    let names = (1_u32..).map(|number| directory.join(format!("{DAMAGED}{number}")));
    let aside = names.into_iter().find(|path| !path.exists()).expect("some number is not taken");
    fs::DirBuilder::new().mode(0o700).create(&aside)?;
    for number in segment::numbers(log)?.into_iter().filter(|&other| other >= number) {
        fs::copy(segment::path(log, number), segment::path(&aside, number))?;
    }
    sync_tree(&aside)?;
    sync_directory(directory)
}
