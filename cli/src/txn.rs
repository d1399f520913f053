//! `hither kv txn`: if, then, else, in one step.

use std::ffi::OsString;
use std::io::Read;

use clap::Args;
use hither::{TxnReply, TxnResult};
use hither_protocol::message::Txn;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::output::{Format, Printer};
use crate::record::Record;
use crate::session::Global;
use crate::txn_text;

#[derive(Args, Debug)]
#[command(after_help = "\
Conditions (--if; all must hold, none always holds):
  exists KEY | absent KEY | empty PREFIX
  value KEY = TEXT            also !=  <  >
  version KEY = 3             also create_revision, mod_revision
  lease KEY = ID | none
Steps (--then if they hold, --else if not; at most 256):
  put KEY VALUE [--lease ID] | get KEY | ls PREFIX | del KEY | del PREFIX/

Examples:
  hither kv txn --if 'absent leader' --then 'put leader me' --else 'get leader'
  hither kv txn --if 'mod_revision limit = 41' --then 'put limit 100'
  hither kv txn change.toml        with  if = [\"absent a\"]  then = [\"put a 1\"]  else = [\"get a\"]
  echo '{\"then\": [\"put a 1\", \"put b 2\"]}' | hither kv txn -")]
pub(crate) struct TxnArgs {
    /// A condition.
    #[arg(long = "if", value_name = "CONDITION")]
    when: Vec<String>,
    /// A step if all conditions hold.
    #[arg(long = "then", value_name = "STEP")]
    then: Vec<String>,
    /// A step if one does not hold.
    #[arg(long = "else", value_name = "STEP")]
    otherwise: Vec<String>,
    /// A file with lists `if`, `then` and `else` of the same words, in TOML or JSON; `-` for standard input.
    #[arg(conflicts_with_all = ["when", "then", "otherwise"])]
    file: Option<OsString>,
}

/// The form of the file.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default, rename = "if")]
    when: Vec<String>,
    #[serde(default)]
    then: Vec<String>,
    #[serde(default, rename = "else")]
    otherwise: Vec<String>,
}

impl Script {
    fn parse(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            toml::from_str(text).map_err(|error| error.to_string())
        }
    }

    fn read(file: &OsString) -> Result<Self, Failure> {
        let mut text = String::new();
        let name = if file == "-" { "standard input".to_owned() } else { file.to_string_lossy().into_owned() };
        let read = if file == "-" {
            std::io::stdin().lock().read_to_string(&mut text).map(drop)
        } else {
            std::fs::read_to_string(file).map(|read| text = read)
        };
        read.map_err(|error| Failure::usage(format!("cannot read the transaction from {name}: {error}")))?;
        Self::parse(&text).map_err(|error| Failure::usage(format!("the transaction in {name} does not read: {error}")))
    }

    fn compile(&self) -> Result<Txn, Failure> {
        let steps = |texts: &[String]| texts.iter().map(|text| txn_text::step(text)).collect::<Result<Vec<_>, _>>();
        let compile = || {
            let when = self.when.iter().map(|text| txn_text::condition(text)).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, String>(Txn { when, then: steps(&self.then)?, otherwise: steps(&self.otherwise)? })
        };
        let compiled = compile().map_err(Failure::usage)?;
        if compiled.then.is_empty() && compiled.otherwise.is_empty() {
            return Err(Failure::usage("the transaction does nothing: give it --then or --else"));
        }
        Ok(compiled)
    }
}

pub(crate) async fn run(global: &Global, args: TxnArgs) -> Result<(), Failure> {
    let script = match &args.file {
        Some(file) => Script::read(file)?,
        None => Script { when: args.when, then: args.then, otherwise: args.otherwise },
    };
    let Txn { when, then, otherwise } = script.compile()?;
    let client = global.connect().await?;
    let mut txn = client.txn();
    for condition in when {
        txn = txn.when(condition);
    }
    for step in then {
        txn = txn.then(step);
    }
    for step in otherwise {
        txn = txn.or_else(step);
    }
    let reply = txn.await?;
    print(&mut global.printer(), &reply)?;
    client.close().await;
    if reply.succeeded {
        Ok(())
    } else {
        Err(Failure::conflict("Conflict (4003): a condition does not hold, so the steps of --else were done"))
    }
}

#[derive(Serialize)]
struct Outcome {
    succeeded: bool,
    revision: u64,
    results: Vec<StepResult>,
}

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum StepResult {
    Get { entry: Option<Record> },
    Ls { entries: Vec<Record>, count: u64 },
    Put { revision: u64 },
    Del { deleted: u64, revision: u64 },
}

impl StepResult {
    fn of(result: &TxnResult) -> Self {
        match result {
            TxnResult::Get(reply) => Self::Get { entry: reply.entry.as_ref().map(Record::entry) },
            TxnResult::Range(reply) => {
                Self::Ls { entries: reply.entries.iter().map(Record::entry).collect(), count: reply.count }
            }
            TxnResult::Put(reply) => Self::Put { revision: reply.revision.0 },
            TxnResult::Delete(reply) => Self::Del { deleted: reply.deleted, revision: reply.revision.0 },
        }
    }
}

fn print(printer: &mut Printer, reply: &TxnReply) -> Result<(), Failure> {
    if matches!(printer.format(), Format::Json | Format::Jsonl) {
        let outcome = Outcome {
            succeeded: reply.succeeded,
            revision: reply.revision.0,
            results: reply.results.iter().map(StepResult::of).collect(),
        };
        return Ok(printer.fact("", &outcome, "")?);
    }
    if printer.format() == Format::Table {
        let branch = if reply.succeeded { "then" } else { "else" };
        printer.fact(format_args!("{branch}, revision {}", reply.revision), &(), "")?;
    }
    for result in &reply.results {
        match result {
            TxnResult::Get(get) => match &get.entry {
                Some(entry) => printer.entry(entry)?,
                None => printer.fact("no such key", &(), "")?,
            },
            TxnResult::Range(range) => printer.entries(&range.entries, true)?,
            TxnResult::Put(put) => printer.fact(format_args!("put at revision {}", put.revision), &(), put.revision)?,
            TxnResult::Delete(delete) => {
                printer.fact(format_args!("{} deleted", delete.deleted), &(), delete.deleted)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_reads_the_same_from_toml_and_json() {
        let toml = Script::parse("if = ['absent a']\nthen = ['put a 1']\nelse = ['get a']").unwrap();
        let json = Script::parse(r#"{"if": ["absent a"], "then": ["put a 1"], "else": ["get a"]}"#).unwrap();
        assert_eq!(toml, json);
        let txn = toml.compile().unwrap();
        assert_eq!((txn.when.len(), txn.then.len(), txn.otherwise.len()), (1, 1, 1));
    }

    #[test]
    fn a_misspelt_list_is_refused() {
        assert!(Script::parse("when = ['absent a']").unwrap_err().contains("when"));
    }

    #[test]
    fn a_transaction_without_a_step_is_refused() {
        let script = Script { when: vec!["exists a".to_owned()], ..Script::default() };
        assert_eq!(script.compile().unwrap_err().exit, crate::exit::Exit::Usage);
    }
}
