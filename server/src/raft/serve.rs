//! What other nodes ask of this one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hither_protocol::{ClusterId, Moment};
use hither_state::image::Meta;
use openraft::storage::Snapshot;
use openraft_rt::Instant;

use super::applier::SnapshotData;
use super::links::{Pending, Pipe};
use super::message::{Append, AppendAnswer, Call, Piped, TransferAnswer, VoteAnswer, space_of};
use super::record::{self, Record, VoteForm, invalid};
use super::types::{SnapshotMeta, StoredMembership, Vote};
use super::{Raft, Runtime};
use crate::engine::Clock;
use crate::machine::Machine;
use crate::persister::{Image, decode_standing};

/// Answers other nodes.
pub(crate) struct Server<R: Runtime> {
    pub(crate) raft: Raft<R>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) clock: Clock,
    /// Until then this node votes for nobody: before it restarted it may have promised a leader its lease.
    pub(crate) fence_until: R::Instant,
    pub(crate) heard: Arc<Heard>,
}

/// When the leader was last heard of.
#[derive(Debug, Default)]
pub(crate) struct Heard(AtomicU64);

impl Heard {
    fn now(&self, now: Moment) {
        self.0.fetch_max(now.0, Ordering::Relaxed);
    }

    /// None if never.
    pub(crate) fn last(&self) -> Option<Moment> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&at| at > 0).map(Moment)
    }
}

impl<R: Runtime> Clone for Server<R> {
    fn clone(&self) -> Self {
        Self {
            raft: self.raft.clone(),
            machine: self.machine.clone(),
            clock: self.clock.clone(),
            fence_until: self.fence_until,
            heard: self.heard.clone(),
        }
    }
}

impl<R: Runtime> Server<R> {
    /// Answers one message.
    pub(crate) fn call(&self, message: Bytes) -> Pending<io::Result<Bytes>> {
        let this = self.clone();
        Box::pin(async move {
            match record::decode(&message)? {
                Call::Vote(call) => {
                    this.check_fence(call.is_transfer())?;
                    let response = this.raft.vote(call.request()?).await.map_err(io::Error::other)?;
                    Ok(record::encode(&VoteAnswer::of(&response)))
                }
                Call::PreVote(call) => {
                    this.check_fence(call.is_transfer())?;
                    let response = this.raft.pre_vote(call.request()?).await.map_err(io::Error::other)?;
                    Ok(record::encode(&VoteAnswer::of(&response)))
                }
                Call::Append(append) => {
                    let request = append.request::<R>()?;
                    let previous = request.prev_log_id;
                    let last = request.entries.last().map(|entry| entry.log_id).or(previous);
                    let response = this.raft.append_entries(request).await.map_err(io::Error::other)?;
                    let answer = AppendAnswer::of_one::<R>(response, previous, last);
                    this.note(&answer);
                    Ok(record::encode(&answer))
                }
                Call::Transfer(transfer) => {
                    let result = this.raft.handle_transfer_leader(transfer.request()?).await;
                    Ok(record::encode(&TransferAnswer::of(&result.map_err(io::Error::other)?)))
                }
            }
        })
    }

    /// Serves a pipe until it ends.
    pub(crate) async fn pipe(&self, mut pipe: Pipe) -> io::Result<()> {
        let Some(first) = pipe.receiver.recv().await else { return Ok(()) };
        match record::decode(&first)? {
            Piped::Append(first) => self.appends(first, pipe).await,
            Piped::Snapshot(vote, meta) => self.snapshot(vote, &meta, pipe).await,
            Piped::Rows(_) | Piped::Complete => Err(invalid("rows of no snapshot")),
        }
    }

    async fn appends(&self, first: Append, pipe: Pipe) -> io::Result<()> {
        let Pipe { sender, receiver } = pipe;
        let rest = stream::unfold(receiver, |mut receiver| async move {
            match record::decode(&receiver.recv().await?) {
                Ok(Piped::Append(append)) => Some((append, receiver)),
                // What is no append ends the pipe; the leader opens another.
                _ => None,
            }
        });
        let requests = stream::once(std::future::ready(first)).chain(rest);
        let requests = requests
            .map(Append::request::<R>)
            .take_while(|request| std::future::ready(request.is_ok()))
            .filter_map(|request| std::future::ready(request.ok()));
        let mut answers = std::pin::pin!(self.raft.stream_append(Box::pin(requests)));
        while let Some(result) = answers.next().await {
            let answer = AppendAnswer::of::<R>(&result.map_err(io::Error::other)?);
            self.note(&answer);
            if sender.send(record::encode(&answer)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn snapshot(&self, vote: VoteForm, meta: &[u8], mut pipe: Pipe) -> io::Result<()> {
        let meta = Meta::decode(meta)?;
        self.check_cluster(&meta)?;
        let mut rows = Vec::new();
        loop {
            let message = pipe.receiver.recv().await.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset))?;
            match record::decode(&message)? {
                Piped::Rows(more) => {
                    for (space, key, value) in more {
                        rows.push((space_of(space)?, key, value));
                    }
                }
                Piped::Complete => break,
                Piped::Append(_) | Piped::Snapshot(..) => return Err(invalid("a snapshot with something else in it")),
            }
        }
        let standing = decode_standing(&meta.opaque)?;
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id: standing.applied,
                last_membership: StoredMembership::clone(&standing.membership),
            },
            snapshot: SnapshotData::Received(Box::new(Image { rows, meta })),
        };
        let installing = self.raft.install_full_snapshot(Vote::of(vote)?, snapshot);
        let response = installing.await.map_err(io::Error::other)?;
        // The leader asks again if the answer does not reach it.
        let _ = pipe.sender.send(record::encode(&response.vote.form())).await;
        Ok(())
    }

    fn check_fence(&self, is_transfer: bool) -> io::Result<()> {
        if !is_transfer && R::Instant::now() < self.fence_until {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "this node started a moment ago and does not vote yet",
            ));
        }
        Ok(())
    }

    /// The states of two clusters must never mix: raft takes what a leader sends.
    fn check_cluster(&self, meta: &Meta) -> io::Result<()> {
        let cluster = |lineage: Option<hither_protocol::Lineage>| -> Option<ClusterId> { lineage.map(|of| of.cluster) };
        let (ours, theirs) = (cluster(self.machine.state.read().lineage()), cluster(meta.lineage));
        if ours.is_some() && ours != theirs {
            return Err(invalid("a snapshot of another cluster"));
        }
        Ok(())
    }

    fn note(&self, answer: &AppendAnswer) {
        if !matches!(answer, AppendAnswer::HigherVote(_)) {
            self.heard.now(self.clock.now());
        }
    }
}
