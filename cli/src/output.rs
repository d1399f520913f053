//! What commands print: a table for people, JSON for programs, the bare value for pipes.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::ValueEnum;
use hither::{Entry, Event, Revision};
use serde::Serialize;

use crate::record::Record;

/// `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for reading. The default on a terminal.
    Table,
    /// One JSON document.
    Json,
    /// A JSON object a line.
    Jsonl,
    /// The bare value. The default in a pipe.
    Plain,
}

/// Standard output in the chosen form.
pub(crate) struct Printer<W: Write = BufWriter<StdoutLock<'static>>> {
    format: Format,
    terminal: bool,
    out: W,
}

impl Printer {
    /// Standard output; a table only if it is a terminal and nothing else was asked for.
    pub(crate) fn stdout(format: Option<Format>) -> Self {
        let terminal = io::stdout().is_terminal();
        let format = format.unwrap_or(if terminal { Format::Table } else { Format::Plain });
        Self { format, terminal, out: BufWriter::new(io::stdout().lock()) }
    }
}

impl<W: Write> Printer<W> {
    /// The chosen form.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// One entry: `plain` is its value, byte for byte; a terminal gets the line break that the value may lack.
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        match self.format {
            Format::Table => self.table(&ENTRY_COLUMNS, &[entry_row(entry)])?,
            Format::Json | Format::Jsonl => self.json(&Record::entry(entry))?,
            Format::Plain => {
                self.out.write_all(&entry.value)?;
                if self.terminal && !entry.value.ends_with(b"\n") {
                    self.out.write_all(b"\n")?;
                }
            }
        }
        self.out.flush()
    }

    /// Many entries: `plain` is a value a line, or a key a line without the values.
    pub(crate) fn entries(&mut self, entries: &[Entry], values: bool) -> io::Result<()> {
        let record = |entry| if values { Record::entry(entry) } else { Record::key_of(entry) };
        match self.format {
            Format::Table => {
                let mut rows: Vec<_> = entries.iter().map(entry_row).collect();
                if !values {
                    rows.iter_mut().for_each(|row| row[1].clear());
                }
                self.table(&ENTRY_COLUMNS, &rows)?;
            }
            Format::Json => self.json(&entries.iter().map(record).collect::<Vec<_>>())?,
            Format::Jsonl => entries.iter().try_for_each(|entry| self.json(&record(entry)))?,
            Format::Plain => {
                for entry in entries {
                    self.out.write_all(if values { &entry.value } else { entry.key.as_bytes() })?;
                    self.out.write_all(b"\n")?;
                }
            }
        }
        self.out.flush()
    }

    /// One event, at once: `plain` is the value on a line, or an empty line for a key that is gone.
    pub(crate) fn event(&mut self, event: &Event) -> io::Result<()> {
        match self.format {
            Format::Table => match event {
                Event::Put { entry, .. } => writeln!(
                    self.out,
                    "{:>8}  put       {}  {}",
                    entry.mod_revision,
                    shown(entry.key.as_bytes()),
                    shown(&entry.value)
                )?,
                Event::Delete { key, revision, .. } => {
                    writeln!(self.out, "{revision:>8}  delete    {}", shown(key.as_bytes()))?;
                }
                Event::Liveness { lease, state, revision } => {
                    writeln!(self.out, "{revision:>8}  {:<8}  lease {lease}", state.as_str())?;
                }
            },
            Format::Json | Format::Jsonl => self.json(&Record::event(event))?,
            Format::Plain => {
                if let Event::Put { entry, .. } = event {
                    self.out.write_all(&entry.value)?;
                }
                self.out.write_all(b"\n")?;
            }
        }
        self.out.flush()
    }

    /// History was gone and the difference follows. `plain` has no value to show for it.
    pub(crate) fn reset(&mut self, revision: Revision) -> io::Result<()> {
        match self.format {
            Format::Table => writeln!(self.out, "{revision:>8}  reset     the difference follows")?,
            Format::Json | Format::Jsonl => self.json(&Record::reset(revision))?,
            Format::Plain => {}
        }
        self.out.flush()
    }

    /// Something that is not an entry: a line for people, an object for programs, a bare word for pipes.
    pub(crate) fn fact(
        &mut self,
        table: impl std::fmt::Display,
        record: &impl Serialize,
        plain: impl std::fmt::Display,
    ) -> io::Result<()> {
        match self.format {
            Format::Table => writeln!(self.out, "{table}")?,
            Format::Json | Format::Jsonl => self.json(record)?,
            Format::Plain => writeln!(self.out, "{plain}")?,
        }
        self.out.flush()
    }

    /// Many of such: columns for people; `plain` is the first column.
    pub(crate) fn rows<R: Serialize, const N: usize>(
        &mut self,
        columns: &[&str; N],
        items: &[(R, [String; N])],
    ) -> io::Result<()> {
        match self.format {
            Format::Table => {
                let rows: Vec<_> = items.iter().map(|(_, row)| row.clone()).collect();
                self.table(columns, &rows)?;
            }
            Format::Json => self.json(&items.iter().map(|(record, _)| record).collect::<Vec<_>>())?,
            Format::Jsonl => items.iter().try_for_each(|(record, _)| self.json(record))?,
            Format::Plain => items.iter().try_for_each(|(_, row)| writeln!(self.out, "{}", row[0]))?,
        }
        self.out.flush()
    }

    fn json(&mut self, record: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, record)?;
        self.out.write_all(b"\n")
    }

    fn table<const N: usize>(&mut self, columns: &[&str; N], rows: &[[String; N]]) -> io::Result<()> {
        let mut widths = columns.map(|column| column.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = |cells: &[String; N]| {
            let text: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(self.out, "{}", text.join("  ").trim_end())
        };
        line(&columns.map(str::to_owned))?;
        rows.iter().try_for_each(line)
    }
}

const ENTRY_COLUMNS: [&str; 6] = ["KEY", "VALUE", "CREATED", "MODIFIED", "VERSION", "LEASE"];

fn entry_row(entry: &Entry) -> [String; 6] {
    [
        shown(entry.key.as_bytes()),
        shown(&entry.value),
        entry.create_revision.to_string(),
        entry.mod_revision.to_string(),
        entry.version.to_string(),
        entry.lease.map_or_else(|| "-".to_owned(), |lease| lease.to_string()),
    ]
}

/// Characters of a value that a table shows: a line of a terminal and a half.
const SHOWN_CHARS_MAX: usize = 120;

/// Bytes as a table shows them: text without what a terminal obeys or hides, cut where it gets long; else how many there are.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("<{} bytes>", bytes.len());
    };
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        if c.is_control() || is_unseen(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Whether a character turns the direction of the text around it (UAX #9, 2.1 to 2.6), or takes no room: two keys that differ
/// only in such characters would look the same.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use hither::{Key, Previous, Version};

    use super::*;

    fn entry(key: &str, value: &'static [u8]) -> Entry {
        Entry {
            key: Key::from(key),
            value: value.into(),
            create_revision: Revision(3),
            mod_revision: Revision(7),
            version: Version(2),
            lease: None,
        }
    }

    fn printed(format: Format, print: impl FnOnce(&mut Printer<Vec<u8>>)) -> Vec<u8> {
        let mut printer = Printer { format, terminal: false, out: Vec::new() };
        print(&mut printer);
        printer.out
    }

    #[test]
    fn plain_prints_the_value_byte_for_byte() {
        let out = printed(Format::Plain, |printer| printer.entry(&entry("a", b"\x00\xff")).unwrap());
        assert_eq!(out, b"\x00\xff");
    }

    #[test]
    fn a_list_is_one_document_in_json_and_a_line_each_in_jsonl() {
        let entries = [entry("a", b"1"), entry("b", b"2")];
        let out = printed(Format::Json, |printer| printer.entries(&entries, true).unwrap());
        let parsed: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
        assert_eq!(parsed.len(), 2);
        let out = printed(Format::Jsonl, |printer| printer.entries(&entries, true).unwrap());
        let lines = String::from_utf8(out).unwrap();
        let keys: Vec<String> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn a_plain_list_is_its_values_or_its_keys() {
        let entries = [entry("a", b"1"), entry("b", b"2")];
        assert_eq!(printed(Format::Plain, |printer| printer.entries(&entries, true).unwrap()), b"1\n2\n");
        assert_eq!(printed(Format::Plain, |printer| printer.entries(&entries, false).unwrap()), b"a\nb\n");
    }

    #[test]
    fn a_list_of_nothing_is_an_empty_document() {
        assert_eq!(printed(Format::Json, |printer| printer.entries(&[], true).unwrap()), b"[]\n");
        assert_eq!(printed(Format::Jsonl, |printer| printer.entries(&[], true).unwrap()), b"");
    }

    #[test]
    fn a_table_lines_up_and_shows_no_control_characters() {
        let out = printed(Format::Table, |printer| {
            printer.entries(&[entry("long/key", b"a\x1b[2J"), entry("b", b"\xff\xfe")], true).unwrap();
        });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "KEY       VALUE       CREATED  MODIFIED  VERSION  LEASE\n\
             long/key  a\\u{1b}[2J  3        7         2        -\n\
             b         <2 bytes>   3        7         2        -\n"
        );
    }

    #[test]
    fn a_table_shows_what_turns_text_around_or_takes_no_room() {
        assert_eq!(shown("a/\u{202e}tuo-nruter".as_bytes()), "a/\\u{202e}tuo-nruter");
        assert_eq!(shown("pay\u{200b}ments\u{feff}".as_bytes()), "pay\\u{200b}ments\\u{feff}");
        let seen = "größe/สวัสดี/שלום/ключ";
        assert_eq!(shown(seen.as_bytes()), seen, "letters of any script stay");
    }

    #[test]
    fn a_plain_event_is_its_value_and_a_deletion_an_empty_line() {
        let out = printed(Format::Plain, |printer| {
            printer.event(&Event::Put { entry: entry("a", b"on"), previous: Previous::NotAsked }).unwrap();
            printer
                .event(&Event::Delete { key: "a".into(), revision: Revision(8), previous: Previous::NotAsked })
                .unwrap();
        });
        assert_eq!(out, b"on\n\n");
    }
}
