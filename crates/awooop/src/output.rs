//! What a command hands back, and the one place that writes to stdout.
//!
//! A command builds a [`Reply`] and never prints, so `--json` prints exactly one document by construction:
//! the reply's, or `{"error":…}`. Text that came from a model or a server is stripped of control
//! characters before it reaches a terminal. A closed pipe on stdout is no error: the reader had enough.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::failure::{Exit, Failure};

/// A command's result in both shapes.
pub(crate) struct Reply {
    /// For `--json`.
    pub(crate) document: Value,
    /// For a person, on stdout.
    pub(crate) text: String,
    /// For a person, on stderr, in either shape.
    pub(crate) notes: Vec<String>,
    /// How the process ends.
    pub(crate) exit: Exit,
}

impl Reply {
    /// A result without anything to remark.
    pub(crate) fn done(document: Value, text: impl Into<String>) -> Self {
        Self { document, text: text.into(), notes: Vec::new(), exit: Exit::Done }
    }

    /// The same with a line for stderr.
    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// Prints what a command came to and gives the exit code.
pub(crate) fn finish(result: Result<Reply, Failure>, is_json: bool) -> ExitCode {
    match result {
        Ok(reply) => {
            if is_json {
                write_document(&reply.document);
            } else {
                write_text(&reply.text);
            }
            reply.notes.iter().for_each(|line| note(line));
            reply.exit.into()
        }
        Err(failure) => {
            if is_json {
                write_document(&json!({ "error": failure.document() }));
            }
            failure.lines().iter().for_each(|line| note(line));
            failure.exit().into()
        }
    }
}

/// Writes one line to stderr. What it repeats of settings, files and answers may hold a credential: it is masked.
pub(crate) fn note(line: &str) {
    let line = crate::server::logging::without_secrets(line);
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(&line));
}

/// Writes an address to open to stderr, as it is: masked it would lead nowhere. It is of our own making and its parts
/// are worth nothing without what this process keeps.
pub(crate) fn say_address(intro: &str, address: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{}\n\n  {}\n", printable(intro), printable(address));
}

/// Writes one JSON document to stdout.
pub(crate) fn write_document(document: &Value) {
    write_raw(&format!("{document:#}\n"));
}

fn write_text(text: &str) {
    let text = printable(text);
    if !text.is_empty() {
        write_raw(&format!("{}\n", text.trim_end_matches('\n')));
    }
}

/// Writes to stdout as it is; for text of our own making, such as a completion script.
pub(crate) fn write_raw(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe means that the reader had enough.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Text without control characters, so that no answer can steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|&c| c == '\n' || c == '\t' || !c.is_control()).collect()
}

/// Lays rows out in columns, each as wide as its widest cell; the last column is ragged.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(header.iter().map(|&h| h.to_owned()).collect())
        .chain(rows.iter().cloned())
        .map(|row: Vec<String>| row.iter().map(|cell| printable(cell).replace(['\n', '\t'], " ")).collect())
        .collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:<w$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A field as a cell: text as it is, nothing as `-`, anything else as JSON.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_are_gone() {
        let rows = vec![vec!["a\u{1b}[2J".to_owned(), "x".to_owned()], vec!["longer".into(), "y\nz".into()]];
        assert_eq!(table(&["N", "V"], &rows), "N       V\na[2J    x\nlonger  y z".to_owned());
    }
}
