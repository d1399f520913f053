//! `hither kv load`: puts what `hither kv ls -o jsonl` printed, in the order of the lines.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use hither::{Client, ErrorCode, Key, Put, Revision, TxnOp, Txns};
use hither_protocol::limits::{TXN_OPS_MAX, VALUE_BYTES_MAX};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::session::Global;

/// Bytes of keys and values after which a transaction is sent: half a frame, so that what is around them has room too.
const BATCH_BYTES: usize = 1 << 20;

#[derive(Args, Debug)]
#[command(after_help = "\
Lines are put together in transactions of up to 256 keys, one transaction after the other.
Each line is an object with `key` (or `key_base64`) and `value` (or `value_base64`); other fields are left alone, so
that revisions and leases of another time are not brought back.

Example:
  hither kv ls config/ -o jsonl | hither -n staging kv load")]
pub(crate) struct LoadArgs {
    /// A file of JSON lines; standard input without it.
    #[arg(default_value = "-")]
    file: OsString,
}

#[derive(Debug, Deserialize)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

impl Line {
    fn parse(text: &str) -> Result<(Key, Bytes), String> {
        let line: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let bytes = |text: Option<String>, base64: Option<String>, name| match (text, base64) {
            (Some(text), None) => Ok(text.into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| format!("{name}_base64: {error}")),
            _ => Err(format!("it has not exactly one of {name} and {name}_base64")),
        };
        let key = Key::from(bytes(line.key, line.key_base64, "key")?);
        key.check().map_err(|refusal| format!("{}: {}", refusal.code, refusal.detail))?;
        let value = bytes(line.value, line.value_base64, "value")?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("{}: the value has more than {VALUE_BYTES_MAX} bytes", ErrorCode::ValueTooLarge));
        }
        Ok((key, value.into()))
    }
}

#[derive(Serialize)]
struct Loaded {
    loaded: u64,
    revision: u64,
}

pub(crate) async fn run(global: &Global, args: LoadArgs) -> Result<(), Failure> {
    let input: Box<dyn BufRead> = if args.file == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&args.file);
        let name = args.file.to_string_lossy();
        Box::new(BufReader::new(file.map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?))
    };
    let client = global.connect().await?;
    let mut load = Load { client: client.clone(), loaded: 0, revision: Revision(0), batch: Batch::default() };
    for (number, line) in input.lines().enumerate() {
        let parsed = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => Line::parse(&line),
            Err(error) => Err(error.to_string()),
        };
        match parsed {
            Ok((key, value)) => load.add(key, value).await?,
            Err(error) => {
                load.send().await?;
                let before = load.loaded;
                return Err(Failure::usage(format!("line {}: {error}; the {before} before it were put", number + 1)));
            }
        }
    }
    load.send().await?;
    let Load { loaded, revision: Revision(revision), .. } = load;
    global.printer().fact(format_args!("{loaded} keys put"), &Loaded { loaded, revision }, loaded)?;
    client.close().await;
    Ok(())
}

struct Load {
    client: Client,
    loaded: u64,
    revision: Revision,
    batch: Batch,
}

/// Lines that one transaction will put.
#[derive(Default)]
struct Batch {
    ops: Vec<TxnOp>,
    keys: BTreeSet<Key>,
    bytes: usize,
}

impl Load {
    async fn add(&mut self, key: Key, value: Bytes) -> Result<(), Failure> {
        let bytes = key.as_bytes().len() + value.len();
        let batch = &self.batch;
        // A transaction writes a key once: the later line is the one that is to stay.
        if batch.ops.len() == TXN_OPS_MAX || batch.bytes + bytes > BATCH_BYTES || batch.keys.contains(&key) {
            self.send().await?;
        }
        self.batch.keys.insert(key.clone());
        self.batch.ops.push(TxnOp::Put(Put { key, value, lease: None, previous: false }));
        self.batch.bytes += bytes;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let Batch { ops, .. } = std::mem::take(&mut self.batch);
        if ops.is_empty() {
            return Ok(());
        }
        let count = ops.len() as u64;
        let reply = ops.into_iter().fold(self.client.txn(), Txns::then).await;
        let reply = reply.map_err(|error| {
            let Failure { exit, message, .. } = error.into();
            Failure::new(exit, format!("{message}; {} keys were put before", self.loaded))
        })?;
        self.revision = reply.revision;
        self.loaded += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ls_reads_back() {
        let text = r#"{"key":"a","value_base64":"/wA=","create_revision":3,"mod_revision":7,"version":2,"lease":null}"#;
        assert_eq!(Line::parse(text), Ok(("a".into(), Bytes::from_static(b"\xff\x00"))));
    }

    #[test]
    fn a_line_without_a_value_is_refused() {
        assert!(Line::parse(r#"{"key":"a"}"#).unwrap_err().contains("value_base64"));
        assert!(Line::parse(r#"{"key":"a","value":"b","value_base64":""}"#).is_err());
        assert!(Line::parse("a").is_err());
    }

    #[test]
    fn a_line_that_no_server_would_take_is_refused_before_its_transaction_is() {
        assert!(Line::parse(r#"{"key":"","value":"b"}"#).unwrap_err().contains("KeyEmpty"));
        let value = "v".repeat(VALUE_BYTES_MAX + 1);
        assert!(Line::parse(&format!(r#"{{"key":"a","value":"{value}"}}"#)).unwrap_err().contains("ValueTooLarge"));
    }
}
