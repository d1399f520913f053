//! The bytes of every message, as they were released. `UPDATE_GOLDEN=1 cargo test -p hither-protocol` writes the files;
//! a change to a line that was released is a broken wire, never an update.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hither_protocol::ErrorCode;
use hither_protocol::message::op;

use crate::said::{Said, frame};
use crate::samples::samples;

/// The id in the header of every golden frame.
const ID: u64 = 0x0102_0304_0506_0708;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Writes `text`, or fails if the file says something else.
fn settle(name: &str, text: &str) {
    let path = folder().join(name);
    if updating() {
        std::fs::create_dir_all(folder()).expect("the folder can be made");
        std::fs::write(&path, text).expect("a golden file can be written");
        return;
    }
    let released = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{name}: {error}; a new message? UPDATE_GOLDEN=1 writes its file"));
    assert_eq!(released, text, "{name} is released: what it holds cannot change, only be added to");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The cases of a golden file, each with the bytes of its frame.
type Cases = Vec<(String, Vec<u8>)>;

/// The frames of a golden file: `# case` lines, each followed by the header on one line and the body on the next ones.
fn parse(text: &str) -> Cases {
    let mut cases = Cases::new();
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

fn golden_files() -> Vec<(String, Cases)> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .expect("there are golden files")
        .map(|file| file.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a golden file can be read");
            (path.file_name().expect("a file has a name").to_string_lossy().into_owned(), parse(&text))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_message_has_the_bytes_that_were_released() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for sample in samples() {
        let bytes = sample.said.encode(ID, false);
        let text = files.entry(format!("{}.v{}.hex", sample.message, bytes[6])).or_default();
        let (header, body) = bytes.split_at(16);
        let _ = writeln!(text, "# {}\n{}", sample.case, hex(header));
        for line in body.chunks(48) {
            let _ = writeln!(text, "{}", hex(line));
        }
    }
    for (name, text) in &files {
        settle(name, text);
    }
}

#[test]
fn every_released_file_decodes_and_encodes_to_itself() {
    for (name, cases) in golden_files() {
        assert!(!cases.is_empty(), "{name} is empty");
        for (case, bytes) in cases {
            let said = Said::decode(&frame(&bytes)).unwrap_or_else(|error| panic!("{name}, {case}: {error}"));
            assert_eq!(hex(&said.encode(ID, false)), hex(&bytes), "{name}, {case}");
        }
    }
}

/// Reads the numbers from the table itself, so that an op without a golden file cannot slip in.
#[test]
fn every_operation_has_a_golden_file() {
    let covered: BTreeSet<u16> = golden_files()
        .iter()
        .flat_map(|(_, cases)| cases.iter().map(|(_, bytes)| u16::from_le_bytes([bytes[4], bytes[5]])))
        .collect();
    let table = include_str!("../../src/message/op.rs");
    let mut seen = BTreeSet::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let (name, rest) = line.split_once(": u16 = 0x").expect("every constant is a number of an operation");
        let number = u16::from_str_radix(rest.trim_end_matches(';'), 16).expect("hexadecimal");
        if name == "REPLY" {
            continue;
        }
        assert!(seen.insert(number), "{name} has the number of another operation");
        assert!(covered.contains(&number), "{name} has no golden file");
        // Requests live at 0x0100 to 0x04ff, and each has a reply.
        if (0x0100..0x0500).contains(&number) {
            assert!(covered.contains(&(number | op::REPLY)), "the reply of {name} has no golden file");
        }
    }
    assert!(seen.len() > 30, "the table of operations was not read");
}

#[test]
fn error_numbers_keep_their_meaning() {
    let mut text = String::new();
    for code in ErrorCode::ALL {
        let _ = writeln!(text, "{} {} {:?}", code.number(), code.name(), code.retry());
    }
    settle("error-codes.txt", &text);
}
