//! What nodes say to each other, in forms of our own.

use std::io;

use bytes::Bytes;
use hither_state::device::Space;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::Runtime;
use super::record::{LogIdForm, Record, VoteForm, decode_entry, encode_entry, invalid};
use super::types::{LogId, TypeConfig, Vote};

/// A message of [`Links::call`](super::Links::call). Append-only.
#[derive(Serialize, Deserialize)]
pub(crate) enum Call {
    Vote(VoteCall),
    PreVote(VoteCall),
    Append(Append),
    Transfer(Transfer),
}

/// A message of a pipe. Append-only.
#[derive(Serialize, Deserialize)]
pub(crate) enum Piped {
    Append(Append),
    /// A state begins: for which vote, and its meta row.
    Snapshot(VoteForm, Bytes),
    /// Some of its rows, in order.
    Rows(Vec<Row>),
    /// It is complete.
    Complete,
}

/// Space, key and value.
pub(crate) type Row = (u8, Bytes, Bytes);

#[derive(Serialize, Deserialize)]
pub(crate) struct VoteCall {
    vote: VoteForm,
    last: Option<LogIdForm>,
    is_transfer: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct VoteAnswer {
    vote: VoteForm,
    is_granted: bool,
    last: Option<LogIdForm>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Append {
    vote: VoteForm,
    previous: Option<LogIdForm>,
    committed: Option<LogIdForm>,
    /// Indexes and records.
    entries: Vec<(u64, Bytes)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum AppendAnswer {
    /// Everything up to here is durable.
    Matching(Option<LogIdForm>),
    Conflict(LogIdForm),
    HigherVote(VoteForm),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Transfer {
    from: VoteForm,
    to: u64,
    last: Option<LogIdForm>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum TransferAnswer {
    Accepted,
    VoteChanged { expected: VoteForm, actual: VoteForm },
    NotFlushed { expected: Option<LogIdForm>, actual: Option<LogIdForm> },
}

impl VoteCall {
    pub(crate) fn of<R: Runtime>(request: &VoteRequest<TypeConfig<R>>) -> Self {
        let VoteRequest { vote, last_log_id, leadership_transfer } = request;
        Self { vote: vote.form(), last: last_log_id.form(), is_transfer: *leadership_transfer }
    }

    pub(crate) fn is_transfer(&self) -> bool {
        self.is_transfer
    }

    pub(crate) fn request<R: Runtime>(self) -> io::Result<VoteRequest<TypeConfig<R>>> {
        let mut request = VoteRequest::new(Vote::of(self.vote)?, Option::of(self.last)?);
        request.leadership_transfer = self.is_transfer;
        Ok(request)
    }
}

impl VoteAnswer {
    pub(crate) fn of<R: Runtime>(response: &VoteResponse<TypeConfig<R>>) -> Self {
        let VoteResponse { vote, vote_granted, last_log_id } = response;
        Self { vote: vote.form(), is_granted: *vote_granted, last: last_log_id.form() }
    }

    pub(crate) fn response<R: Runtime>(self) -> io::Result<VoteResponse<TypeConfig<R>>> {
        Ok(VoteResponse::new(Vote::of(self.vote)?, Option::of(self.last)?, self.is_granted))
    }
}

impl Append {
    pub(crate) fn of<R: Runtime>(request: &AppendEntriesRequest<TypeConfig<R>>) -> Self {
        Self {
            vote: request.vote.form(),
            previous: request.prev_log_id.form(),
            committed: request.leader_commit.form(),
            entries: request.entries.iter().map(|entry| (entry.log_id.index, encode_entry(entry))).collect(),
        }
    }

    pub(crate) fn request<R: Runtime>(self) -> io::Result<AppendEntriesRequest<TypeConfig<R>>> {
        let entries = self.entries.into_iter().map(|(index, record)| decode_entry(index, record));
        Ok(AppendEntriesRequest {
            vote: Vote::of(self.vote)?,
            prev_log_id: Option::of(self.previous)?,
            entries: entries.collect::<io::Result<_>>()?,
            leader_commit: Option::of(self.committed)?,
        })
    }
}

impl AppendAnswer {
    pub(crate) fn of<R: Runtime>(result: &StreamAppendResult<TypeConfig<R>>) -> Self {
        match result {
            Ok(matching) => Self::Matching(matching.form()),
            Err(StreamAppendError::Conflict(at)) => Self::Conflict(at.form()),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(vote.form()),
        }
    }

    /// The answer to one request, which does not say how far it went: to the end.
    pub(crate) fn of_one<R: Runtime>(
        response: AppendEntriesResponse<TypeConfig<R>>,
        previous: Option<LogId>,
        last: Option<LogId>,
    ) -> Self {
        Self::of::<R>(&response.into_stream_result(previous, last))
    }

    pub(crate) fn result<R: Runtime>(self) -> io::Result<StreamAppendResult<TypeConfig<R>>> {
        Ok(match self {
            Self::Matching(matching) => Ok(Option::of(matching)?),
            Self::Conflict(at) => Err(StreamAppendError::Conflict(LogId::of(at)?)),
            Self::HigherVote(vote) => Err(StreamAppendError::HigherVote(Vote::of(vote)?)),
        })
    }

    pub(crate) fn response<R: Runtime>(self) -> io::Result<AppendEntriesResponse<TypeConfig<R>>> {
        Ok(match self {
            Self::Matching(matching) => AppendEntriesResponse::PartialSuccess(Option::of(matching)?),
            Self::Conflict(_) => AppendEntriesResponse::Conflict,
            Self::HigherVote(vote) => AppendEntriesResponse::HigherVote(Vote::of(vote)?),
        })
    }
}

impl Transfer {
    pub(crate) fn of<R: Runtime>(request: &TransferLeaderRequest<TypeConfig<R>>) -> Self {
        let last = request.last_log_id().copied();
        Self { from: request.from_leader().form(), to: *request.to_node_id(), last: last.form() }
    }

    pub(crate) fn request<R: Runtime>(self) -> io::Result<TransferLeaderRequest<TypeConfig<R>>> {
        Ok(TransferLeaderRequest::new(Vote::of(self.from)?, self.to, Option::of(self.last)?))
    }
}

impl TransferAnswer {
    pub(crate) fn of<R: Runtime>(result: &Result<(), TransferLeaderError<TypeConfig<R>>>) -> Self {
        match result {
            Ok(()) => Self::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged { expected: expected.form(), actual: actual.form() }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Self::NotFlushed { expected: expected.form(), actual: actual.form() }
            }
        }
    }

    pub(crate) fn result<R: Runtime>(self) -> io::Result<Result<(), TransferLeaderError<TypeConfig<R>>>> {
        Ok(match self {
            Self::Accepted => Ok(()),
            Self::VoteChanged { expected, actual } => {
                Err(TransferLeaderError::VoteChanged { expected: Vote::of(expected)?, actual: Vote::of(actual)? })
            }
            Self::NotFlushed { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed { expected: Option::of(expected)?, actual: Option::of(actual)? })
            }
        })
    }
}

/// The number of a space in a message; their order is part of the format.
pub(crate) fn space_number(space: Space) -> u8 {
    match space {
        Space::Kv => 0,
        Space::Lease => 1,
        Space::Session => 2,
        Space::History => 3,
    }
}

/// # Errors
/// `InvalidData`.
pub(crate) fn space_of(number: u8) -> io::Result<Space> {
    let space = Space::ALL.into_iter().find(|&space| space_number(space) == number);
    space.ok_or_else(|| invalid(format!("a state with an unknown table {number}")))
}
