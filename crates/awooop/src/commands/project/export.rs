//! `awooop project export`: the project as files, one a kind of row, for its owner to keep.
//!
//! Lines are written as they come, byte by byte as the server has them, so that the audit's files fit `awooop audit
//! verify`. `MANIFEST.json` is written last, once the server's last line has said how many rows there were: a directory
//! without it is no whole export. Only their owner can read the files.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::ProjectExportArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, table};

const MANIFEST: &str = "MANIFEST.json";

/// Carries out the command.
pub(super) async fn run(args: ProjectExportArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?.in_project_or_own(args.id.as_deref())?;
    let is_made = prepare(&args.to)?;
    let mut files = Files { directory: args.to.clone(), open: BTreeMap::new(), begin: None, end: None };
    let mut failed = None;
    let read = client.lines(&["v1", "platform", "export"], &[], |line| {
        failed = files.take(line).err();
        failed.is_none()
    });
    let read = read.await;
    if let Some(reason) = failed {
        return Err(not_whole(&args.to, reason));
    }
    if let Err(error) = read {
        if is_made {
            // where the server refused there is nothing in it; else it stays, without a manifest
            let _ = std::fs::remove_dir(&args.to);
        }
        return Err(error);
    }
    let manifest = files.finish().map_err(|reason| not_whole(&args.to, reason))?;
    let row = |file: &Value| ["name", "rows", "bytes"].iter().map(|&f| cell(&file[f])).collect();
    let rows: Vec<Vec<String>> = manifest["files"].as_array().into_iter().flatten().map(row).collect();
    let to = args.to.display();
    let text = table(&["FILE", "ROWS", "BYTES"], &rows);
    let check = format!(
        "check its audit anywhere:  awooop audit verify --export {to}/audit_events.ndjson --seals {to}/audit_seals.ndjson --public-key …"
    );
    Ok(Reply::done(manifest, text).with_note(check))
}

fn not_whole(directory: &Path, reason: String) -> Failure {
    Failure::InTheWay {
        message: format!("the export is not whole: {reason}"),
        hint: format!(
            "there is no {MANIFEST} in {}: remove the directory and try again",
            directory.display()
        ),
    }
}

/// Makes the directory, or finds it empty. Says whether it made it.
fn prepare(directory: &Path) -> Result<bool, Failure> {
    let bad = |error: std::io::Error| Failure::invalid(format!("{}: {error}", directory.display()));
    match std::fs::read_dir(directory) {
        Ok(entries) => match entries.count() {
            0 => Ok(false),
            _ => Err(Failure::invalid(format!("{} is not empty", directory.display()))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map(|()| true).map_err(bad)
        }
        Err(error) => Err(bad(error)),
    }
}

/// The files of an export that is under way.
struct Files {
    directory: PathBuf,
    open: BTreeMap<String, OneFile>,
    begin: Option<Value>,
    end: Option<Value>,
}

struct OneFile {
    file: BufWriter<File>,
    hash: Sha256,
    rows: u64,
    bytes: u64,
}

impl Files {
    /// Takes a line of the answer.
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let (kind, row) = split(line).ok_or_else(|| match serde_json::from_slice::<Value>(line) {
            Ok(document) if document["error"].is_object() => {
                format!("the server broke off: {}", cell(&document["error"]["detail"]))
            }
            _ => "the server sent a line that is none of an export".to_owned(),
        })?;
        let document = || serde_json::from_slice(row).map(Some).map_err(|e| e.to_string());
        match kind {
            "begin" => self.begin = document()?,
            "end" => self.end = document()?,
            _ => self.file(kind)?.write(row)?,
        }
        Ok(())
    }

    fn file(&mut self, kind: &str) -> Result<&mut OneFile, String> {
        if !self.open.contains_key(kind) {
            let path = self.directory.join(format!("{kind}.ndjson"));
            let file = private(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let file = OneFile { file: BufWriter::new(file), hash: Sha256::new(), rows: 0, bytes: 0 };
            self.open.insert(kind.to_owned(), file);
        }
        self.open.get_mut(kind).ok_or_else(|| "a file that was opened is gone".to_owned())
    }

    /// Compares what came with what the server says it sent, and writes the manifest.
    fn finish(mut self) -> Result<Value, String> {
        let end = self.end.take().ok_or("the answer ended before its last line")?;
        let mut manifest = self.begin.take().ok_or("the answer has no first line")?;
        let said: BTreeMap<String, u64> =
            serde_json::from_value(end["rows"].clone()).map_err(|e| e.to_string())?;
        for kind in said.keys() {
            if !is_name(kind) {
                return Err("the server named a kind that can be no file".to_owned());
            }
            self.file(kind)?;
        }
        let mut listed = Vec::new();
        for (kind, one) in self.open {
            if said.get(&kind) != Some(&one.rows) {
                return Err(format!("{} rows of {kind} came, the server sent another number", one.rows));
            }
            listed.push(one.close(&kind)?);
        }
        manifest["files"] = json!(listed);
        let (path, ready) = (self.directory.join(".MANIFEST.json.part"), self.directory.join(MANIFEST));
        let written = private(&path).and_then(|mut file| {
            file.write_all(format!("{manifest:#}\n").as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&path, &ready)?;
            File::open(&self.directory)?.sync_all()
        });
        written.map_err(|e| format!("{}: {e}", ready.display()))?;
        Ok(manifest)
    }
}

impl OneFile {
    fn write(&mut self, row: &[u8]) -> Result<(), String> {
        for part in [row, b"\n"] {
            self.file.write_all(part).map_err(|e| e.to_string())?;
            self.hash.update(part);
            self.bytes += part.len() as u64;
        }
        self.rows += 1;
        Ok(())
    }

    fn close(self, kind: &str) -> Result<Value, String> {
        let file = self.file.into_inner().map_err(|e| e.to_string())?;
        file.sync_all().map_err(|e| e.to_string())?;
        let sha256 = awooop_core::json::hex(&self.hash.finalize());
        Ok(
            json!({"name": format!("{kind}.ndjson"), "rows": self.rows, "bytes": self.bytes, "sha256": sha256}),
        )
    }
}

/// A new file that only its owner can read.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The kind and the row of a line, the row as it stands there.
fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let rest = line.strip_prefix(b"{\"kind\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let (kind, rest) = rest.split_at(end);
    let row = rest.strip_prefix(b"\",\"row\":")?.strip_suffix(b"}")?;
    let kind = std::str::from_utf8(kind).ok().filter(|kind| is_name(kind))?;
    Some((kind, row))
}

/// What may become a file's name.
fn is_name(kind: &str) -> bool {
    (1..=60).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_its_row_begins_and_nothing_else_is_a_line() {
        let (kind, row) = split(br#"{"kind":"runs","row":{"a": 1}}"#).unwrap();
        assert_eq!((kind, row), ("runs", &br#"{"a": 1}"#[..]));
        for bad in [
            r#"{"kind":"../runs","row":{}}"#,
            r#"{"kind":"","row":{}}"#,
            r#"{"kind":"Runs","row":{}}"#,
            r#"{"row":{},"kind":"runs"}"#,
            r#"{"kind":"runs","row":{}"#.trim_end_matches('}'),
            r#"{"error":{"detail":"x"}}"#,
            "",
        ] {
            assert!(split(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_export_without_its_last_line_or_with_another_number_of_rows_has_no_manifest() {
        let lines = |last: &str| {
            [
                r#"{"kind":"begin","row":{"project_id":"shop"}}"#,
                r#"{"kind":"runs","row":{"run_id":"1"}}"#,
                last,
            ]
            .map(str::to_owned)
        };
        for (last, is_whole) in [
            (r#"{"kind":"end","row":{"rows":{"runs":1,"keys":0}}}"#, true),
            (r#"{"kind":"end","row":{"rows":{"runs":2}}}"#, false),
            (r#"{"kind":"end","row":{"rows":{"keys":0}}}"#, false),
            (r#"{"kind":"runs","row":{"run_id":"2"}}"#, false),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let to = directory.path().to_owned();
            let mut files = Files { directory: to.clone(), open: BTreeMap::new(), begin: None, end: None };
            lines(last).iter().for_each(|line| files.take(line.as_bytes()).unwrap());
            assert_eq!(files.finish().is_ok(), is_whole, "{last}");
            assert_eq!(to.join(MANIFEST).exists(), is_whole, "{last}");
        }
    }
}
