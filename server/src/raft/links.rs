//! What raft needs of the network: messages to other nodes, as bytes.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use hither_protocol::NodeId;
use tokio::sync::mpsc;

use crate::engine::Member;

/// A future that a trait object returns.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Messages that a pipe holds before its sender waits: deeper windows leave nothing to batch.
pub const PIPE_MESSAGES_MAX: usize = 16;

/// What a message is for. One lane must not hold up another, least of all heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes and heartbeats: small, and late is lost.
    Urgent,
    /// Log entries.
    Log,
    /// Snapshots: large, and never in a hurry.
    Bulk,
}

/// A lasting pair of streams of messages, in order. Each ends by itself: who has sent everything drops the sender and still
/// reads answers. A connection that is lost ends both.
#[derive(Debug)]
pub struct Pipe {
    /// To the other side.
    pub sender: mpsc::Sender<Bytes>,
    /// From the other side.
    pub receiver: mpsc::Receiver<Bytes>,
}

impl Pipe {
    /// Both ends of a pipe within the process.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (to_there, from_here) = mpsc::channel(PIPE_MESSAGES_MAX);
        let (to_here, from_there) = mpsc::channel(PIPE_MESSAGES_MAX);
        (Self { sender: to_there, receiver: from_there }, Self { sender: to_here, receiver: from_here })
    }
}

/// The connections to other nodes. What is sent here reaches [`Engine::serve_call`](crate::engine::Engine::serve_call)
/// and [`Engine::serve_pipe`](crate::engine::Engine::serve_pipe) of the node that it is for, and only if both nodes
/// proved to be who they are.
pub trait Links: Send + Sync + 'static {
    /// One message and its answer. Whoever asks gives up by dropping it.
    fn call(&self, to: NodeId, member: &Member, lane: Lane, message: Bytes) -> Pending<io::Result<Bytes>>;

    /// A pipe of its own.
    fn open(&self, to: NodeId, member: &Member, lane: Lane) -> Pending<io::Result<Pipe>>;
}

/// A node that has no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLinks;

impl Links for NoLinks {
    fn call(&self, to: NodeId, _: &Member, _: Lane, _: Bytes) -> Pending<io::Result<Bytes>> {
        Box::pin(std::future::ready(Err(unreachable(to))))
    }

    fn open(&self, to: NodeId, _: &Member, _: Lane) -> Pending<io::Result<Pipe>> {
        Box::pin(std::future::ready(Err(unreachable(to))))
    }
}

impl fmt::Debug for dyn Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

fn unreachable(node: NodeId) -> io::Error {
    io::Error::new(io::ErrorKind::HostUnreachable, format!("this node has no link to node {node}"))
}
