//! `docs/errors.md` is made from the one table of errors; `UPDATE_DOCS=1 cargo test -p hither-cli errors_page` writes it.

use std::fmt::Write;
use std::path::Path;

use hither::{ErrorCode, Retry};

use crate::exit::Exit;

const HEAD: &str = "\
# Errors

Made from the table in `protocol/src/error.rs`; a test keeps the two equal. Numbers are the same in every language and
never change their meaning. Each error also says whether it may have taken effect: `applied: no`, or `unknown` where
only a retry under the same sequence number could tell (the client has already retried by then). The last column is what
the command line exits with.

Retry: *never*: the same call fails again. *later*: the same server may answer later. *elsewhere*: another server may
answer now; the client looks for one by itself until the call's deadline.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut group = 0;
    for code in ErrorCode::ALL {
        let number = code.number();
        if number / 1_000 != group {
            group = number / 1_000;
            let title = match group {
                1 => "What was said is not understood",
                2 => "Who is speaking",
                3 => "An argument is wrong",
                4 => "It does not fit what is there",
                5 => "There is no room",
                6 => "Nobody can answer now",
                _ => "The server",
            };
            let _ = write!(
                page,
                "\n## {group}000: {title}\n\n| number | name | what it means and what to do | retry | exit |\n|---|---|---|---|---|\n"
            );
        }
        let retry = match code.retry() {
            Retry::Never => "never",
            Retry::Later => "later",
            Retry::Elsewhere => "elsewhere",
        };
        let _ = writeln!(
            page,
            "| {number} | `{}` | {} | {retry} | {} |",
            code.name(),
            code.meaning().trim(),
            Exit::of(*code) as u8
        );
    }
    page
}

#[test]
fn the_page_of_errors_is_the_table_of_errors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/errors.md is not the table: run UPDATE_DOCS=1 cargo test -p hither-cli errors_page"
    );
}
