//! Results as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hither::{
    Entry, Error, Event, Instance, Key, Metrics, NoInstances, Previous, RangeReply, TxnReply, TxnResult, Update,
};
use serde_json::{Value, json};

pub(crate) fn error(error: &Error) -> Value {
    json!({
        "code": error.code().name(),
        "number": error.code().number(),
        "retryable": error.is_retryable(),
        "applied": error.applied().as_str(),
        "detail": error.detail(),
        "revision": error.revision().map(|revision| revision.0),
        "extra": error.no_instances().map(no_instances),
    })
}

fn no_instances(none: &NoInstances) -> Value {
    let age_ms = none.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    json!({ "known": none.known, "suspect": none.suspect, "age_ms": age_ms })
}

pub(crate) fn instance(instance: &Instance) -> Value {
    // The record leaves out what is empty; a scenario may ask for it.
    let empty = json!({ "version": "", "tags": [], "metadata": {}, "zone": "", "region": "", "started_at": "" });
    let record = serde_json::to_value(instance).unwrap_or_default();
    let mut fields = empty.as_object().cloned().unwrap_or_default();
    fields.extend(record.as_object().cloned().unwrap_or_default());
    fields.insert("epoch".into(), instance.epoch.0.into());
    fields.insert("url".into(), instance.url().into());
    fields.insert("urls".into(), json!(instance.urls()));
    Value::Object(fields)
}

pub(crate) fn bytes(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// Keys of scenarios are text; shown as itself, where `Display` escapes what is not ASCII.
pub(crate) fn text(key: &Key) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}

pub(crate) fn entry(entry: &Entry) -> Value {
    json!({
        "key": text(&entry.key),
        "value": bytes(&entry.value),
        "create_revision": entry.create_revision.0,
        "mod_revision": entry.mod_revision.0,
        "version": entry.version.0,
        "lease": entry.lease.map(|lease| lease.to_string()),
    })
}

pub(crate) fn entry_maybe(maybe: Option<&Entry>) -> Value {
    maybe.map_or(Value::Null, entry)
}

pub(crate) fn range(reply: &RangeReply) -> Value {
    let entries: Vec<Value> = reply.entries.iter().map(entry).collect();
    json!({ "entries": entries, "count": reply.count, "more": reply.more })
}

pub(crate) fn txn(reply: &TxnReply) -> Value {
    let result = |result: &TxnResult| match result {
        TxnResult::Get(get) => json!({ "entry": entry_maybe(get.entry.as_ref()) }),
        TxnResult::Range(list) => range(list),
        TxnResult::Put(put) => {
            json!({ "revision": put.revision.0, "previous": entry_maybe(put.previous.as_ref()) })
        }
        TxnResult::Delete(delete) => {
            let previous: Vec<Value> = delete.previous.iter().map(entry).collect();
            json!({ "revision": delete.revision.0, "deleted": delete.deleted, "previous": previous })
        }
    };
    let results: Vec<Value> = reply.results.iter().map(result).collect();
    json!({ "succeeded": reply.succeeded, "revision": reply.revision.0, "results": results })
}

pub(crate) fn update(update: &Update) -> Value {
    let events: Vec<Value> = update.events.iter().map(event).collect();
    json!({
        "revision": update.revision.0,
        "kind": update.kind.as_str(),
        "events": events,
        "folded": update.folded,
    })
}

fn event(event: &Event) -> Value {
    let with = |mut shown: Value, kind: &str, before: &Previous| {
        shown["type"] = kind.into();
        shown["revision"] = event.revision().0.into();
        match before {
            Previous::NotAsked => {}
            Previous::None => shown["previous"] = Value::Null,
            Previous::Entry(before) => shown["previous"] = entry(before),
            Previous::Forgotten => shown["previous"] = "forgotten".into(),
        }
        shown
    };
    match event {
        Event::Put { entry: now, previous } => with(entry(now), "put", previous),
        Event::Delete { key, previous, .. } => with(json!({ "key": text(key) }), "delete", previous),
        Event::Liveness { lease, state, .. } => {
            let shown = json!({ "lease": lease.to_string(), "state": state.as_str() });
            with(shown, "liveness", &Previous::NotAsked)
        }
    }
}

pub(crate) fn metrics(metrics: &Metrics) -> Value {
    json!({
        "connects": metrics.connects,
        "reconnects": metrics.reconnects,
        "dial_failures": metrics.dial_failures,
        "sessions_lost": metrics.sessions_lost,
        "requests": metrics.requests,
        "retries": metrics.retries,
        "timeouts": metrics.timeouts,
        "watch_resumes": metrics.watch_resumes,
        "watch_gaps": metrics.watch_gaps,
        "watch_duplicates": metrics.watch_duplicates,
        "watch_resets": metrics.watch_resets,
        "events": metrics.events,
        "in_flight": metrics.in_flight,
        "watches": metrics.watches,
        "watch_streams": metrics.watch_streams,
    })
}
