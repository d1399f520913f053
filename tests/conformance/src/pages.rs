//! The pages of the documentation that are made from results.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::report::Report;

/// Between these the README's table stands.
const BEGIN: &str = "<!-- made by scripts/conformance --write -->\n";
const END: &str = "<!-- end -->\n";

/// A page, as it is and as it should be.
pub(crate) struct Page {
    /// Its path in the project.
    pub(crate) name: &'static str,
    path: PathBuf,
    is: String,
    should_be: String,
}

/// All of them.
///
/// # Errors
/// If the README cannot be read or has no place for its table.
pub(crate) fn of(report: &Report<'_>) -> anyhow::Result<[Page; 2]> {
    let mut readme = Page::open("README.md");
    readme.should_be = replaced(&readme.is, &report.block()).context("README.md has no place for the table")?;
    let mut support = Page::open("docs/support.md");
    support.should_be = report.page();
    Ok([readme, support])
}

impl Page {
    fn open(name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
        let is = std::fs::read_to_string(&path).unwrap_or_default();
        Self { name, path, is, should_be: String::new() }
    }

    /// Whether it is as it should be.
    pub(crate) fn is_current(&self) -> bool {
        self.is == self.should_be
    }

    /// Makes it so.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        std::fs::write(&self.path, &self.should_be).with_context(|| format!("{}", self.path.display()))
    }
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_nothing_else() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let made = replaced(&page, "new\n");
        assert_eq!(made, Some(format!("before\n{BEGIN}new\n{END}after\n")));
        assert_eq!(replaced("nothing of the kind", "new"), None);
    }
}
