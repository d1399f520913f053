//! The language of the scenarios: a command a line, words between blanks.
//!
//! `[in=NAMESPACE] [as=NAME | admin=NAME] [retry=SESSION:SEQUENCE:ACKNOWLEDGED] COMMAND`
//!
//! - `put KEY VALUE [lease=ID] [previous]`, `del RANGE [previous]`, `get KEY`,
//!   `range RANGE [limit=N] [reverse] [keys|count]`
//! - `txn if COMPARE, COMPARE then OP; OP else OP`; a compare is `KEY WHAT RELATION NUMBER`, `exists KEY`, `absent KEY`,
//!   `empty RANGE`, `KEY lease ID|none`
//! - `grant ttl|bound MS`, `revoke ID`, `open NONCE MS`, `close ID`
//! - the leader's: `suspect|alive|expire ID:EPOCH ...`, `floor REVISION`, `init INCARNATION`, `limits BYTES LEASES`
//! - `show`: all that is kept beside keys; `pin`, `unpin`: reads between them see the state as it was at the pin
//!
//! A range is `KEY`, `PREFIX*`, `FROM..TO` or `all`; `x^5000` is 5,000 times x, `""` nothing.

use bytes::Bytes;
use hither_protocol::message::{
    ClientList, Compare, Consistency, Delete, Get, LeaseGrant, LeaseKind, LeaseRevoke, Projection, Put, Range,
    Relation, Request, RetryToken, SessionClose, SessionOpen, Txn, TxnOp,
};
use hither_protocol::{ClusterId, Key, KeyRange, LeaseId, Revision, SequenceNumber, Version};
use hither_state::{Action, StateLimits};

pub(crate) struct Line {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) admin: bool,
    pub(crate) retry: Option<RetryToken>,
    pub(crate) asked: Asked,
}

pub(crate) enum Asked {
    Request(Box<Request>),
    Leader(Action),
    Show,
    Pin,
    Unpin,
}

type Parsed<T> = Result<T, String>;

pub(crate) fn parse(line: &str) -> Parsed<Line> {
    let mut parsed = Line {
        namespace: "default".to_owned(),
        name: "alice".to_owned(),
        admin: false,
        retry: None,
        asked: Asked::Show,
    };
    let mut rest = line;
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        match word.split_once('=') {
            Some(("in", namespace)) => namespace.clone_into(&mut parsed.namespace),
            Some(("as", name)) => name.clone_into(&mut parsed.name),
            Some(("admin", name)) => {
                name.clone_into(&mut parsed.name);
                parsed.admin = true;
            }
            Some(("retry", token)) => parsed.retry = Some(parse_token(token)?),
            _ => {
                parsed.asked = parse_command(word, after)?;
                return Ok(parsed);
            }
        }
        rest = after;
    }
}

fn parse_token(token: &str) -> Parsed<RetryToken> {
    let mut parts = token.split(':');
    let mut next = || parts.next().ok_or("a token is SESSION:SEQUENCE:ACKNOWLEDGED");
    Ok(RetryToken {
        session: next()?.parse().map_err(say)?,
        sequence: SequenceNumber(number(next()?)?),
        acknowledged: SequenceNumber(number(next()?)?),
    })
}

fn parse_command(verb: &str, rest: &str) -> Parsed<Asked> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let word = |place: usize| words.get(place).copied().ok_or_else(|| format!("{verb}: word {place} is missing"));
    let leader = |action| Ok(Asked::Leader(action));
    let request: Request = match verb {
        "put" | "del" | "get" | "range" => match parse_op(&format!("{verb} {rest}"))? {
            TxnOp::Put(put) => put.into(),
            TxnOp::Delete(delete) => delete.into(),
            TxnOp::Get(key) => Get { key, consistency: Consistency::Linearizable }.into(),
            TxnOp::Range { range, limit, reverse, projection } => {
                Range { range, limit, reverse, projection, consistency: Consistency::Linearizable }.into()
            }
        },
        "txn" => parse_txn(rest)?.into(),
        "grant" => {
            let kind = match word(0)? {
                "ttl" => LeaseKind::Ttl,
                "bound" => LeaseKind::Bound,
                other => return Err(format!("no kind of lease: {other}")),
            };
            LeaseGrant { ttl_ms: number(word(1)?)?, kind }.into()
        }
        "revoke" => LeaseRevoke { lease: word(0)?.parse().map_err(say)? }.into(),
        "open" => {
            let mut nonce = [0; 16];
            nonce[0] = u8::try_from(number(word(0)?)?).map_err(say)?;
            SessionOpen { nonce, ttl_ms: number(word(1)?)? }.into()
        }
        "close" => SessionClose { session: word(0)?.parse().map_err(say)? }.into(),
        "clients" => ClientList {}.into(),
        "suspect" => return leader(Action::MarkSuspect { leases: seen(&words)? }),
        "alive" => return leader(Action::MarkAlive { leases: seen(&words)? }),
        "expire" => return leader(Action::Expire { leases: seen(&words)? }),
        "floor" => return leader(Action::SetFloor { revision: Revision(number(word(0)?)?) }),
        "init" => {
            let cluster = ClusterId(*b"0123456789abcdef");
            return leader(Action::ClusterInit { cluster, incarnation: number(word(0)?)? });
        }
        "limits" => {
            let limits = StateLimits { state_bytes_max: number(word(0)?)?, leases_max: number(word(1)?)? };
            return leader(Action::SetLimits { limits });
        }
        "show" => return Ok(Asked::Show),
        "pin" => return Ok(Asked::Pin),
        "unpin" => return Ok(Asked::Unpin),
        other => return Err(format!("no such command: {other}")),
    };
    Ok(Asked::Request(Box::new(request)))
}

fn parse_op(text: &str) -> Parsed<TxnOp> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let word = |place: usize| words.get(place).copied().ok_or_else(|| format!("{text}: word {place} is missing"));
    let has = |name: &str| words.contains(&name);
    let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(match word(0)? {
        "put" => {
            let lease = option("lease").map(str::parse::<LeaseId>).transpose().map_err(say)?;
            TxnOp::Put(Put { key: key(word(1)?), value: value(word(2)?), lease, previous: has("previous") })
        }
        "del" => TxnOp::Delete(Delete { range: range(word(1)?), previous: has("previous") }),
        "get" => TxnOp::Get(key(word(1)?)),
        "range" => TxnOp::Range {
            range: range(word(1)?),
            limit: option("limit").map_or(Ok(0), number)?,
            reverse: has("reverse"),
            projection: match (has("keys"), has("count")) {
                (true, _) => Projection::KeysOnly,
                (_, true) => Projection::CountOnly,
                _ => Projection::Entries,
            },
        },
        other => return Err(format!("no such operation: {other}")),
    })
}

fn parse_txn(text: &str) -> Parsed<Txn> {
    let (head, otherwise) = text.split_once("else").unwrap_or((text, ""));
    let (when, then) = head.split_once("then").unwrap_or((head, ""));
    let when = when.trim().strip_prefix("if").unwrap_or("");
    let parts = |text: &str, at: char| -> Vec<String> {
        text.split(at).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let ops = |text: &str| parts(text, ';').iter().map(|op| parse_op(op)).collect::<Parsed<_>>();
    Ok(Txn {
        when: parts(when, ',').iter().map(|compare| parse_compare(compare)).collect::<Parsed<_>>()?,
        then: ops(then)?,
        otherwise: ops(otherwise)?,
    })
}

fn parse_compare(text: &str) -> Parsed<Compare> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(match words[..] {
        ["exists", name] => Compare::Exists(key(name)),
        ["absent", name] => Compare::Absent(key(name)),
        ["empty", keys] => Compare::RangeEmpty(range(keys)),
        [name, "lease", "none"] => Compare::Lease(key(name), None),
        [name, "lease", lease] => Compare::Lease(key(name), Some(lease.parse().map_err(say)?)),
        [name, what, relation, than] => {
            let relation = match relation {
                "=" => Relation::Equal,
                "!=" => Relation::NotEqual,
                "<" => Relation::Less,
                ">" => Relation::Greater,
                other => return Err(format!("no such relation: {other}")),
            };
            match what {
                "value" => Compare::Value(key(name), relation, value(than)),
                "version" => Compare::Version(key(name), relation, Version(number(than)?)),
                "create" => Compare::CreateRevision(key(name), relation, Revision(number(than)?)),
                "mod" => Compare::ModRevision(key(name), relation, Revision(number(than)?)),
                other => return Err(format!("nothing to compare: {other}")),
            }
        }
        _ => return Err(format!("no comparison: {text}")),
    })
}

fn seen(words: &[&str]) -> Parsed<Vec<(LeaseId, u64)>> {
    let parse = |word: &&str| {
        let (lease, epoch) = word.split_once(':').ok_or("ID:EPOCH")?;
        Ok((lease.parse().map_err(say)?, number(epoch)?))
    };
    words.iter().map(parse).collect()
}

fn range(text: &str) -> KeyRange {
    if text == "all" {
        KeyRange::All
    } else if let Some(prefix) = text.strip_suffix('*') {
        KeyRange::Prefix(value(prefix))
    } else if let Some((from, to)) = text.split_once("..") {
        KeyRange::Span(value(from), value(to))
    } else {
        KeyRange::One(key(text))
    }
}

fn key(text: &str) -> Key {
    Key(value(text))
}

fn value(text: &str) -> Bytes {
    match text.split_once('^') {
        Some((unit, times)) => unit.repeat(times.parse().unwrap()).into(),
        None if text == "\"\"" => Bytes::new(),
        None => Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn number(text: &str) -> Parsed<u64> {
    text.parse().map_err(say)
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}
