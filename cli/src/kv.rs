//! `hither kv`: keys and values.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use hither::{Client, Compare, Consistency, DeleteReply, KeyRange, LeaseId, Put, Relation, Revision, TxnOp};
use serde::Serialize;

use crate::exit::Failure;
use crate::session::{Global, duration};
use crate::{load, txn, value};

#[derive(Debug, Subcommand)]
pub(crate) enum Kv {
    /// Write a key.
    Put(PutArgs),
    /// Read a key; exit with 3 if it does not exist.
    Get(GetArgs),
    /// Delete a key, or everything below a prefix; deleting nothing succeeds and says 0.
    Del(DelArgs),
    /// List keys with their values.
    Ls(LsArgs),
    /// Compare and write in one step; exit with 4 if a condition does not hold.
    Txn(txn::TxnArgs),
    /// Put what `kv ls -o jsonl` printed.
    Load(load::LoadArgs),
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  hither kv put config/limit 100\n  hither kv put logo @logo.png\n  date | hither kv put now -"
)]
pub(crate) struct PutArgs {
    /// The key.
    key: OsString,
    /// The value: text, `-` for standard input, `@FILE` for a file; any bytes.
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    /// Take VALUE as it stands, even if it is `-` or begins with `@`.
    #[arg(long)]
    literal: bool,
    /// The lease that the key dies with.
    #[arg(long, value_name = "ID")]
    lease: Option<LeaseId>,
    /// Only if the key does not exist; else exit with 4.
    #[arg(long)]
    if_absent: bool,
    /// Only if the key was last written at this revision; else exit with 4.
    #[arg(long, value_name = "REV", conflicts_with = "if_absent")]
    if_revision: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The key.
    key: OsString,
    /// Accept a state up to so old, from any node.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    stale: Option<Duration>,
    /// Accept any state of at least this revision.
    #[arg(long, value_name = "REV", conflicts_with = "stale")]
    at_least: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct DelArgs {
    /// The key; with a trailing `/` nothing but a key of that name, unless --prefix says otherwise.
    key: OsString,
    /// Delete every key that begins with KEY.
    #[arg(long)]
    prefix: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// Keys that begin with this; all without it.
    #[arg(default_value = "")]
    prefix: OsString,
    /// At most so many; 0 is no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
    /// From the last key to the first.
    #[arg(long)]
    reverse: bool,
    /// Without the values.
    #[arg(long)]
    keys_only: bool,
    /// Only how many there are.
    #[arg(long, conflicts_with_all = ["limit", "reverse", "keys_only"])]
    count: bool,
}

pub(crate) async fn run(global: &Global, command: Kv) -> Result<(), Failure> {
    match command {
        Kv::Put(args) => put(global, args).await,
        Kv::Get(args) => get(global, args).await,
        Kv::Del(args) => del(global, args).await,
        Kv::Ls(args) => ls(global, args).await,
        Kv::Txn(args) => txn::run(global, args).await,
        Kv::Load(args) => load::run(global, args).await,
    }
}

#[derive(Serialize)]
struct Written {
    revision: u64,
}

#[derive(Serialize)]
struct Deleted {
    deleted: u64,
    revision: u64,
}

#[derive(Serialize)]
struct Counted {
    count: u64,
}

async fn put(global: &Global, args: PutArgs) -> Result<(), Failure> {
    let key = value::key(&args.key);
    // Read first: a wrong file should not need a server to be found out.
    let value = value::read(&args.value, args.literal)?;
    let client = global.connect().await?;
    let condition = match args.if_revision {
        Some(revision) => Some(Compare::ModRevision(key.clone(), Relation::Equal, Revision(revision))),
        None => args.if_absent.then(|| Compare::Absent(key.clone())),
    };
    let revision = match condition {
        None => client.put(key, value).lease(args.lease).await?.revision,
        Some(condition) => {
            let put = Put { key: key.clone(), value, lease: args.lease, previous: false };
            let reply = client.txn().when(condition).then(TxnOp::Put(put)).await?;
            if !reply.succeeded {
                client.close().await;
                let why = if args.if_absent { "exists" } else { "was written at another revision" };
                return Err(Failure::conflict(format!(
                    "Conflict (4003): the key \"{key}\" {why}; nothing was written"
                )));
            }
            reply.revision
        }
    };
    global.printer().fact(format_args!("revision {revision}"), &Written { revision: revision.0 }, revision)?;
    client.close().await;
    Ok(())
}

async fn get(global: &Global, args: GetArgs) -> Result<(), Failure> {
    let key = value::key(&args.key);
    let consistency = match (args.stale, args.at_least) {
        (Some(age), _) => Consistency::Stale { max_age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX) },
        (None, Some(revision)) => Consistency::AtLeast(Revision(revision)),
        (None, None) => Consistency::Linearizable,
    };
    let client = global.connect().await?;
    let entry = client.get(key.clone()).consistency(consistency).await?;
    let result = match &entry {
        Some(entry) => Ok(global.printer().entry(entry)?),
        None => Err(Failure::not_found(format!("NotFound (4001): there is no key \"{key}\""))),
    };
    client.close().await;
    result
}

async fn del(global: &Global, args: DelArgs) -> Result<(), Failure> {
    let key = value::key(&args.key);
    let client = global.connect().await?;
    let reply = delete(&client, if args.prefix { KeyRange::prefix(key) } else { KeyRange::One(key) }).await?;
    let record = Deleted { deleted: reply.deleted, revision: reply.revision.0 };
    global.printer().fact(format_args!("{} deleted", reply.deleted), &record, reply.deleted)?;
    client.close().await;
    Ok(())
}

async fn delete(client: &Client, range: KeyRange) -> Result<DeleteReply, hither::Error> {
    match range {
        KeyRange::One(key) => client.delete(key).await,
        range => client.delete_range(range).await,
    }
}

async fn ls(global: &Global, args: LsArgs) -> Result<(), Failure> {
    let range = KeyRange::prefix(value::key(&args.prefix));
    let client = global.connect().await?;
    if args.count {
        let count = client.range(range).count().await?;
        global.printer().fact(format_args!("{count} keys"), &Counted { count }, count)?;
    } else {
        let mut list = client.range(range).limit(args.limit);
        if args.reverse {
            list = list.reverse();
        }
        if args.keys_only {
            list = list.keys_only();
        }
        let reply = list.await?;
        global.printer().entries(&reply.entries, !args.keys_only)?;
        if reply.more {
            eprintln!("hint: {} of {} keys; --limit left out the others", reply.entries.len(), reply.count);
        }
    }
    client.close().await;
    Ok(())
}
