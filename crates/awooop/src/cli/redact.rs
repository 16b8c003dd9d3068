//! The words of `awooop redact`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `awooop redact`.
#[derive(Args)]
#[command(after_help = "Examples:
  journalctl -u shop | awooop redact --report > shop.log
  awooop redact --check --report=json dump.sql 2> findings.ndjson
  awooop redact --personal tag --tag-key-file key --pattern 'ORDER_NO=\\bEW-[0-9]{8}\\b' < chat.txt

Exit codes: 0 done, 1 with --check: something was found, 2 usage or a file that cannot be read.")]
pub(crate) struct RedactArgs {
    /// Files to read, one after the other; without any, or for `-`, standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Say on stderr what was found: a count a class for people, or a JSON document a line for programs
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(crate) report: Option<ReportFormat>,
    /// What is done with personal data; credentials are always masked
    #[arg(long, value_enum, value_name = "ACTION", default_value = "mask")]
    pub(crate) personal: Personal,
    /// Tags are made under the bytes of this file, so that they are the same next time; without it under a
    /// key that is forgotten
    #[arg(long, value_name = "PATH")]
    pub(crate) tag_key_file: Option<PathBuf>,
    /// Mask also what this regular expression matches; may be given several times
    #[arg(long, value_name = "NAME=REGEX", value_parser = named_pattern)]
    pub(crate) pattern: Vec<(String, String)>,
    /// Let this value of personal data stay: a value, `@example.org`, or a network such as 10.0.0.0/8
    #[arg(long, value_name = "VALUE")]
    pub(crate) allow: Vec<String>,
    /// Print no text; end with 1 if anything was found
    #[arg(long)]
    pub(crate) check: bool,
}

/// What is done with personal data.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Personal {
    /// It stays.
    Allow,
    /// `[EMAIL]` stands in its place.
    Mask,
    /// `[EMAIL:0123456789ab]` stands in its place; equal values have equal tags.
    Tag,
}

/// How findings are reported.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// A line a class.
    Text,
    /// A JSON document a finding, then one with the counts.
    Json,
}

fn named_pattern(text: &str) -> Result<(String, String), String> {
    let (name, regex) = text.split_once('=').ok_or("expected NAME=REGEX")?;
    Ok((name.to_owned(), regex.to_owned()))
}
