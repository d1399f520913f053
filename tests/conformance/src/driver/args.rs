//! Reading arguments.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hither::{
    Compare, Consistency, Delete, Filter, Key, KeyRange, LeaseId, Projection, Put, Relation, Revision, TxnOp,
};
use serde_json::{Map, Value};

use super::{Failure, crash};

/// The arguments of a request.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Args<'a> {
    pub(crate) fn any(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Args<'a>>, Failure> {
        self.any(name).map(|value| value.as_object().map(Args).ok_or_else(|| wrong(name, "an object"))).transpose()
    }

    pub(crate) fn text_maybe(&self, name: &str) -> Result<Option<&'a str>, Failure> {
        self.any(name).map(|value| value.as_str().ok_or_else(|| wrong(name, "a string"))).transpose()
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str, Failure> {
        self.text_maybe(name)?.ok_or_else(|| crash(format!("{name} is missing")))
    }

    pub(crate) fn number_maybe(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.any(name).map(|value| value.as_u64().ok_or_else(|| wrong(name, "a number"))).transpose()
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64, Failure> {
        self.number_maybe(name)?.ok_or_else(|| crash(format!("{name} is missing")))
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Failure> {
        self.any(name).map_or(Ok(default), |value| value.as_bool().ok_or_else(|| wrong(name, "true or false")))
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<Duration>, Failure> {
        Ok(self.number_maybe(name)?.map(Duration::from_millis))
    }

    pub(crate) fn list(&self, name: &str) -> Result<Vec<Args<'a>>, Failure> {
        let Some(value) = self.any(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| wrong(name, "a list"))?;
        list.iter().map(|item| item.as_object().map(Args).ok_or_else(|| wrong(name, "a list of objects"))).collect()
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&'a str>, Failure> {
        let Some(value) = self.any(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| wrong(name, "a list"))?;
        list.iter().map(|item| item.as_str().ok_or_else(|| wrong(name, "a list of strings"))).collect()
    }

    pub(crate) fn lease(&self, name: &str) -> Result<Option<LeaseId>, Failure> {
        let read = |text: &str| text.parse().map_err(|_| wrong(name, "a lease"));
        self.text_maybe(name)?.map(read).transpose()
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Bytes, Failure> {
        match self.any(name) {
            Some(Value::String(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            Some(Value::Object(object)) => {
                let text = object.get("base64").and_then(Value::as_str).ok_or_else(|| wrong(name, "bytes"))?;
                Ok(STANDARD.decode(text).map_err(|_| wrong(name, "base64"))?.into())
            }
            _ => Err(wrong(name, "bytes")),
        }
    }

    pub(crate) fn range(&self) -> Result<KeyRange, Failure> {
        if let Some(key) = self.text_maybe("key")? {
            return Ok(KeyRange::One(Key::from(key)));
        }
        if let Some(prefix) = self.text_maybe("prefix")? {
            return Ok(KeyRange::prefix(prefix));
        }
        if let Some(from) = self.text_maybe("from")? {
            let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
            return Ok(KeyRange::Span(bytes(from), bytes(self.text("to")?)));
        }
        if self.flag("all", false)? { Ok(KeyRange::All) } else { Err(crash("a range is missing")) }
    }

    pub(crate) fn consistency(&self) -> Result<Consistency, Failure> {
        match self.any("consistency") {
            None => Ok(Consistency::Linearizable),
            Some(Value::String(text)) if text == "linearizable" => Ok(Consistency::Linearizable),
            Some(Value::Object(object)) => {
                let args = Args(object);
                match args.number_maybe("at_least")? {
                    Some(revision) => Ok(Consistency::AtLeast(Revision(revision))),
                    None => Ok(Consistency::Stale { max_age_ms: args.number("stale_ms")? }),
                }
            }
            Some(_) => Err(wrong("consistency", "a consistency")),
        }
    }

    pub(crate) fn filter(&self) -> Result<Option<Filter>, Failure> {
        let Some(args) = self.object("filter")? else { return Ok(None) };
        let default = Filter::default();
        Ok(Some(Filter {
            puts: args.flag("puts", default.puts)?,
            deletes: args.flag("deletes", default.deletes)?,
            liveness: args.flag("liveness", default.liveness)?,
        }))
    }

    /// A condition of a transaction.
    pub(crate) fn compare(&self) -> Result<Compare, Failure> {
        if let Some(range) = self.object("empty")? {
            return Ok(Compare::RangeEmpty(range.range()?));
        }
        let key = Key::from(self.text("key")?);
        if self.any("exists").is_some() {
            return Ok(if self.flag("exists", true)? { Compare::Exists(key) } else { Compare::Absent(key) });
        }
        if self.0.contains_key("lease") {
            return Ok(Compare::Lease(key, self.lease("lease")?));
        }
        let relation = match self.text("is")? {
            "==" => Relation::Equal,
            "!=" => Relation::NotEqual,
            "<" => Relation::Less,
            ">" => Relation::Greater,
            _ => return Err(wrong("is", "a relation")),
        };
        Ok(match self.text("on")? {
            "value" => Compare::Value(key, relation, self.bytes("to")?),
            "version" => Compare::Version(key, relation, hither::Version(self.number("to")?)),
            "create_revision" => Compare::CreateRevision(key, relation, Revision(self.number("to")?)),
            "mod_revision" => Compare::ModRevision(key, relation, Revision(self.number("to")?)),
            _ => return Err(wrong("on", "a field of an entry")),
        })
    }

    /// A step of a transaction.
    pub(crate) fn txn_op(&self) -> Result<TxnOp, Failure> {
        if let Some(get) = self.object("get")? {
            return Ok(TxnOp::Get(Key::from(get.text("key")?)));
        }
        if let Some(put) = self.object("put")? {
            return Ok(TxnOp::Put(Put {
                key: Key::from(put.text("key")?),
                value: put.bytes("value")?,
                lease: put.lease("lease")?,
                previous: put.flag("previous", false)?,
            }));
        }
        if let Some(delete) = self.object("delete")? {
            return Ok(TxnOp::Delete(Delete { range: delete.range()?, previous: delete.flag("previous", false)? }));
        }
        let list = self.object("list")?.ok_or_else(|| crash("a step is get, put, delete or list"))?;
        Ok(TxnOp::Range {
            range: list.range()?,
            limit: list.number_maybe("limit")?.unwrap_or(0),
            reverse: list.flag("reverse", false)?,
            projection: if list.flag("keys_only", false)? { Projection::KeysOnly } else { Projection::Entries },
        })
    }

    /// Waits for what may not come, for as long as `wait_ms` says: none if it did not.
    pub(crate) async fn wait<T>(&self, future: impl Future<Output = T>) -> Result<Option<T>, Failure> {
        match self.time("wait_ms")? {
            None => Ok(Some(future.await)),
            Some(time) => Ok(tokio::time::timeout(time, future).await.ok()),
        }
    }
}

fn wrong(name: &str, what: &str) -> Failure {
    crash(format!("{name} is not {what}"))
}
