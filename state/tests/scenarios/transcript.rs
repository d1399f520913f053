//! What came of a command, as text.

use std::fmt::Write as _;

use hither_protocol::message::{DeleteReply, PutReply, Reply, TxnResult};
use hither_protocol::{Entry, Refusal};
use hither_state::{Applied, Change};

pub(crate) fn applied(applied: &Applied) -> String {
    let mut text = match &applied.outcome {
        Ok(answer) => reply(answer),
        Err(refused) => refusal(refused),
    };
    for change in &applied.delta.changes {
        writeln!(text, "  {}", self::change(change)).unwrap();
    }
    text
}

pub(crate) fn refusal(refusal: &Refusal) -> String {
    format!("{}, applied {}: {}\n", refusal.code, refusal.applied.as_str(), refusal.detail)
}

pub(crate) fn entry(entry: &Entry) -> String {
    let Entry { key, value, create_revision, mod_revision, version, lease } = entry;
    let lease = lease.map(|lease| format!(" lease {lease}")).unwrap_or_default();
    let value = match value.len() {
        0..=40 => format!("\"{}\"", value.escape_ascii()),
        bytes => format!("{bytes} bytes"),
    };
    let mut key = key.to_string();
    if key.len() > 40 {
        key = format!("<{} bytes>", key.len());
    }
    format!("{key} = {value} ({create_revision} {mod_revision} v{version}{lease})")
}

fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Put(put) => format!("put: {}\n", self::put(put)),
        Reply::Delete(delete) => format!("delete: {}\n", self::delete(delete)),
        Reply::Txn(txn) => {
            let ran = if txn.succeeded { "then" } else { "otherwise" };
            let forgotten = if txn.results_forgotten { ", results forgotten" } else { "" };
            let mut text = format!("txn: {ran} at {}{forgotten}\n", txn.revision);
            for result in &txn.results {
                match result {
                    TxnResult::Get(get) => {
                        writeln!(text, "- {}", get.entry.as_ref().map_or_else(|| "nothing".to_owned(), entry)).unwrap();
                    }
                    TxnResult::Range(range) => {
                        writeln!(text, "- {} keys, more {}", range.count, range.more).unwrap();
                        range.entries.iter().for_each(|found| writeln!(text, "  - {}", entry(found)).unwrap());
                    }
                    TxnResult::Put(put) => writeln!(text, "- put: {}", self::put(put)).unwrap(),
                    TxnResult::Delete(delete) => writeln!(text, "- delete: {}", self::delete(delete)).unwrap(),
                }
            }
            text
        }
        Reply::LeaseGrant(grant) => {
            format!("lease {} for {} ms, epoch {}\n", grant.lease, grant.ttl_ms, grant.epoch)
        }
        Reply::LeaseRevoke(revoke) => format!("{} deleted at {}\n", revoke.deleted, revoke.revision),
        Reply::SessionOpen(open) => format!("session {} for {} ms, epoch {}\n", open.session, open.ttl_ms, open.epoch),
        Reply::SessionClose(close) => format!("{} deleted at {}\n", close.deleted, close.revision),
        other => format!("{other:?}\n"),
    }
}

fn put(put: &PutReply) -> String {
    let previous = put.previous.as_ref().map(|previous| format!(", was {}", entry(previous))).unwrap_or_default();
    format!("at {}{previous}", put.revision)
}

fn delete(delete: &DeleteReply) -> String {
    let previous: String = delete.previous.iter().map(|previous| format!(", was {}", entry(previous))).collect();
    format!("{} at {}{previous}", delete.deleted, delete.revision)
}

fn change(change: &Change) -> String {
    match change {
        Change::Put { namespace, entry, previous } => {
            let previous = previous.as_ref().map(|was| format!(", was {}", self::entry(was))).unwrap_or_default();
            format!("[{namespace}] put {}{previous}", self::entry(entry))
        }
        Change::Delete { namespace, previous } => format!("[{namespace}] delete {}", entry(previous)),
        Change::Lease { lease, record: Some(record) } => {
            format!("lease {lease} {}, epoch {}", record.state.as_str(), record.epoch)
        }
        Change::Lease { lease, record: None } => format!("lease {lease} gone"),
        Change::Liveness { lease, state, namespace, keys } => {
            format!("[{namespace}] lease {lease} {} for {keys:?}", state.as_str())
        }
        Change::Session { session, record: Some(record) } => format!("session {session} of {}", record.principal),
        Change::Session { session, record: None } => format!("session {session} gone"),
        Change::Outcome { session, sequence, outcome } => {
            format!("session {session} remembers {sequence} in {} bytes", outcome.len())
        }
        Change::Acknowledged { session, up_to } => format!("session {session} acknowledged {up_to}"),
        Change::Floor { revision } => format!("floor {revision}"),
        Change::Lineage { lineage } => format!("lineage {} {}", lineage.cluster, lineage.incarnation),
        Change::Limits { limits } => format!("limits {} bytes, {} leases", limits.state_bytes_max, limits.leases_max),
    }
}
