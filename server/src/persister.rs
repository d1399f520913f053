//! The state on disk: a replica of the one in memory, some way behind it, written on a thread of its own.
//!
//! Nothing waits for it but snapshots and shutdown. Every write is a cut: the rows of whole entries and the meta row that
//! says which. What a crash takes is applied again from the log, which is purged only up to what is durable here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hither_state::device::{Space, StateDevice};
use hither_state::image::{self, Meta};
use hither_state::watch::ChangeLog;
use hither_state::{State, StateLimits};
use openraft_rt::Instant;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::engine::{Failing, Stats};
use crate::machine::{Block, Standing};
use crate::raft::Runtime;
use crate::raft::record::{self, Record};
use crate::raft::{LogId, StoredMembership};

mod rows;

use rows::{Rows, cost};

/// Bytes of commands after which what was applied is looked at, though it is not yet time to write it.
const LOOK_BYTES: u64 = 256 << 10;
/// Bytes of rows after which they are written without waiting for the interval.
const WRITE_BYTES: usize = 4 << 20;
/// Bytes written after which they are made durable: what a restart has to replay.
const FLUSH_BYTES: usize = 16 << 20;
/// When nothing has been applied for so long, a burst is over: what it left in memory is made durable and given back.
const REST: Duration = Duration::from_secs(2);
/// Bytes written that are worth it.
const REST_BYTES: usize = 1 << 20;

/// How far the state on disk may be behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Longest time until what was applied is written.
    pub(crate) write: Duration,
    /// Longest time that something written stays volatile.
    pub(crate) flush: Duration,
}

/// Rows of a whole state, and its meta row.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) rows: Vec<(Space, Bytes, Bytes)>,
    pub(crate) meta: Meta,
}

enum Job {
    Block(Box<Block>),
    Flush(oneshot::Sender<Standing>),
    Replace(Box<Image>, oneshot::Sender<io::Result<Stored>>),
    Close(oneshot::Sender<()>),
}

/// What a device holds.
pub(crate) struct Stored {
    pub(crate) state: State,
    pub(crate) history: ChangeLog,
    pub(crate) standing: Standing,
}

/// Reads the state that a device holds; the empty one if it was never written to.
///
/// # Errors
/// Those of the device; `InvalidData` for damage.
pub(crate) fn load(device: &impl StateDevice) -> io::Result<Stored> {
    let Some(loaded) = image::load(device)? else {
        return Ok(Stored {
            state: State::new(StateLimits::default()),
            history: ChangeLog::new(hither_protocol::Revision::ZERO),
            standing: Standing::default(),
        });
    };
    let history = ChangeLog::load(device, loaded.meta.floor, loaded.meta.revision)?;
    let standing = decode_standing(&loaded.meta.opaque)?;
    if standing.applied.map_or(0, |applied| applied.index) != loaded.meta.applied_index {
        return Err(record::invalid("the state says two different things about how far the log was applied"));
    }
    Ok(Stored { state: loaded.state, history, standing })
}

pub(crate) fn encode_standing(standing: &Standing) -> Bytes {
    record::encode(&(standing.applied.form(), standing.membership.form()))
}

pub(crate) fn decode_standing(bytes: &[u8]) -> io::Result<Standing> {
    let (applied, membership) = record::decode(bytes)?;
    Ok(Standing { applied: Option::<LogId>::of(applied)?, membership: Arc::new(StoredMembership::of(membership)?) })
}

/// A handle to the persister. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Persister {
    jobs: mpsc::UnboundedSender<Job>,
    stats: Arc<Stats>,
    /// After the jobs, so that the last handle is gone when it rings.
    bell: Bell,
}

/// Rings when a job should not wait, and when a handle is gone.
#[derive(Clone, Debug, Default)]
struct Bell(Arc<Notify>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Persister {
    /// # Errors
    /// No thread was to be had.
    pub(crate) fn start<R: Runtime, D: StateDevice>(
        device: D,
        standing: Standing,
        pace: Pace,
        stats: Arc<Stats>,
        failing: Failing,
    ) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let bell = Bell::default();
        let rung = bell.0.clone();
        let mut writer = Writer::<R, D> {
            device,
            pace,
            stats: stats.clone(),
            rows: Rows::default(),
            unwritten: None,
            unwritten_since: None,
            standing,
            unflushed_bytes: 0,
            unflushed_since: None,
            written_at: None,
            owes_memory: false,
        };
        R::thread(crate::engine::THREAD_PERSISTER, async move {
            match writer.run(waiting, &rung).await {
                Ok(closed) => {
                    drop(writer);
                    // Whoever asked may be gone.
                    let _ = closed.map(|closed| closed.send(()));
                }
                // Said before the device is let go of: after an error it may wait for a second before it closes.
                Err(error) => failing.fail(format!("the state cannot be written: {error}")),
            }
        })?;
        Ok(Self { jobs, stats, bell })
    }

    /// Takes what was applied.
    pub(crate) fn push(&self, block: Block) {
        let bytes = block.bytes;
        let before = self.stats.unpersisted_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A persister that died has said so; the process is about to end.
        let _ = self.jobs.send(Job::Block(Box::new(block)));
        if before / LOOK_BYTES != (before + bytes) / LOOK_BYTES {
            self.bell.0.notify_one();
        }
    }

    /// Everything applied so far is durable when it returns; it says how far that is.
    ///
    /// # Errors
    /// The persister died.
    pub(crate) async fn flush(&self) -> io::Result<Standing> {
        let (done, wait) = oneshot::channel();
        self.ask(Job::Flush(done), wait).await
    }

    /// Puts another state in place of this one, durably, and reads it.
    ///
    /// # Errors
    /// The state is damaged; the persister died.
    pub(crate) async fn replace(&self, image: Image) -> io::Result<Stored> {
        let (done, wait) = oneshot::channel();
        self.ask(Job::Replace(Box::new(image), done), wait).await?
    }

    /// Makes everything durable and lets go of the device.
    pub(crate) async fn close(&self) {
        let (done, wait) = oneshot::channel();
        // An error is a persister that died, which has said so.
        let _ = self.ask(Job::Close(done), wait).await;
    }

    async fn ask<T>(&self, job: Job, wait: oneshot::Receiver<T>) -> io::Result<T> {
        let died = || io::Error::other("the persister has stopped");
        self.jobs.send(job).map_err(|_| died())?;
        self.bell.0.notify_one();
        wait.await.map_err(|_| died())
    }
}

struct Writer<R: Runtime, D> {
    device: D,
    pace: Pace,
    stats: Arc<Stats>,
    rows: Rows,
    /// The meta row of what waits, and the bytes of its commands.
    unwritten: Option<(Meta, Standing, u64)>,
    unwritten_since: Option<R::Instant>,
    /// How far what was written goes.
    standing: Standing,
    unflushed_bytes: usize,
    unflushed_since: Option<R::Instant>,
    /// When it was last written, or came to rest.
    written_at: Option<R::Instant>,
    /// A burst is over, and its memory was not given back yet.
    owes_memory: bool,
}

impl<R: Runtime, D: StateDevice> Writer<R, D> {
    /// Writes until there is nobody left who applies; whom to tell once the device is let go of, if somebody asked.
    async fn run(
        &mut self,
        mut jobs: mpsc::UnboundedReceiver<Job>,
        bell: &Notify,
    ) -> io::Result<Option<oneshot::Sender<()>>> {
        loop {
            match self.next(&mut jobs, bell).await? {
                Some(Job::Block(block)) => {
                    self.take(*block);
                    if self.rows.bytes >= WRITE_BYTES {
                        self.write()?;
                        self.flush_if_due()?;
                    }
                }
                Some(Job::Flush(done)) => {
                    self.write()?;
                    self.flush()?;
                    // Raft may have stopped waiting.
                    let _ = done.send(self.standing.clone());
                }
                Some(Job::Replace(image, done)) => {
                    let replaced = self.replace(*image)?;
                    let _ = done.send(replaced);
                }
                Some(Job::Close(done)) => {
                    self.write()?;
                    self.flush()?;
                    return Ok(Some(done));
                }
                // Whoever applied is gone without a goodbye, as in a crash.
                None => return Ok(None),
            }
        }
    }

    /// The next job; none if there will be no more. What is due meanwhile is done.
    ///
    /// The first block after a write is waited for; from then on until the next write nothing wakes this but the time
    /// and the bell: a wake-up for each block would cost the applier, and so all who wait for it, more than the block.
    async fn next(&mut self, jobs: &mut mpsc::UnboundedReceiver<Job>, bell: &Notify) -> io::Result<Option<Job>> {
        loop {
            match jobs.try_recv() {
                Ok(job) => return Ok(Some(job)),
                Err(mpsc::error::TryRecvError::Disconnected) => return Ok(None),
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            let flush = self.unflushed_since.map(|since| since + self.pace.flush);
            let write = self.unwritten_since.map(|since| since + self.pace.write);
            match (write.into_iter().chain(flush).chain(self.rests_at()).min(), write.is_some()) {
                (None, _) => return Ok(jobs.recv().await),
                (Some(due), _) if R::Instant::now() >= due => {
                    self.write()?;
                    self.flush_if_due()?;
                    self.rest_if_due()?;
                }
                (Some(due), true) => {
                    // Whichever it is, what has come is looked at first.
                    let _ = R::timeout_at(due, Box::pin(bell.notified())).await;
                }
                (Some(due), false) => {
                    if let Ok(job) = R::timeout_at(due, Box::pin(jobs.recv())).await {
                        return Ok(job);
                    }
                }
            }
        }
    }

    fn take(&mut self, block: Block) {
        block.deltas.into_iter().for_each(|delta| self.rows.take(delta));
        let bytes = self.unwritten.as_ref().map_or(0, |(_, _, bytes)| *bytes);
        self.unwritten = Some((block.meta, block.standing, bytes + block.bytes));
        self.unwritten_since.get_or_insert_with(R::Instant::now);
    }

    fn write(&mut self) -> io::Result<()> {
        self.unwritten_since = None;
        let Some((mut meta, standing, bytes)) = self.unwritten.take() else { return Ok(()) };
        meta.opaque = encode_standing(&standing);
        let rows = self.rows.drain();
        self.device.write(&rows, &meta.encode())?;
        self.standing = standing;
        self.unflushed_bytes += rows.iter().map(cost).sum::<usize>();
        let now = R::Instant::now();
        self.unflushed_since.get_or_insert(now);
        self.written_at = Some(now);
        self.stats.unpersisted_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.stats.persisted_index.store(meta.applied_index, Ordering::Relaxed);
        Ok(())
    }

    fn flush_if_due(&mut self) -> io::Result<()> {
        let is_due = self.unflushed_bytes >= FLUSH_BYTES
            || self.unflushed_since.is_some_and(|since| since.elapsed() >= self.pace.flush);
        if is_due { self.flush() } else { Ok(()) }
    }

    /// When the burst counts as over, if that is worth anything.
    fn rests_at(&self) -> Option<R::Instant> {
        let is_worth_it = self.unwritten.is_none() && (self.unflushed_bytes >= REST_BYTES || self.owes_memory);
        self.written_at.filter(|_| is_worth_it).map(|at| at + REST)
    }

    fn rest_if_due(&mut self) -> io::Result<()> {
        let now = R::Instant::now();
        if self.rests_at().is_none_or(|at| now < at) {
            return Ok(());
        }
        if self.unflushed_bytes >= REST_BYTES {
            self.flush()?;
            // The device lets go of what it flushed in its own time.
            self.written_at = Some(now);
        } else {
            self.owes_memory = false;
            // It is empty, since nothing is unwritten, but for the room that it keeps between two writes.
            self.rows = Rows::default();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unflushed_since.take().is_some() {
            self.device.flush()?;
            self.owes_memory |= self.unflushed_bytes >= REST_BYTES;
            self.unflushed_bytes = 0;
        }
        Ok(())
    }

    /// The outer error is the device's and ends the process.
    fn replace(&mut self, image: Image) -> io::Result<io::Result<Stored>> {
        let meta = image.meta.encode();
        self.device.replace(&mut image.rows.into_iter(), &meta)?;
        if let Some((_, _, bytes)) = self.unwritten.take() {
            self.stats.unpersisted_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.rows = Rows::default();
        (self.unwritten_since, self.unflushed_since, self.unflushed_bytes) = (None, None, 0);
        (self.owes_memory, self.written_at) = (true, Some(R::Instant::now()));
        self.stats.persisted_index.store(image.meta.applied_index, Ordering::Relaxed);
        let stored = load(&self.device);
        if let Ok(stored) = &stored {
            self.standing = stored.standing.clone();
        }
        Ok(stored)
    }
}
