//! `awooop redact`: the redactor on one's own files, from stdin to stdout, without a server.
//!
//! Text goes to stdout, everything about it to stderr. Nothing of a find is ever printed but its class and place.
//! Bytes that are no UTF-8 become U+FFFD, and offsets count in the text that came of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use awooop_redact::{Action, Redactor, Rules, TagKey};
use serde_json::json;

use crate::cli::{Personal, RedactArgs, ReportFormat};
use crate::failure::Exit;
use crate::output::note;

/// Redacts what it is given.
pub(crate) fn run(args: &RedactArgs) -> ExitCode {
    match redact(args) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            note(&format!("error: {problem}"));
            Exit::Invalid.into()
        }
    }
}

fn redact(args: &RedactArgs) -> Result<Exit, String> {
    let redactor = Redactor::with(rules(args)?);
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin[..] } else { &args.files };
    let mut report =
        Report { format: args.report, bytes: 0, counts: BTreeMap::new(), names_files: files.len() > 1 };
    for file in files {
        let text = read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let redacted = redactor.redact(&text);
        report.take(&redactor, file, &text, &redacted.findings);
        if !args.check && std::io::stdout().lock().write_all(redacted.text.as_bytes()).is_err() {
            // The reader had enough.
            break;
        }
    }
    report.end();
    Ok(if args.check && !report.counts.is_empty() { Exit::Failed } else { Exit::Done })
}

fn rules(args: &RedactArgs) -> Result<Rules, String> {
    let personal = match args.personal {
        Personal::Allow => Action::Allow,
        Personal::Mask => Action::Mask,
        Personal::Tag => Action::Tag,
    };
    let mut rules = Rules::everything(personal).tag_key(TagKey::new(tag_secret(args)?));
    // What is a secret of one's own is treated as personal data is, but never let through.
    let own = if personal == Action::Tag { Action::Tag } else { Action::Mask };
    for (name, regex) in &args.pattern {
        rules = rules.pattern(name, regex, own).map_err(|error| format!("--pattern {name}: {error}"))?;
    }
    Ok(args.allow.iter().fold(rules, |rules, value| rules.allow(value)))
}

/// The key file's bytes, or random ones.
fn tag_secret(args: &RedactArgs) -> Result<Vec<u8>, String> {
    let Some(path) = &args.tag_key_file else { return Ok(rand::random::<[u8; 32]>().to_vec()) };
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() < 16 {
        return Err(format!("{}: a key has at least 16 bytes", path.display()));
    }
    Ok(bytes)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(file)?;
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// What was found, for stderr.
struct Report {
    format: Option<ReportFormat>,
    bytes: usize,
    counts: BTreeMap<String, u64>,
    /// With several files each finding says in which it is; places count from the beginning of its file.
    names_files: bool,
}

impl Report {
    fn take(&mut self, redactor: &Redactor, file: &Path, text: &str, findings: &[awooop_redact::Finding]) {
        let (mut line, mut counted) = (1, 0);
        for found in findings {
            *self.counts.entry(found.class.to_string()).or_default() += 1;
            if self.format == Some(ReportFormat::Json) {
                line += text.as_bytes()[counted..found.start].iter().filter(|b| **b == b'\n').count();
                counted = found.start;
                let action = match redactor.rules().action(found.class) {
                    Action::Tag => "tag",
                    _ => "mask",
                };
                let (class, start, end) = (found.class.as_str(), found.start, found.end);
                let mut finding =
                    json!({"class": class, "start": start, "end": end, "line": line, "action": action});
                if self.names_files {
                    finding["file"] = json!(file.to_string_lossy());
                }
                tell(&finding.to_string());
            }
        }
        self.bytes += text.len();
    }

    fn end(&self) {
        let findings: u64 = self.counts.values().sum();
        match self.format {
            None => {}
            Some(ReportFormat::Json) => {
                tell(&json!({"bytes": self.bytes, "findings": findings, "counts": self.counts}).to_string());
            }
            Some(ReportFormat::Text) => {
                tell(&format!("{findings} found in {} bytes", self.bytes));
                for (class, count) in &self.counts {
                    tell(&format!("{count:>8}  {class}"));
                }
            }
        }
    }
}

fn tell(line: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
