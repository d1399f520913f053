//! The words of `hither kv txn`: conditions and steps, one a string.
//!
//! ```text
//! conditions   exists KEY | absent KEY | empty PREFIX
//!              value KEY OP TEXT          OP is one of  =  !=  <  >
//!              version KEY OP N  (also create_revision, mod_revision)
//!              lease KEY = ID | none
//! steps        put KEY VALUE [--lease ID] | get KEY | ls PREFIX | del KEY | del PREFIX/
//! ```
//!
//! Words are split at blanks; `'...'` and `"..."` keep blanks, `\` keeps the next character. A value may be `@file`.

use std::ffi::OsStr;

use bytes::Bytes;
use hither::{Compare, Delete, Key, KeyRange, LeaseId, Projection, Put, Relation, Revision, TxnOp, Version};

use crate::value;

/// Reads a condition of `--if`.
pub(crate) fn condition(text: &str) -> Result<Compare, String> {
    let words = words(text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let compare = match words[..] {
        ["exists", key] => Compare::Exists(key.into()),
        ["absent", key] => Compare::Absent(key.into()),
        ["empty", prefix] => Compare::RangeEmpty(KeyRange::prefix(prefix)),
        ["value", key, op, text] => Compare::Value(key.into(), relation(op)?, value_of(text)?),
        ["version", key, op, number] => Compare::Version(key.into(), relation(op)?, Version(integer(number)?)),
        ["create_revision", key, op, number] => {
            Compare::CreateRevision(key.into(), relation(op)?, Revision(integer(number)?))
        }
        ["mod_revision", key, op, number] => {
            Compare::ModRevision(key.into(), relation(op)?, Revision(integer(number)?))
        }
        ["lease", key, "=" | "==", "none"] => Compare::Lease(key.into(), None),
        ["lease", key, "=" | "==", id] => Compare::Lease(key.into(), Some(lease(id)?)),
        _ => {
            return Err(format!(
                "`{text}` is no condition; write one such as `absent KEY`, `version KEY = 3` or `value KEY != TEXT`"
            ));
        }
    };
    Ok(compare)
}

/// Reads a step of `--then` or `--else`.
pub(crate) fn step(text: &str) -> Result<TxnOp, String> {
    let words = words(text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let put = |key: &str, value: &str, lease| -> Result<TxnOp, String> {
        Ok(TxnOp::Put(Put { key: Key::from(key), value: value_of(value)?, lease, previous: false }))
    };
    match words[..] {
        ["put", key, value] => put(key, value, None),
        ["put", key, value, "--lease", id] => put(key, value, Some(lease(id)?)),
        ["get", key] => Ok(TxnOp::Get(key.into())),
        ["ls", prefix] => Ok(TxnOp::Range {
            range: KeyRange::prefix(prefix),
            limit: 0,
            reverse: false,
            projection: Projection::Entries,
        }),
        ["del", key] => {
            let range = if key.ends_with('/') { KeyRange::prefix(key) } else { KeyRange::One(key.into()) };
            Ok(TxnOp::Delete(Delete { range, previous: false }))
        }
        _ => Err(format!("`{text}` is no step; write `put KEY VALUE`, `get KEY`, `ls PREFIX` or `del KEY`")),
    }
}

fn relation(op: &str) -> Result<Relation, String> {
    match op {
        "=" | "==" => Ok(Relation::Equal),
        "!=" => Ok(Relation::NotEqual),
        "<" => Ok(Relation::Less),
        ">" => Ok(Relation::Greater),
        other => Err(format!("`{other}` is no comparison; use =, !=, < or >")),
    }
}

fn integer(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number"))
}

fn lease(text: &str) -> Result<LeaseId, String> {
    text.parse().map_err(|_| format!("`{text}` is no lease; leases are hexadecimal, as `hither lease ls` shows them"))
}

/// Standard input may be the transaction itself, so `-` is no special value here.
fn value_of(text: &str) -> Result<Bytes, String> {
    value::read(OsStr::new(text), text == "-").map_err(|failure| failure.message)
}

/// Splits at blanks, as a shell would.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                let next =
                    rest.next().ok_or_else(|| format!("`{text}` ends in the middle: nothing follows the `\\`"))?;
                word.get_or_insert_default().push(next);
            }
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("`{text}` ends in the middle: a quotation mark is open"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_as_they_are_said() {
        assert_eq!(condition("exists a"), Ok(Compare::Exists("a".into())));
        assert_eq!(condition("absent a"), Ok(Compare::Absent("a".into())));
        assert_eq!(condition("empty locks/"), Ok(Compare::RangeEmpty(KeyRange::prefix("locks/"))));
        assert_eq!(condition("version a = 3"), Ok(Compare::Version("a".into(), Relation::Equal, Version(3))));
        assert_eq!(
            condition("mod_revision a > 3"),
            Ok(Compare::ModRevision("a".into(), Relation::Greater, Revision(3)))
        );
        assert_eq!(
            condition("create_revision a < 3"),
            Ok(Compare::CreateRevision("a".into(), Relation::Less, Revision(3)))
        );
        assert_eq!(
            condition("value a != 'two words'"),
            Ok(Compare::Value("a".into(), Relation::NotEqual, "two words".into()))
        );
        assert_eq!(condition("lease a = none"), Ok(Compare::Lease("a".into(), None)));
        assert_eq!(condition("lease a = 1f4"), Ok(Compare::Lease("a".into(), Some(LeaseId(0x1f4)))));
    }

    #[test]
    fn steps_read_as_the_commands_they_are() {
        let put = |value: &str, lease| {
            Ok(TxnOp::Put(Put { key: "a".into(), value: value.to_owned().into(), lease, previous: false }))
        };
        assert_eq!(step("put a 1"), put("1", None));
        assert_eq!(step("put a -"), put("-", None));
        assert_eq!(step("put a ''"), put("", None));
        assert_eq!(step(r#"put a "say \"hi\"""#), put("say \"hi\"", None));
        assert_eq!(step("put a 1 --lease beef"), put("1", Some(LeaseId(0xbeef))));
        assert_eq!(step("get a"), Ok(TxnOp::Get("a".into())));
        let del = |range| Ok(TxnOp::Delete(Delete { range, previous: false }));
        assert_eq!(step("del a"), del(KeyRange::One("a".into())));
        assert_eq!(step("del a/"), del(KeyRange::prefix("a/")));
    }

    #[test]
    fn what_does_not_read_is_named() {
        for wrong in ["", "exist a", "version a 3", "version a = x", "value a ~ b", "put a", "put a 'b", "put a b\\"] {
            let said = condition(wrong).unwrap_err();
            assert!(!said.is_empty());
            assert!(step(wrong).is_err(), "{wrong}");
        }
        assert!(condition("version a = x").unwrap_err().contains("`x`"));
    }
}
