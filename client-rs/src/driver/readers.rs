//! The streams that are read: however many there are, only those that have something are looked at.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use hither_client_core::LinkId;
use hither_protocol::codec::{Decoder, Frame};
use hither_protocol::frame::FrameTooLarge;
use quinn::{ReadError, RecvStream};
use slab::Slab;

/// Chunks taken from a stream at once.
const CHUNKS: usize = 16;

/// A stream that is read. The name is used again once the stream is forgotten, so that what rings under it may be another
/// stream by then: that one is looked at for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReaderId(usize);

/// All streams that are read. Each has a bell, which the transport rings when there is something on it.
pub(super) struct Readers {
    readers: Slab<Reader>,
    bells: Arc<Bells>,
    chunks: [Bytes; CHUNKS],
}

/// A stream, and the piece of a frame that has come.
pub(super) struct Reader {
    pub(super) link: LinkId,
    pub(super) kind: Kind,
    stream: RecvStream,
    decoder: Decoder,
    bell: Waker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Control lane, request lane, or a request's own stream.
    Lane,
    /// Opened by the server; what it is shows with its first frame.
    Server,
    /// A watch.
    Watch(u64),
}

/// What reading came to.
pub(super) enum Read {
    /// Nothing has come; the bell will ring.
    Nothing,
    /// Something has come, and whole frames of it, if any, were appended. There may be more.
    Some,
    /// The stream has ended; with an error, unless the server finished it.
    Ended(Option<ReadError>),
    /// What comes is no frame.
    Broken(FrameTooLarge),
}

impl Readers {
    pub(super) fn new() -> Self {
        Self { readers: Slab::new(), bells: Arc::default(), chunks: [const { Bytes::new() }; CHUNKS] }
    }

    /// Takes a stream up. It is to be read at once: its bell rings only after a read that found nothing.
    pub(super) fn insert(&mut self, link: LinkId, kind: Kind, stream: RecvStream) -> ReaderId {
        let place = self.readers.vacant_entry();
        let id = ReaderId(place.key());
        let bell = Waker::from(Arc::new(Bell { id, bells: Arc::clone(&self.bells) }));
        place.insert(Reader { link, kind, stream, decoder: Decoder::default(), bell });
        id
    }

    pub(super) fn get_mut(&mut self, id: ReaderId) -> Option<&mut Reader> {
        self.readers.get_mut(id.0)
    }

    /// Forgets a stream, and tells the server so if it has not ended.
    pub(super) fn remove(&mut self, id: ReaderId) {
        drop(self.readers.try_remove(id.0));
    }

    /// Reads once, and appends the frames that are whole now.
    pub(super) fn read(&mut self, id: ReaderId, frames: &mut Vec<Frame>) -> Read {
        let Self { readers, chunks, .. } = self;
        let Some(reader) = readers.get_mut(id.0) else { return Read::Nothing };
        let mut context = Context::from_waker(&reader.bell);
        // The future holds nothing but the reference: what it waits for is kept with the connection.
        let count = match pin!(reader.stream.read_chunks(chunks)).poll(&mut context) {
            Poll::Pending => return Read::Nothing,
            Poll::Ready(Ok(Some(count))) => count,
            Poll::Ready(Ok(None)) => return Read::Ended(None),
            Poll::Ready(Err(error)) => return Read::Ended(Some(error)),
        };
        for chunk in chunks.iter_mut().take(count) {
            let mut chunk = std::mem::take(chunk);
            loop {
                match reader.decoder.next_frame_of(&mut chunk) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return Read::Broken(error),
                }
            }
        }
        Read::Some
    }

    /// Rings the bell of a stream from this side: it is looked at again, after those that rang before.
    pub(super) fn ring(&self, id: ReaderId) {
        self.bells.lock().rung.push_back(id);
    }

    /// Moves up to `most` of the streams that have something to `out`; if there are none, the task is woken by the next.
    pub(super) fn poll_rung(&self, context: &mut Context<'_>, most: usize, out: &mut Vec<ReaderId>) {
        let mut bells = self.bells.lock();
        let count = bells.rung.len().min(most);
        out.extend(bells.rung.drain(..count));
        if count == 0 && !bells.listener.as_ref().is_some_and(|listener| listener.will_wake(context.waker())) {
            bells.listener = Some(context.waker().clone());
        }
    }

    /// All streams that have something.
    pub(super) fn rung(&self) -> Vec<ReaderId> {
        self.bells.lock().rung.drain(..).collect()
    }
}

/// Those that rang and were not looked at since.
#[derive(Debug, Default)]
struct Bells(Mutex<Rung>);

#[derive(Debug, Default)]
struct Rung {
    rung: VecDeque<ReaderId>,
    /// The task that looks at them, once it found that there are none.
    listener: Option<Waker>,
}

struct Bell {
    id: ReaderId,
    bells: Arc<Bells>,
}

impl Bells {
    fn lock(&self) -> MutexGuard<'_, Rung> {
        // Nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let listener = {
            let mut bells = self.bells.lock();
            bells.rung.push_back(self.id);
            bells.listener.take()
        };
        if let Some(listener) = listener {
            listener.wake();
        }
    }
}
