//! `hither kv load`: puts what `hither kv ls -o jsonl` printed, one after the other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use hither::Key;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::session::Global;

#[derive(Args, Debug)]
#[command(after_help = "\
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
        let key = bytes(line.key, line.key_base64, "key")?;
        let value = bytes(line.value, line.value_base64, "value")?;
        Ok((key.into(), value.into()))
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
    let (mut loaded, mut revision) = (0, 0);
    for (number, line) in input.lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let (key, value) = Line::parse(&line).map_err(|error| {
            Failure::usage(format!("line {}: {error}; the {loaded} before it were put", number + 1))
        })?;
        revision = client.put(key, value).await?.revision.0;
        loaded += 1;
    }
    global.printer().fact(format_args!("{loaded} keys put"), &Loaded { loaded, revision }, loaded)?;
    client.close().await;
    Ok(())
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
}
