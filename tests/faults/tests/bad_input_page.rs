//! `docs/bad-input.md` names tests that exist, and leaves out no row that it is to have.

use std::fs;
use std::path::{Path, PathBuf};

/// Rows on connections, identity, frames, keys, transactions, watches and leases; on the registry, enrolment, the admin
/// port and data directories.
const ROWS: std::ops::RangeInclusive<u32> = 1..=43;
const MORE_ROWS: [u32; 9] = [47, 48, 49, 50, 55, 58, 61, 62, 64];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The links of a line: text and target.
fn links(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('[').skip(1).filter_map(|rest| {
        let (text, rest) = rest.split_once("](")?;
        Some((text, rest.split_once(')')?.0))
    })
}

#[test]
fn every_test_that_the_page_names_exists() {
    let page = fs::read_to_string(root().join("docs/bad-input.md")).expect("the page is there");
    let mut tests = 0;
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| B")) {
        let id = line[3..].split(' ').next().and_then(|number| number.parse::<u32>().ok()).expect("a row has an id");
        rows.push(id);
        let before = tests;
        for (text, target) in links(line) {
            let source = fs::read_to_string(root().join("docs").join(target));
            let source = source.unwrap_or_else(|error| panic!("B{id:02} names {target}: {error}"));
            // Tests by their words, scenarios by their ids.
            let name = text.replace(' ', "_");
            let begins = match text.strip_prefix('`').and_then(|text| text.strip_suffix('`')) {
                Some(id) => vec![format!("id = \"{id}\"")],
                None => vec![format!("fn {name}("), format!("fn {name}<")],
            };
            assert!(begins.iter().any(|begin| source.contains(begin)), "B{id:02}: {target} has no test {name}");
            tests += 1;
        }
        assert!(tests > before, "B{id:02} has no test");
    }
    for row in ROWS.chain(MORE_ROWS) {
        assert!(rows.contains(&row), "B{row:02} is missing");
    }
    assert!(tests >= rows.len(), "{tests} tests for {} rows", rows.len());
}
