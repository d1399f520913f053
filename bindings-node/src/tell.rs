//! What the core brings, as JavaScript takes it: flat tuples, from which the TypeScript makes objects of its classes.
//! An object made here would cost a look-up per property and have another shape each time.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use hither::{Entry, Error, Key, LeaseId};
use napi::Env;
use napi::bindgen_prelude::{BufferSlice, Null, ToNapiValue, Undefined, Unknown};

/// From here on a value is handed over as it is; below it, copying into JavaScript's heap is cheaper.
pub(crate) const EXTERNAL_MIN: usize = 4 << 10;

/// A value on its way to JavaScript, which may write to it: so it must be nobody else's.
#[derive(Debug)]
pub(crate) enum Value {
    Small(Bytes),
    Large(Vec<u8>),
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        if bytes.len() < EXTERNAL_MIN {
            return Self::Small(bytes);
        }
        let mut owned = Vec::from(bytes);
        if owned.capacity() / 2 > owned.len() {
            // It was a slice of a large frame.
            owned.shrink_to_fit();
        }
        Self::Large(owned)
    }
}

impl Value {
    pub(crate) fn tell(self, env: &Env) -> napi::Result<Unknown<'_>> {
        match self {
            Self::Small(bytes) => BufferSlice::copy_from(env, bytes)?.into_unknown(env),
            Self::Large(bytes) => BufferSlice::from_data(env, bytes)?.into_unknown(env),
        }
    }
}

/// An entry on its way.
#[derive(Debug)]
pub(crate) struct Told {
    entry: Entry,
    value: Value,
}

impl From<Entry> for Told {
    fn from(mut entry: Entry) -> Self {
        let value = std::mem::take(&mut entry.value).into();
        Self { entry, value }
    }
}

impl Told {
    /// `[key, value, createRevision, modRevision, version, lease]`
    pub(crate) fn tell(self, env: &Env) -> napi::Result<Unknown<'_>> {
        let Self { entry, value } = self;
        let (created, modified, version) = (entry.create_revision.0, entry.mod_revision.0, entry.version.0);
        (key(env, &entry.key)?, value.tell(env)?, created, modified, version, lease(entry.lease)).into_unknown(env)
    }
}

/// An entry or null.
pub(crate) fn maybe(env: &Env, entry: Option<Told>) -> napi::Result<Unknown<'_>> {
    match entry {
        Some(entry) => entry.tell(env),
        None => Null.into_unknown(env),
    }
}

/// A list of entries.
pub(crate) fn entries(env: &Env, entries: Vec<Told>) -> napi::Result<Unknown<'_>> {
    let mut list = env.create_array(0)?;
    for entry in entries {
        list.insert(entry.tell(env)?)?;
    }
    list.into_unknown(env)
}

/// A key: a string, or its bytes if they are not UTF-8.
pub(crate) fn key<'env>(env: &'env Env, key: &Key) -> napi::Result<Unknown<'env>> {
    match std::str::from_utf8(key.as_bytes()) {
        Ok(text) => text.into_unknown(env),
        Err(_) => BufferSlice::copy_from(env, key.as_bytes())?.into_unknown(env),
    }
}

/// The value of a call that brings nothing.
pub(crate) const NOTHING: Undefined = ();

/// A count, as JavaScript counts.
pub(crate) fn count(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "above 2^53 it is off by a few: nobody has that many keys")]
    let count = count as f64;
    count
}

/// A time, as JavaScript counts it.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A lease, as people and tools write it.
pub(crate) fn lease(lease: Option<LeaseId>) -> Option<String> {
    lease.map(|lease| lease.to_string())
}

/// `[number, applied, retry, detail, revision, leader, causes, noInstances]`
pub(crate) fn error<'env>(env: &'env Env, error: &Error) -> napi::Result<Unknown<'env>> {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string);
    let detail = if error.detail().is_empty() { error.code().meaning() } else { error.detail() };
    let told = (
        u32::from(error.code().number()),
        error.applied().as_str(),
        crate::retry(error.retry()),
        detail,
        error.revision().map(|revision| revision.0),
        error.leader().map(|leader| leader.address.clone()),
        causes.collect::<Vec<String>>(),
        error.no_instances().map(|found| {
            let age = found.age.map(milliseconds);
            (count(found.known as u64), count(found.suspect as u64), age)
        }),
    );
    told.into_unknown(env)
}
