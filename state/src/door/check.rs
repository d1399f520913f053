//! What a request may contain. Each refusal says what is wrong, by how much, and where.

use bytes::Bytes;
use hither_protocol::limits::{
    LEASES_CHECKED_MAX, SESSION_WINDOW, TTL_MS_MAX, TTL_MS_MIN, TXN_OPS_MAX, VALUE_BYTES_MAX,
};
use hither_protocol::message::{Compare, LeaseCheck, LeaseGrant, LeaseKind, Put, RetryToken, Txn, TxnOp};
use hither_protocol::{ErrorCode, Key, KeyRange, Refusal};

/// Checks a range that a watch asks for, by the same rules as any other.
///
/// # Errors
/// `KeyEmpty`, `KeyTooLong`, `InvalidRange`.
pub fn check_range(range: &KeyRange) -> Result<(), Refusal> {
    range.check()
}

pub(super) fn clamp_ttl(ttl_ms: u64) -> u64 {
    ttl_ms.clamp(TTL_MS_MIN, TTL_MS_MAX)
}

pub(super) fn check_token(token: &RetryToken) -> Result<(), Refusal> {
    let invalid = |detail: String| Err(Refusal::new(ErrorCode::InvalidArgument, detail));
    let RetryToken { sequence, acknowledged, .. } = token;
    if sequence.0 == 0 {
        return invalid("sequence numbers begin at 1".to_owned());
    }
    if acknowledged >= sequence {
        return invalid(format!("mutation {sequence} of the session says that {acknowledged} was already answered"));
    }
    if sequence.0 - acknowledged.0 > SESSION_WINDOW {
        return Err(Refusal::new(
            ErrorCode::TooManyInFlight,
            format!(
                "mutation {sequence} while {acknowledged} is the last that was answered: at most {SESSION_WINDOW} may wait"
            ),
        ));
    }
    Ok(())
}

pub(super) fn check_put(put: &Put) -> Result<(), Refusal> {
    put.key.check()?;
    check_value(&put.value)
}

fn check_value(value: &Bytes) -> Result<(), Refusal> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::ValueTooLarge,
        format!("the value has {} bytes, the limit is {VALUE_BYTES_MAX}", value.len()),
    ))
}

pub(super) fn check_grant(grant: &LeaseGrant, has_session: bool) -> Result<(), Refusal> {
    match grant.kind {
        LeaseKind::Ttl => Ok(()),
        LeaseKind::Bound if has_session => Ok(()),
        LeaseKind::Bound => Err(Refusal::new(
            ErrorCode::InvalidArgument,
            "a bound lease lives as long as a session: send the grant with the retry token of an open one",
        )),
    }
}

pub(super) fn check_leases(asked: &LeaseCheck) -> Result<(), Refusal> {
    let count = asked.leases.len();
    if count <= LEASES_CHECKED_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::InvalidArgument,
        format!("the question is about {count} leases, the limit is {LEASES_CHECKED_MAX}: ask several times"),
    ))
}

pub(super) fn check_txn(txn: &Txn) -> Result<(), Refusal> {
    for (what, count) in [
        ("comparisons", txn.when.len()),
        ("operations in `then`", txn.then.len()),
        ("operations in `otherwise`", txn.otherwise.len()),
    ] {
        if count > TXN_OPS_MAX {
            return Err(Refusal::new(
                ErrorCode::TooManyOps,
                format!("the transaction has {count} {what}, the limit is {TXN_OPS_MAX}"),
            ));
        }
    }
    txn.when.iter().try_for_each(check_compare)?;
    check_branch(&txn.then)?;
    check_branch(&txn.otherwise)
}

fn check_compare(compare: &Compare) -> Result<(), Refusal> {
    match compare {
        Compare::Value(key, _, value) => {
            key.check()?;
            check_value(value)
        }
        Compare::Version(key, ..)
        | Compare::CreateRevision(key, ..)
        | Compare::ModRevision(key, ..)
        | Compare::Exists(key)
        | Compare::Absent(key)
        | Compare::Lease(key, _) => key.check(),
        Compare::RangeEmpty(range) => range.check(),
    }
}

/// Checks the operations of a branch, and that none writes a key that another writes or deletes: one revision changes
/// a key at most once, so that a watcher sees one event for it. Deletions may overlap: what is gone stays gone.
fn check_branch(ops: &[TxnOp]) -> Result<(), Refusal> {
    let mut written: Vec<&Key> = Vec::new();
    let mut deleted: Vec<&KeyRange> = Vec::new();
    for op in ops {
        match op {
            TxnOp::Get(key) => key.check()?,
            TxnOp::Range { range, .. } => range.check()?,
            TxnOp::Put(put) => {
                check_put(put)?;
                written.push(&put.key);
            }
            TxnOp::Delete(delete) => {
                delete.range.check()?;
                deleted.push(&delete.range);
            }
        }
    }
    written.sort_unstable();
    if let Some(pair) = written.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(twice(pair[0], "writes"));
    }
    match written.iter().find(|key| deleted.iter().any(|range| range.contains(key.as_bytes()))) {
        Some(key) => Err(twice(key, "both writes and deletes")),
        None => Ok(()),
    }
}

fn twice(key: &Key, verb: &str) -> Refusal {
    let shown: String = key.to_string().chars().take(64).collect();
    let again = if verb == "writes" { " twice" } else { "" };
    Refusal::new(ErrorCode::DuplicateKeyInTxn, format!("a branch of the transaction {verb} `{shown}`{again}"))
}
