//! The bytes of the log, as they were released: a later version must read every entry that an earlier one wrote.
//! `UPDATE_GOLDEN=1 cargo test -p hither-state` writes the files; a released line changes never, lines are added.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hither_protocol::message::{Delete, LeaseKind, Put, RetryToken, Txn, TxnOp};
use hither_protocol::{ClusterId, KeyRange, LeaseId, Namespace, Revision, SequenceNumber, SessionId, UnixMillis};
use hither_state::{Action, Command, StateLimits, decode_batch, encode_batch};

#[path = "../../fuzz/src/state.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod targets;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// An entry for every action.
fn entries() -> Vec<(&'static str, Vec<Command>)> {
    let leases = || vec![(LeaseId(0x1_0000), 1), (LeaseId(0x2_0001), 300)];
    let put = || Put {
        key: "services/api/node1".into(),
        value: Bytes::from_static(b"10.0.0.1:80"),
        lease: Some(LeaseId(0x1_0000)),
        previous: true,
    };
    let delete = || Delete { range: KeyRange::prefix("services/"), previous: false };
    let txn = Txn { when: vec![], then: vec![TxnOp::Put(put())], otherwise: vec![TxnOp::Delete(delete())] };
    let actions = [
        ("put", Action::Put(put())),
        ("delete", Action::Delete(delete())),
        ("txn", Action::Txn(txn)),
        ("lease grant", Action::LeaseGrant { ttl_ms: 10_000, kind: LeaseKind::Bound }),
        ("lease revoke", Action::LeaseRevoke { lease: LeaseId(0x1_0000) }),
        ("session open", Action::SessionOpen { ttl_ms: 10_000, nonce: *b"fedcba9876543210" }),
        ("session close", Action::SessionClose { session: SessionId(0x2_0001) }),
        ("mark suspect", Action::MarkSuspect { leases: leases() }),
        ("mark alive", Action::MarkAlive { leases: leases() }),
        ("expire", Action::Expire { leases: leases() }),
        ("set floor", Action::SetFloor { revision: Revision(300) }),
        ("cluster init", Action::ClusterInit { cluster: ClusterId(*b"0123456789abcdef"), incarnation: 1 }),
        ("set limits", Action::SetLimits { limits: StateLimits { state_bytes_max: 8 << 30, leases_max: 1_000 } }),
    ];
    let client = |action: &Action| Command {
        namespace: Namespace::default(),
        principal: "api".into(),
        retry: Some(RetryToken {
            session: SessionId(0x2_0001),
            sequence: SequenceNumber(12),
            acknowledged: SequenceNumber(11),
        }),
        at: UnixMillis(1_790_000_000_000),
        action: action.clone(),
    };
    let server = |action: &Action| Command {
        namespace: Namespace::system(),
        principal: "".into(),
        retry: None,
        at: UnixMillis(0),
        action: action.clone(),
    };
    let mut entries: Vec<_> = actions.iter().map(|(case, action)| (*case, vec![client(action)])).collect();
    entries.push(("empty", vec![]));
    entries.push(("all of them, by the server", actions.iter().map(|(_, action)| server(action)).collect()));
    entries
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `# case` lines, each followed by lines of hexadecimal.
fn parse(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        if let Some(case) = line.strip_prefix("# ") {
            cases.push((case.to_owned(), Vec::new()));
            continue;
        }
        let (_, bytes) = cases.last_mut().expect("a case comes before its bytes");
        for pair in line.as_bytes().chunks(2) {
            let pair = std::str::from_utf8(pair).expect("hexadecimal");
            bytes.push(u8::from_str_radix(pair, 16).expect("hexadecimal"));
        }
    }
    cases
}

#[test]
fn every_action_has_the_bytes_that_were_released() {
    let mut text = String::new();
    for (case, commands) in entries() {
        let _ = writeln!(text, "# {case}");
        for line in encode_batch(&commands).chunks(48) {
            let _ = writeln!(text, "{}", hex(line));
        }
    }
    let golden = path("golden/batch.v1.hex");
    if updating() {
        std::fs::create_dir_all(path("golden")).expect("the folder can be made");
        std::fs::write(&golden, &text).expect("the file can be written");
    }
    let released = std::fs::read_to_string(golden).expect("the log's format is written down");
    assert_eq!(released, text, "the format of the log is released: what is there cannot change, only be added to");
}

#[test]
fn every_released_entry_is_read_and_written_as_it_was() {
    for file in std::fs::read_dir(path("golden")).expect("there are golden files") {
        let path = file.expect("the folder can be read").path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("batch.")) {
            continue;
        }
        let cases = parse(&std::fs::read_to_string(&path).expect("a golden file can be read"));
        assert!(!cases.is_empty(), "{} is empty", path.display());
        for (case, bytes) in cases {
            let commands = decode_batch(&bytes).unwrap_or_else(|error| panic!("{}, {case}: {error}", path.display()));
            assert_eq!(hex(&encode_batch(&commands)), hex(&bytes), "{}, {case}", path.display());
        }
    }
}

#[test]
fn a_torn_entry_is_never_read_as_another() {
    for (case, commands) in entries() {
        let bytes = encode_batch(&commands);
        for end in 0..bytes.len() {
            assert!(decode_batch(&bytes[..end]).is_err(), "{case}, {end} bytes");
        }
    }
}

#[test]
fn every_committed_input_passes_the_fuzz_target() {
    let corpus = path("../fuzz/corpus/batch");
    if updating() {
        std::fs::create_dir_all(&corpus).expect("the corpus can be made");
        for (case, commands) in entries() {
            let name: String = case.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            std::fs::write(corpus.join(name), encode_batch(&commands)).expect("a seed can be written");
        }
    }
    let mut inputs = 0;
    for file in std::fs::read_dir(corpus).expect("there is a corpus") {
        targets::batch(&std::fs::read(file.expect("the corpus can be read").path()).expect("an input can be read"));
        inputs += 1;
    }
    assert!(inputs >= entries().len(), "the corpus lost its seeds");
}
