//! Reading and writing keys.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hither_client_core::Error;
use hither_protocol::limits::VALUE_BYTES_MAX;
use hither_protocol::message::{
    Consistency, Delete, DeleteReply, Get, GetReply, Projection, Put, PutReply, Range, RangeReply, Stamp,
};
use hither_protocol::{Entry, ErrorCode, Key, KeyRange, LeaseId};

use crate::client::Client;
use crate::value::Value;

/// The future of a call.
pub(crate) type Calling<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

impl Client {
    /// Reads one key: its entry, or none if it does not exist.
    pub fn get(&self, key: impl Into<Key>) -> Gets {
        let get = Get { key: key.into(), consistency: Consistency::default() };
        Gets { client: self.clone(), get, timeout: None }
    }

    /// Writes one key.
    pub fn put(&self, key: impl Into<Key>, value: impl Into<Value>) -> Puts {
        let put = Put { key: key.into(), value: value.into().0, lease: None, previous: false };
        Puts { client: self.clone(), put, timeout: None }
    }

    /// Deletes one key. Deleting nothing succeeds and says 0.
    pub fn delete(&self, key: impl Into<Key>) -> Deletes {
        self.delete_range(KeyRange::One(key.into()))
    }

    /// Deletes every key of a range, in one revision.
    pub fn delete_range(&self, range: impl Into<KeyRange>) -> Deletes {
        Deletes { client: self.clone(), delete: Delete { range: range.into(), previous: false }, timeout: None }
    }

    /// Reads every key of a range, all at one revision, in the order of their keys.
    pub fn range(&self, range: impl Into<KeyRange>) -> Ranges {
        let range = Range {
            range: range.into(),
            limit: 0,
            reverse: false,
            projection: Projection::default(),
            consistency: Consistency::default(),
        };
        Ranges { client: self.clone(), range, timeout: None }
    }
}

/// A read of one key, to be awaited. Made by [`Client::get`].
#[must_use = "nothing is sent until it is awaited"]
#[derive(Clone, Debug)]
pub struct Gets {
    client: Client,
    get: Get,
    timeout: Option<Duration>,
}

impl Gets {
    /// Which state the read must see. Default: every write that was acknowledged before.
    pub const fn consistency(mut self, consistency: Consistency) -> Self {
        self.get.consistency = consistency;
        self
    }

    /// How long the call may take in all. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Reads, and says where the answer comes from.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, and those of every call.
    pub async fn stamped(self) -> Result<(Stamp, Option<Entry>), Error> {
        self.get.key.check()?;
        let (stamp, reply): (_, GetReply) = self.client.ask(self.get, self.timeout).await?;
        Ok((stamp, reply.entry))
    }
}

impl IntoFuture for Gets {
    type Output = Result<Option<Entry>, Error>;
    type IntoFuture = Calling<Option<Entry>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.stamped().await.map(|(_, entry)| entry) })
    }
}

/// A write of one key, to be awaited. Made by [`Client::put`].
#[must_use = "nothing is sent until it is awaited"]
#[derive(Clone, Debug)]
pub struct Puts {
    client: Client,
    put: Put,
    timeout: Option<Duration>,
}

impl Puts {
    /// The lease that the key dies with. Without one, a lease that the key had is detached.
    pub fn lease(mut self, lease: impl Into<Option<LeaseId>>) -> Self {
        self.put.lease = lease.into();
        self
    }

    /// Return the entry that it replaces.
    pub const fn previous(mut self) -> Self {
        self.put.previous = true;
        self
    }

    /// How long the call may take in all. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Writes, and says where the answer comes from.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `ValueTooLarge`, `LeaseNotFound`, `QuotaExceeded`, `NoSpace`, and those of every call.
    pub async fn stamped(self) -> Result<(Stamp, PutReply), Error> {
        self.put.key.check()?;
        check_value(&self.put.value)?;
        self.client.ask(self.put, self.timeout).await
    }
}

impl IntoFuture for Puts {
    type Output = Result<PutReply, Error>;
    type IntoFuture = Calling<PutReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.stamped().await.map(|(_, reply)| reply) })
    }
}

/// A deletion, to be awaited. Made by [`Client::delete`] and [`Client::delete_range`].
#[must_use = "nothing is sent until it is awaited"]
#[derive(Clone, Debug)]
pub struct Deletes {
    client: Client,
    delete: Delete,
    timeout: Option<Duration>,
}

impl Deletes {
    /// Return the entries that are deleted.
    pub const fn previous(mut self) -> Self {
        self.delete.previous = true;
        self
    }

    /// How long the call may take in all. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Deletes, and says where the answer comes from.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `InvalidRange`, and those of every call.
    pub async fn stamped(self) -> Result<(Stamp, DeleteReply), Error> {
        self.delete.range.check()?;
        self.client.ask(self.delete, self.timeout).await
    }
}

impl IntoFuture for Deletes {
    type Output = Result<DeleteReply, Error>;
    type IntoFuture = Calling<DeleteReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.stamped().await.map(|(_, reply)| reply) })
    }
}

/// A read of many keys, to be awaited. Made by [`Client::range`].
#[must_use = "nothing is sent until it is awaited"]
#[derive(Clone, Debug)]
pub struct Ranges {
    client: Client,
    range: Range,
    timeout: Option<Duration>,
}

impl Ranges {
    /// Most entries to return; 0 is no limit.
    pub const fn limit(mut self, limit: u64) -> Self {
        self.range.limit = limit;
        self
    }

    /// From the last key to the first.
    pub const fn reverse(mut self) -> Self {
        self.range.reverse = true;
        self
    }

    /// Leave the values out.
    pub const fn keys_only(mut self) -> Self {
        self.range.projection = Projection::KeysOnly;
        self
    }

    /// Which state the read must see. Default: every write that was acknowledged before.
    pub const fn consistency(mut self, consistency: Consistency) -> Self {
        self.range.consistency = consistency;
        self
    }

    /// How long the call may take in all. Default: the client's request timeout.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many keys there are, whatever the limit.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `InvalidRange`, and those of every call.
    pub async fn count(mut self) -> Result<u64, Error> {
        self.range.projection = Projection::CountOnly;
        self.stamped().await.map(|(_, reply)| reply.count)
    }

    /// Reads, and says where the answer comes from.
    ///
    /// # Errors
    /// `KeyEmpty`, `KeyTooLong`, `InvalidRange`, and those of every call.
    pub async fn stamped(self) -> Result<(Stamp, RangeReply), Error> {
        self.range.range.check()?;
        self.client.ask(self.range, self.timeout).await
    }
}

impl IntoFuture for Ranges {
    type Output = Result<RangeReply, Error>;
    type IntoFuture = Calling<RangeReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.stamped().await.map(|(_, reply)| reply) })
    }
}

pub(crate) fn check_value(value: &Bytes) -> Result<(), Error> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("the value has {} bytes, the limit is {VALUE_BYTES_MAX}", value.len());
    Err(Error::new(ErrorCode::ValueTooLarge, detail))
}
