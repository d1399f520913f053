//! The control lane: greeting, liveness, and what opens and closes.

use serde::{Deserialize, Serialize};

use super::op;
use super::watch::{Filter, Mode, Start};
use crate::codec::Message;
use crate::error::{LeaderHint, Refusal};
use crate::message::Role;
use crate::{ClusterId, KeyRange, Lineage, NodeId, RequestNumber, Revision, SessionId, WatchId};

/// The first frame of the client. Without an answer the connection is of no use: in TLS 1.3 a refused client
/// certificate shows only after connecting seemed to succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's software, such as `hither-rs/0.1.0`: for logs and metrics.
    pub agent: String,
    /// The namespace of everything on this connection.
    pub namespace: String,
    /// The cluster that the client expects, if it knows it.
    pub cluster: Option<ClusterId>,
    /// A session to go on with.
    pub session: Option<SessionId>,
    /// The newest revision that the client saw.
    pub seen: Revision,
}

/// Answers [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The history that this node's revisions belong to.
    pub lineage: Lineage,
    /// The node.
    pub node: NodeId,
    /// Its version of Hither.
    pub version: String,
    /// The name of the identity that the client showed.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Raft's term at the node.
    pub term: u64,
    /// The node's revision.
    pub revision: Revision,
    /// Who leads.
    pub leader: Option<LeaderHint>,
    /// What became of the session that the client named.
    pub session: Option<SessionReply>,
    /// Milliseconds between beats.
    pub beat_ms: u64,
    /// Client addresses of the cluster's nodes, `host:port`, this one's among them.
    pub endpoints: Vec<String>,
}

/// What became of a session named in Hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionReply {
    /// It goes on.
    Resumed(Resumed),
    /// It is over, or another identity's.
    Expired,
}

/// A session that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// Its time to live.
    pub ttl_ms: u64,
    /// The epoch of its lease.
    pub epoch: u64,
}

/// The client leaves for good: the session and its bound leases end now. The server closes the connection when done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {}

/// The client is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAlive {
    /// Counts up; the reply carries the same.
    pub number: u64,
}

/// If it says that the session is alive, the leader knows that the client was when it sent the keep-alive of this number:
/// session and bound leases live for a full TTL from then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAliveReply {
    /// The number of the keep-alive.
    pub number: u64,
    /// Whether the connection's session is alive; none if it has none, or if no leader can tell.
    pub session_alive: Option<bool>,
}

/// How far the watches of the connection are.
///
/// It covers every watch that is not `behind`: all its events up to `revision` have been sent. Streams overtake each
/// other, so for one watch it holds only once the client has received as many frames on that watch's stream as the last
/// beat that named the watch in `sent` says, this one included; until then the client keeps it. A total over all streams
/// could not tell: a late frame of one watch would stand in for a lost one of another.
///
/// A beat may come before the `Created` of a watch that it covers; the client then keeps it or lets it go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// How far.
    pub revision: Revision,
    /// Watches on which something was sent since the beat before, and how many snapshot, reset and batch frames there
    /// were on each so far.
    pub sent: Vec<(WatchId, u64)>,
    /// Watches that are not synced; this beat says nothing about them.
    pub behind: Vec<WatchId>,
    /// Milliseconds since the node last knew itself to be current.
    pub age_ms: u64,
    /// Raft's term at the node.
    pub term: u64,
}

/// Opens a watch. The server answers with a stream that begins with `Created`, or with [`SubscribeRefused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Chosen by the client, each once on a connection, so that no beat speaks of another watch.
    pub watch: WatchId,
    /// Which keys.
    pub range: KeyRange,
    /// From where.
    pub start: Start,
    /// The history that `start` belongs to, where it names a revision. Another history is answered with a reset.
    pub lineage: Option<Lineage>,
    /// Every change, or only the newest state of each key.
    pub mode: Mode,
    /// Which kinds of events.
    pub filter: Filter,
    /// Send the entry before each event.
    pub previous: bool,
    /// Least milliseconds between two batches; 0 is none, and more than an hour is an hour.
    pub min_interval_ms: u64,
}

/// No watch was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeRefused {
    /// The watch that was asked for.
    pub watch: WatchId,
    /// Why not.
    pub refusal: Refusal,
}

/// Closes a watch: its stream ends. Unknown ids are ignored, since the watch may have ended meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelWatch {
    /// The watch.
    pub watch: WatchId,
}

/// Nobody waits for this request any more. What was proposed goes on; what waits is dropped. No answer follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The request.
    pub request: RequestNumber,
}

/// The server stops serving this connection soon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// Milliseconds after which it may be tried again.
    pub retry_after_ms: u64,
    /// Why.
    pub reason: String,
}

impl Message for Hello {
    const OP: u16 = op::HELLO;
}
impl Message for Welcome {
    const OP: u16 = op::WELCOME;
}
impl Message for Goodbye {
    const OP: u16 = op::GOODBYE;
}
impl Message for KeepAlive {
    const OP: u16 = op::KEEP_ALIVE;
}
impl Message for KeepAliveReply {
    const OP: u16 = op::KEEP_ALIVE_REPLY;
}
impl Message for Beat {
    const OP: u16 = op::BEAT;
}
impl Message for Subscribe {
    const OP: u16 = op::SUBSCRIBE;
}
impl Message for SubscribeRefused {
    const OP: u16 = op::SUBSCRIBE_REFUSED;
}
impl Message for CancelWatch {
    const OP: u16 = op::CANCEL_WATCH;
}
impl Message for CancelRequest {
    const OP: u16 = op::CANCEL_REQUEST;
}
impl Message for GoAway {
    const OP: u16 = op::GO_AWAY;
}
