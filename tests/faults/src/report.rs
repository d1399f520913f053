//! Figures that were asked for beside those that were measured.

use std::fmt::Display;

/// Rows of what was asked, what was measured and whether it is enough.
#[derive(Debug, Default)]
pub struct Report(Vec<(String, String, String, bool)>);

impl Report {
    /// Adds a row. What nobody asked for (`-`) has no verdict.
    pub fn row(&mut self, what: &str, asked: impl Display, measured: impl Display, holds: bool) {
        self.0.push((what.to_owned(), asked.to_string(), measured.to_string(), holds));
    }

    /// Prints the table.
    ///
    /// # Errors
    /// Some row does not hold.
    pub fn print(&self, title: &str) -> anyhow::Result<()> {
        println!("\n## {title}\n\n| | asked | measured | |\n|---|---|---|---|");
        for (what, asked, measured, holds) in &self.0 {
            let verdict = match holds {
                _ if asked == "-" => "",
                true => "holds",
                false => "**FAILS**",
            };
            println!("| {what} | {asked} | {measured} | {verdict} |");
        }
        let failed: Vec<_> = self.0.iter().filter(|row| !row.3).map(|row| row.0.as_str()).collect();
        anyhow::ensure!(failed.is_empty(), "{title}: {}", failed.join("; "));
        Ok(())
    }
}
