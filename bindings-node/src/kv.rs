//! Reading and writing keys.

use hither::{KeyRange, Put};
use napi::bindgen_prelude::{BigInt, Either, ToNapiValue};
use napi_derive::napi;

use crate::client::NativeClient;
use crate::hear::{self, Octets, Range};
use crate::port::{later, value};
use crate::tell::{self, Told};

#[napi]
impl NativeClient {
    /// Reads a key: an entry or null.
    #[napi(catch_unwind)]
    pub fn get(&self, call: u32, key: Octets, consistency: Option<Either<BigInt, f64>>, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let mut get = client.get(key).consistency(hear::consistency(consistency)?);
            if let Some(timeout) = timeout {
                get = get.timeout(hear::duration(timeout));
            }
            let entry = get.await?.map(Told::from);
            Ok(later(move |env| tell::maybe(env, entry)))
        });
    }

    /// Writes a key: `[revision, previous]`.
    #[napi(catch_unwind)]
    pub fn put(
        &self,
        call: u32,
        key: Octets,
        value: Octets,
        lease: Option<String>,
        previous: bool,
        timeout: Option<f64>,
    ) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let mut put = client.put(key, value.0).lease(hear::lease(lease)?);
            if previous {
                put = put.previous();
            }
            if let Some(timeout) = timeout {
                put = put.timeout(hear::duration(timeout));
            }
            let reply = put.await?;
            let (revision, before) = (reply.revision.0, reply.previous.map(Told::from));
            Ok(later(move |env| (revision, tell::maybe(env, before)?).into_unknown(env)))
        });
    }

    /// Deletes keys: `[revision, deleted, previous]`.
    #[napi(catch_unwind)]
    pub fn delete(&self, call: u32, range: Range, previous: bool, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let mut delete = client.delete_range(KeyRange::try_from(range)?);
            if previous {
                delete = delete.previous();
            }
            if let Some(timeout) = timeout {
                delete = delete.timeout(hear::duration(timeout));
            }
            let reply = delete.await?;
            let (revision, deleted) = (reply.revision.0, tell::count(reply.deleted));
            let before: Vec<Told> = reply.previous.into_iter().map(Told::from).collect();
            Ok(later(move |env| (revision, deleted, tell::entries(env, before)?).into_unknown(env)))
        });
    }

    /// Reads keys: `[revision, count, more, entries]`. `what`: `entries`, `keys` or `count`.
    #[allow(clippy::too_many_arguments, reason = "positions are cheaper to read than an object's names")]
    #[napi(catch_unwind)]
    pub fn list(
        &self,
        call: u32,
        range: Range,
        what: String,
        limit: f64,
        reverse: bool,
        consistency: Option<Either<BigInt, f64>>,
        timeout: Option<f64>,
    ) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let mut list = client.range(KeyRange::try_from(range)?).consistency(hear::consistency(consistency)?);
            list = list.limit(hear::whole(limit));
            if reverse {
                list = list.reverse();
            }
            if what != "entries" {
                list = list.keys_only();
            }
            if let Some(timeout) = timeout {
                list = list.timeout(hear::duration(timeout));
            }
            if what == "count" {
                return list.count().await.map(|count| value(tell::count(count)));
            }
            let (stamp, reply) = list.stamped().await?;
            let (revision, count, more) = (stamp.revision.0, tell::count(reply.count), reply.more);
            let entries: Vec<Told> = reply.entries.into_iter().map(Told::from).collect();
            Ok(later(move |env| (revision, count, more, tell::entries(env, entries)?).into_unknown(env)))
        });
    }
}

/// A write as a step of a transaction.
pub(crate) fn put(key: Octets, value: Octets, lease: Option<String>, previous: bool) -> Result<Put, hither::Error> {
    Ok(Put { key: key.into(), value: value.0, lease: hear::lease(lease)?, previous })
}
