//! Transactions.

use hither::{Compare, Delete, Error, KeyRange, Relation, Revision, TxnOp, TxnReply, TxnResult, Version};
use napi::Env;
use napi::bindgen_prelude::{BigInt, ToNapiValue, Unknown};
use napi_derive::napi;

use crate::client::NativeClient;
use crate::hear::{self, Octets, Range, invalid};
use crate::kv;
use crate::port::later;
use crate::tell::{self, Told};

/// A condition. `on` says which of the others it has.
#[napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "TypeScript's `Condition` has the words")]
pub struct Condition {
    pub on: String,
    pub key: Option<Octets>,
    pub relation: Option<String>,
    pub number: Option<BigInt>,
    pub value: Option<Octets>,
    pub lease: Option<String>,
    pub range: Option<Range>,
}

impl TryFrom<Condition> for Compare {
    type Error = Error;

    fn try_from(condition: Condition) -> Result<Self, Error> {
        let Condition { on, key, relation, number, value, lease, range } = condition;
        if let ("rangeEmpty", Some(range)) = (on.as_str(), range) {
            return Ok(Self::RangeEmpty(range.try_into()?));
        }
        let key = key.ok_or_else(|| invalid("a condition names its key"))?.into();
        let relation = match relation.as_deref() {
            Some("notEqual") => Relation::NotEqual,
            Some("less") => Relation::Less,
            Some("greater") => Relation::Greater,
            _ => Relation::Equal,
        };
        let number = || number.as_ref().map_or_else(|| Err(invalid("a condition names its number")), hear::number);
        Ok(match (on.as_str(), value) {
            ("exists", _) => Self::Exists(key),
            ("absent", _) => Self::Absent(key),
            ("lease", _) => Self::Lease(key, hear::lease(lease)?),
            ("version", _) => Self::Version(key, relation, Version(number()?)),
            ("createRevision", _) => Self::CreateRevision(key, relation, Revision(number()?)),
            ("modRevision", _) => Self::ModRevision(key, relation, Revision(number()?)),
            ("value", Some(value)) => Self::Value(key, relation, value.0),
            (on, _) => return Err(invalid(format!("there is no condition on {on}"))),
        })
    }
}

/// A step. `op` says which of the others it has.
#[napi(object, object_to_js = false)]
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "TypeScript's `Step` has the words")]
pub struct Step {
    pub op: String,
    pub key: Option<Octets>,
    pub value: Option<Octets>,
    pub lease: Option<String>,
    pub previous: bool,
    pub range: Option<Range>,
    pub limit: f64,
    pub reverse: bool,
    pub keys_only: bool,
}

impl TryFrom<Step> for TxnOp {
    type Error = Error;

    fn try_from(step: Step) -> Result<Self, Error> {
        let Step { op, key, value, lease, previous, range, limit, reverse, keys_only } = step;
        let range = range.map(KeyRange::try_from).transpose()?;
        Ok(match (op.as_str(), key, value, range) {
            ("get", Some(key), ..) => Self::Get(key.into()),
            ("put", Some(key), Some(value), _) => Self::Put(kv::put(key, value, lease, previous)?),
            ("delete", .., Some(range)) => Self::Delete(Delete { range, previous }),
            ("list", .., Some(range)) => {
                let projection = if keys_only { hither::Projection::KeysOnly } else { hither::Projection::Entries };
                Self::Range { range, limit: hear::whole(limit), reverse, projection }
            }
            (op, ..) => return Err(invalid(format!("there is no step {op} of these fields"))),
        })
    }
}

#[napi]
impl NativeClient {
    /// Runs a transaction: `[revision, succeeded, forgotten, results]`.
    #[napi(catch_unwind)]
    pub fn txn(&self, call: u32, when: Vec<Condition>, then: Vec<Step>, otherwise: Vec<Step>, timeout: Option<f64>) {
        let client = self.client.clone();
        self.queue.run(call, async move {
            let mut txn = client.txn();
            for condition in when {
                txn = txn.when(condition.try_into()?);
            }
            for step in then {
                txn = txn.then(step.try_into()?);
            }
            for step in otherwise {
                txn = txn.or_else(step.try_into()?);
            }
            if let Some(timeout) = timeout {
                txn = txn.timeout(hear::duration(timeout));
            }
            let TxnReply { revision, succeeded, results, results_forgotten } = txn.await?;
            let results: Vec<ToldResult> = results.into_iter().map(ToldResult::from).collect();
            Ok(later(move |env| {
                let mut list = env.create_array(0)?;
                for result in results {
                    list.insert(result.tell(env)?)?;
                }
                (revision.0, succeeded, results_forgotten, list).into_unknown(env)
            }))
        });
    }
}

/// `["get", entry]`, `["list", count, more, entries]`, `["put", revision, previous]` or
/// `["delete", revision, deleted, previous]`.
#[derive(Debug)]
enum ToldResult {
    Get(Option<Told>),
    List(u64, bool, Vec<Told>),
    Put(u64, Option<Told>),
    Delete(u64, u64, Vec<Told>),
}

impl From<TxnResult> for ToldResult {
    fn from(result: TxnResult) -> Self {
        let all = |entries: Vec<hither::Entry>| entries.into_iter().map(Told::from).collect();
        match result {
            TxnResult::Get(reply) => Self::Get(reply.entry.map(Told::from)),
            TxnResult::Range(reply) => Self::List(reply.count, reply.more, all(reply.entries)),
            TxnResult::Put(reply) => Self::Put(reply.revision.0, reply.previous.map(Told::from)),
            TxnResult::Delete(reply) => Self::Delete(reply.revision.0, reply.deleted, all(reply.previous)),
        }
    }
}

impl ToldResult {
    fn tell(self, env: &Env) -> napi::Result<Unknown<'_>> {
        match self {
            Self::Get(entry) => ("get", tell::maybe(env, entry)?).into_unknown(env),
            Self::List(count, more, entries) => {
                ("list", tell::count(count), more, tell::entries(env, entries)?).into_unknown(env)
            }
            Self::Put(revision, previous) => ("put", revision, tell::maybe(env, previous)?).into_unknown(env),
            Self::Delete(revision, deleted, previous) => {
                ("delete", revision, tell::count(deleted), tell::entries(env, previous)?).into_unknown(env)
            }
        }
    }
}
