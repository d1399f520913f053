//! Keys and transactions.

use hither::Client;
use serde_json::{Value, json};

use super::args::Args;
use super::{Done, show};

pub(crate) async fn get(client: &Client, args: &Args<'_>) -> Done {
    let mut get = client.get(args.text("key")?).consistency(args.consistency()?);
    if let Some(timeout) = args.time("timeout_ms")? {
        get = get.timeout(timeout);
    }
    let entry = get.await?;
    Ok(json!({ "entry": show::entry_maybe(entry.as_ref()) }))
}

pub(crate) async fn put(client: &Client, args: &Args<'_>) -> Done {
    let previous = args.flag("previous", false)?;
    let mut put = client.put(args.text("key")?, args.bytes("value")?).lease(args.lease("lease")?);
    if let Some(timeout) = args.time("timeout_ms")? {
        put = put.timeout(timeout);
    }
    if previous {
        put = put.previous();
    }
    let reply = put.await?;
    let mut shown = json!({ "revision": reply.revision.0 });
    if previous {
        shown["previous"] = show::entry_maybe(reply.previous.as_ref());
    }
    Ok(shown)
}

pub(crate) async fn delete(client: &Client, args: &Args<'_>) -> Done {
    let previous = args.flag("previous", false)?;
    let mut delete = client.delete_range(args.range()?);
    if let Some(timeout) = args.time("timeout_ms")? {
        delete = delete.timeout(timeout);
    }
    if previous {
        delete = delete.previous();
    }
    let reply = delete.await?;
    let mut shown = json!({ "revision": reply.revision.0, "deleted": reply.deleted });
    if previous {
        shown["previous"] = reply.previous.iter().map(show::entry).collect::<Vec<Value>>().into();
    }
    Ok(shown)
}

pub(crate) async fn list(client: &Client, args: &Args<'_>) -> Done {
    let mut list =
        client.range(args.range()?).limit(args.number_maybe("limit")?.unwrap_or(0)).consistency(args.consistency()?);
    if args.flag("reverse", false)? {
        list = list.reverse();
    }
    if args.flag("keys_only", false)? {
        list = list.keys_only();
    }
    if let Some(timeout) = args.time("timeout_ms")? {
        list = list.timeout(timeout);
    }
    let (stamp, reply) = list.stamped().await?;
    let mut shown = show::range(&reply);
    shown["revision"] = stamp.revision.0.into();
    Ok(shown)
}

pub(crate) async fn txn(client: &Client, args: &Args<'_>) -> Done {
    let mut txn = client.txn();
    for when in args.list("when")? {
        txn = txn.when(when.compare()?);
    }
    for step in args.list("then")? {
        txn = txn.then(step.txn_op()?);
    }
    for step in args.list("else")? {
        txn = txn.or_else(step.txn_op()?);
    }
    if let Some(timeout) = args.time("timeout_ms")? {
        txn = txn.timeout(timeout);
    }
    Ok(show::txn(&txn.await?))
}
