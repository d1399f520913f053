//! Leases by their ids.

use hither::{Client, LeaseId};
use serde_json::json;

use super::args::Args;
use super::{Done, Failure, crash, show};

fn lease(args: &Args<'_>) -> Result<LeaseId, Failure> {
    args.lease("lease")?.ok_or_else(|| crash("lease is missing"))
}

pub(crate) async fn renew(client: &Client, args: &Args<'_>) -> Done {
    Ok(json!({ "ttl_ms": client.lease_renew(lease(args)?).await?.ttl_ms }))
}

pub(crate) async fn revoke(client: &Client, args: &Args<'_>) -> Done {
    Ok(json!({ "deleted": client.lease_revoke(lease(args)?).await?.deleted }))
}

pub(crate) async fn info(client: &Client, args: &Args<'_>) -> Done {
    let reply = client.lease_info(lease(args)?).await?;
    let keys: Vec<String> = reply.keys.iter().map(show::text).collect();
    Ok(json!({
        "lease": reply.lease.lease.to_string(),
        "ttl_ms": reply.lease.ttl_ms,
        "state": reply.lease.state.as_str(),
        "keys": keys,
    }))
}
