//! Raft's side of the [`Links`]: what this node asks of others.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{Stream, StreamExt, stream};
use hither_protocol::NodeId;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::Runtime;
use super::applier::SnapshotData;
use super::links::{Lane, Links};
use super::message::{Append, AppendAnswer, Call, Piped, Transfer, TransferAnswer, VoteAnswer, VoteCall, space_number};
use super::record::{self, Record, VoteForm};
use super::types::{LeaderId, TypeConfig, Vote};
use crate::engine::Member;

/// How long an answer to log entries may take before the pipe is given up: a slow sync is not a lost connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of rows in one message of a snapshot.
const ROWS_BYTES: usize = 1 << 20;

/// Makes the clients of other nodes.
pub(crate) struct Peers(pub(crate) Arc<dyn Links>);

/// A client of one node, on one lane.
pub(crate) struct Client {
    links: Arc<dyn Links>,
    node: NodeId,
    member: Member,
    lane: Lane,
}

impl Peers {
    fn client(&self, node: u64, member: &Member, lane: Lane) -> Client {
        Client { links: self.0.clone(), node: NodeId(node), member: member.clone(), lane }
    }
}

impl<R: Runtime> RaftNetworkFactory<TypeConfig<R>> for Peers {
    type Network = Client;

    async fn new_client(&mut self, node: u64, member: &Member) -> Client {
        self.client(node, member, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, node: u64, member: &Member) -> Client {
        self.client(node, member, Lane::Urgent)
    }

    async fn new_snapshot_client(&mut self, node: u64, member: &Member) -> Client {
        self.client(node, member, Lane::Bulk)
    }
}

impl Client {
    async fn ask<R: Runtime, T: DeserializeOwned>(
        &self,
        lane: Lane,
        call: &Call,
        patience: Duration,
    ) -> Result<T, RPCError<TypeConfig<R>>> {
        let answer = self.links.call(self.node, &self.member, lane, record::encode(call));
        match R::timeout(patience, answer).await {
            Ok(Ok(answer)) => record::decode(&answer).map_err(|error| network(&error)),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(network(&io::Error::new(io::ErrorKind::TimedOut, "the peer did not answer in time"))),
        }
    }

    /// One request, one answer.
    async fn append<R: Runtime>(
        &self,
        request: &AppendEntriesRequest<TypeConfig<R>>,
        patience: Duration,
    ) -> Result<AppendAnswer, RPCError<TypeConfig<R>>> {
        self.ask(self.lane, &Call::Append(Append::of(request)), patience).await
    }

    /// A pipe of requests and their answers.
    async fn pipe<R, S>(
        &self,
        mut input: S,
    ) -> Result<
        BoxStream<'static, Result<StreamAppendResult<TypeConfig<R>>, RPCError<TypeConfig<R>>>>,
        RPCError<TypeConfig<R>>,
    >
    where
        R: Runtime,
        S: Stream<Item = AppendEntriesRequest<TypeConfig<R>>> + OptionalSend + Unpin + 'static,
    {
        let opening = self.links.open(self.node, &self.member, self.lane);
        let pipe = match R::timeout(ANSWER_TIMEOUT, opening).await {
            Ok(pipe) => pipe.map_err(|error| unreachable(&error))?,
            Err(_) => return Err(unreachable(&io::Error::from(io::ErrorKind::TimedOut))),
        };
        let sent = Arc::new(AtomicU64::new(0));
        let (alive, dropped) = oneshot::channel::<()>();
        let sending = {
            let sent = sent.clone();
            async move {
                while let Some(request) = input.next().await {
                    sent.fetch_add(1, Ordering::Relaxed);
                    if pipe.sender.send(record::encode(&Piped::Append(Append::of(&request)))).await.is_err() {
                        return;
                    }
                }
            }
        };
        R::detach(async move {
            // The answers' reader is gone: nobody wants the rest.
            select(Box::pin(sending), dropped).await;
        });
        let answers = stream::unfold(Some((pipe.receiver, sent, 0, alive)), |state| async move {
            let (mut receiver, sent, answered, alive) = state?;
            let outcome = next_answer::<R>(&mut receiver, &sent, answered).await?;
            let goes_on = matches!(outcome, Ok(Ok(_))).then_some((receiver, sent, answered + 1, alive));
            Some((outcome, goes_on))
        });
        Ok(Box::pin(answers))
    }

    async fn send_snapshot(&self, vote: &Vote, data: SnapshotData) -> io::Result<Vote> {
        let mut pipe = self.links.open(self.node, &self.member, self.lane).await?;
        let image = match data {
            SnapshotData::Here(machine) => machine.image(),
            SnapshotData::Received(image) => *image,
        };
        let lost = |_| io::Error::from(io::ErrorKind::ConnectionReset);
        let send = |message: Piped| pipe.sender.send(record::encode(&message));
        // As the state is now, which may be newer than what raft asked to be sent.
        send(Piped::Snapshot(vote.form(), image.meta.encode())).await.map_err(lost)?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        for (space, key, value) in image.rows {
            bytes += key.len() + value.len();
            rows.push((space_number(space), key, value));
            if bytes >= ROWS_BYTES {
                send(Piped::Rows(std::mem::take(&mut rows))).await.map_err(lost)?;
                bytes = 0;
            }
        }
        send(Piped::Rows(rows)).await.map_err(lost)?;
        send(Piped::Complete).await.map_err(lost)?;
        let answer = pipe.receiver.recv().await.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset))?;
        Vote::of(record::decode::<VoteForm>(&answer)?)
    }
}

/// The next answer of a pipe; none if it ended in order.
async fn next_answer<R: Runtime>(
    receiver: &mut tokio::sync::mpsc::Receiver<Bytes>,
    sent: &AtomicU64,
    answered: u64,
) -> Option<Result<StreamAppendResult<TypeConfig<R>>, RPCError<TypeConfig<R>>>> {
    loop {
        let is_owed = sent.load(Ordering::Relaxed) > answered;
        match R::timeout(ANSWER_TIMEOUT, Box::pin(receiver.recv())).await {
            Ok(Some(answer)) => {
                let answer = record::decode::<AppendAnswer>(&answer).and_then(AppendAnswer::result::<R>);
                return Some(answer.map_err(|error| network(&error)));
            }
            Ok(None) if sent.load(Ordering::Relaxed) <= answered => return None,
            Ok(None) => return Some(Err(network(&io::Error::from(io::ErrorKind::ConnectionReset)))),
            Err(_) if is_owed => return Some(Err(network(&io::Error::from(io::ErrorKind::TimedOut)))),
            Err(_) => {}
        }
    }
}

impl<R: Runtime> RaftNetworkV2<TypeConfig<R>> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        self.append::<R>(&request, option.hard_ttl()).await?.response::<R>().map_err(|error| network(&error))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig<R>>, RPCError<TypeConfig<R>>>>,
            RPCError<TypeConfig<R>>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<R>>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if self.lane != Lane::Urgent {
                let answers: BoxStream<'s, _> = self.pipe::<R, S>(input).await?;
                return Ok(answers);
            }
            // A heartbeat: one request, whose answer ends the stream.
            let Some(request) = input.next().await else {
                let none: BoxStream<'s, _> = Box::pin(stream::empty());
                return Ok(none);
            };
            let answer = self.append::<R>(&request, option.hard_ttl()).await?;
            let result = answer.result::<R>().map_err(|error| network(&error));
            let one: BoxStream<'s, _> = Box::pin(stream::once(std::future::ready(result)));
            Ok(one)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let call = Call::Vote(VoteCall::of(&request));
        let answer: VoteAnswer = self.ask::<R, _>(Lane::Urgent, &call, option.hard_ttl()).await?;
        answer.response().map_err(|error| network(&error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let call = Call::PreVote(VoteCall::of(&request));
        let answer: VoteAnswer = self.ask::<R, _>(Lane::Urgent, &call, option.hard_ttl()).await?;
        answer.response().map_err(|error| network(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, u64, Member, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let sending = Box::pin(self.send_snapshot(&vote, snapshot.snapshot));
        match select(sending, Box::pin(cancel)).await {
            Either::Left((Ok(vote), _)) => Ok(SnapshotResponse::new(vote)),
            Either::Left((Err(error), _)) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let call = Call::Transfer(Transfer::of(&request));
        let answer: TransferAnswer = self.ask::<R, _>(Lane::Urgent, &call, option.hard_ttl()).await?;
        answer.result().map_err(|error| network(&error))
    }
}

/// Worth trying again at once.
fn network<R: Runtime>(error: &io::Error) -> RPCError<TypeConfig<R>> {
    RPCError::Network(NetworkError::new(error))
}

/// Worth waiting for.
fn unreachable<R: Runtime>(error: &io::Error) -> RPCError<TypeConfig<R>> {
    RPCError::Unreachable(Unreachable::new(error))
}
