//! Results so far, a line of JSON each, so that a run that was cut off goes on where it was.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::workload::Figures;

/// Workload, system and round.
type Turn = (String, String, usize);

/// What was measured, and the file that it is kept in until the page is written.
pub(crate) struct Kept {
    path: PathBuf,
    file: File,
    seconds: f64,
    known: BTreeMap<Turn, Figures>,
}

impl Kept {
    /// What a run of loops of so many seconds left behind.
    pub(crate) fn open(path: &Path, seconds: f64) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read?,
        };
        // A line that was cut off is measured again, and so is one of longer or shorter loops.
        let known = text.lines().filter_map(|line| parse(line, seconds)).collect();
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot keep results in {}", path.display()))?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file)?;
        }
        Ok(Self { path: path.to_owned(), file, seconds, known })
    }

    /// The figures of a round, if all of its turns were measured before.
    pub(crate) fn round(
        &self,
        workload: &str,
        systems: impl Iterator<Item = &'static str>,
        round: usize,
    ) -> Option<Vec<(&'static str, Figures)>> {
        let known = |system: &str| self.known.get(&(workload.to_owned(), system.to_owned(), round));
        systems.map(|system| Some((system, known(system)?.clone()))).collect()
    }

    pub(crate) fn keep(&mut self, workload: &str, system: &str, round: usize, figures: &Figures) -> anyhow::Result<()> {
        let line = json!({
            "workload": workload, "system": system, "round": round, "seconds": self.seconds, "figures": figures,
        });
        Ok(writeln!(self.file, "{line}")?)
    }

    /// The page is written: the next run begins anew.
    pub(crate) fn forget(self) -> anyhow::Result<()> {
        Ok(fs::remove_file(&self.path)?)
    }
}

fn parse(line: &str, seconds: f64) -> Option<(Turn, Figures)> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value["seconds"].as_f64()? != seconds {
        return None;
    }
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let turn = (text("workload")?, text("system")?, usize::try_from(value["round"].as_u64()?).ok()?);
    // Names of figures are constants of the program; here they live as long as it does, which is one run.
    let figures = value["figures"].as_object()?.iter();
    let figures = figures.filter_map(|(name, figure)| Some((&*name.clone().leak(), figure.as_f64()?)));
    Some((turn, figures.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_cut_off_goes_on_where_it_was() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("kept.jsonl");
        let figures = Figures::from([("operations/s", 7.5)]);
        let mut first = Kept::open(&path, 2.0)?;
        first.keep("put", "Hither", 1, &figures)?;
        first.keep("put", "etcd", 1, &figures)?;
        first.keep("put", "Hither", 2, &figures)?;
        fs::write(&path, fs::read_to_string(&path)? + "{\"workload\": \"put\", \"sys")?;

        let both = ["Hither", "etcd"];
        let second = Kept::open(&path, 2.0)?;
        let again = second.round("put", both.into_iter(), 1);
        assert_eq!(again, Some(vec![("Hither", figures.clone()), ("etcd", figures)]));
        assert_eq!(second.round("put", both.into_iter(), 2), None, "one of its turns is missing");
        let longer = Kept::open(&path, 3.0)?;
        assert_eq!(longer.round("put", both.into_iter(), 1), None, "another length");
        second.forget()?;
        assert!(!path.exists());
        Ok(())
    }
}
