//! Makes the next segment before it is needed, and removes those that were purged, away from the thread that writes.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::segment::{self, Segment};
use crate::StorageError;
use crate::files::sync_directory;

enum Job {
    /// Makes the segment of this number.
    Prepare(u64),
    /// Removes the segments of these numbers, oldest first: what a crash leaves is without a gap.
    Remove(Vec<u64>),
}

/// The thread that does it. Ends, finishing what it is at, when this is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
    jobs: Option<Sender<Job>>,
    /// The segments that were asked for, in order; none for one that could not be made.
    made: Receiver<Option<Segment>>,
    thread: Option<JoinHandle<()>>,
    /// The newest segment that was asked for.
    asked: u64,
}

impl Keeper {
    pub(super) fn start(directory: &Path) -> Result<Self, StorageError> {
        let (jobs, waiting) = channel();
        let (making, made) = channel();
        let own = directory.to_path_buf();
        let thread = thread::Builder::new()
            .name("hither-log-keep".into())
            .spawn(move || run(&own, &waiting, &making))
            .map_err(StorageError::io(directory, "start the thread that keeps its segments"))?;
        Ok(Self { directory: directory.into(), jobs: Some(jobs), made, thread: Some(thread), asked: 0 })
    }

    /// The segment of this number will be needed soon.
    pub(super) fn prepare(&mut self, number: u64) {
        if self.asked < number && self.ask(Job::Prepare(number)) {
            self.asked = number;
        }
    }

    /// The segment of this number. Waits for the one that is being made; one that nobody asked for, or that could not be
    /// made, is made here and grows as it is written.
    pub(super) fn take(&mut self, number: u64) -> io::Result<Segment> {
        if self.asked == number
            && let Ok(Some(segment)) = self.made.recv()
        {
            return Ok(segment);
        }
        self.asked = self.asked.max(number);
        Segment::create_empty(&self.directory, number)
    }

    /// The purge of these is durable.
    pub(super) fn remove(&self, dead: Vec<u64>) {
        self.ask(Job::Remove(dead));
    }

    fn ask(&self, job: Job) -> bool {
        let heard = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !heard {
            tracing::warn!("the thread that keeps the segments of the log is gone");
        }
        heard
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.jobs.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn run(directory: &Path, jobs: &Receiver<Job>, made: &Sender<Option<Segment>>) {
    let mut purged = VecDeque::new();
    for job in jobs {
        match job {
            Job::Prepare(number) => {
                let segment = Segment::create(directory, number);
                let segment = segment.inspect_err(|error| {
                    tracing::warn!(%error, "the next segment of the log could not be made in advance");
                });
                if made.send(segment.ok()).is_err() {
                    return;
                }
            }
            Job::Remove(dead) => {
                purged.extend(dead);
                if let Err(error) = remove(directory, &mut purged) {
                    let left = purged.len();
                    tracing::warn!(%error, left, "purged segments of the log are still on disk; they go with the next ones");
                }
            }
        }
    }
}

/// Removes segments, each durably before the one that follows it: a log with a gap is one that lost something. What the disk
/// does not let go of stays, with all that follow.
fn remove(directory: &Path, purged: &mut VecDeque<u64>) -> io::Result<()> {
    while let Some(&number) = purged.front() {
        match fs::remove_file(segment::path(directory, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => sync_directory(directory)?,
        }
        purged.pop_front();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_cannot_be_removed_keeps_those_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = |number| segment::path(directory.path(), number);
        for number in 2..=4 {
            fs::write(path(number), "").unwrap();
        }
        // No file, so that removing it fails.
        fs::create_dir(path(1)).unwrap();
        let mut purged = VecDeque::from([1, 2]);
        remove(directory.path(), &mut purged).unwrap_err();
        assert!(path(2).exists() && purged == [1, 2], "{purged:?}");

        fs::remove_dir(path(1)).unwrap();
        purged.push_back(3);
        remove(directory.path(), &mut purged).unwrap();
        assert_eq!((segment::numbers(directory.path()).unwrap(), purged), (vec![4], VecDeque::new()));
    }
}
