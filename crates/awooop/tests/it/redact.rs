//! `awooop redact`: its words, and an attack from outside.
//!
//! The attack's generator and judge are Python and share no table with the redactor (`tests/redact`); run by hand with
//! another seed they look for more: `python tests/redact/main.py check target/debug/awooop --seed 7 --count 50000`.
//! Other seeds find one value in some thirty thousand that only chance makes look like words; the figures are in
//! `bench/results/redact.md`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{python, root};

#[test]
fn nothing_planted_survives_and_nothing_innocent_is_masked() {
    let script = root().join("crates/awooop/tests/redact/main.py");
    let mut command = Command::new(python());
    command.arg("-B").arg(script).args(["check", env!("CARGO_BIN_EXE_awooop"), "--count", "12000"]);
    let output = command.output().expect("the test's Python runs");
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn redact(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_awooop"));
    command.arg("redact").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program was built");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    // A program that refuses its arguments does not read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

const TEXT: &str = "password=Hunter2Hunter\n訂單 EW-20260504 給 ann@example.org 與 Ann@example.org\n";

#[test]
fn text_goes_through_and_what_was_found_is_told_aside() {
    let output = redact(&["--report=json", "--pattern", r"ORDER_NO=\bEW-[0-9]{8}\b"], TEXT);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(said(&output.stdout), "password=[SECRET]\n訂單 [ORDER_NO] 給 [EMAIL] 與 [EMAIL]\n");
    let lines: Vec<Value> = said(&output.stderr)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document a line"))
        .collect();
    assert_eq!(lines[0], json!({"class": "SECRET", "start": 9, "end": 22, "line": 1, "action": "mask"}));
    assert_eq!(lines[1]["line"], 2);
    assert_eq!(lines.last().expect("the counts")["counts"], json!({"EMAIL": 2, "ORDER_NO": 1, "SECRET": 1}));
    assert!(!said(&output.stderr).contains("Hunter2"));
    let told = said(&redact(&["--report"], TEXT).stderr);
    assert!(told.contains("3 found in") && told.contains("2  EMAIL"), "{told}");
}

#[test]
fn personal_data_stays_is_masked_or_tagged_and_credentials_are_always_masked() {
    let allowed = said(&redact(&["--personal", "allow"], TEXT).stdout);
    assert!(allowed.contains("ann@example.org") && allowed.contains("[SECRET]"), "{allowed}");
    let tagged = said(&redact(&["--personal", "tag"], TEXT).stdout);
    let tags: Vec<&str> = tagged.split([' ', '\n']).filter(|word| word.starts_with("[EMAIL:")).collect();
    assert!(tags.len() == 2 && tags[0] == tags[1], "{tagged}");
    let listed = said(&redact(&["--allow", "@example.org", "--allow", "Hunter2Hunter"], TEXT).stdout);
    assert!(listed.contains("ann@example.org") && listed.contains("[SECRET]"), "{listed}");
}

#[test]
fn a_check_prints_no_text_and_says_by_its_exit_code_whether_something_is_there() {
    let found = redact(&["--check"], TEXT);
    assert_eq!((found.status.code(), said(&found.stdout)), (Some(1), String::new()));
    assert_eq!(redact(&["--check"], "nothing at all\n").status.code(), Some(0));
}

#[test]
fn wrong_words_and_files_that_are_not_there_are_usage() {
    for args in [
        &["--pattern", "order=x"][..],
        &["--pattern", "ORDER_NO=("],
        &["--personal", "block"],
        &["/nonexistent/file"],
        &["--tag-key-file", "/nonexistent/key"],
    ] {
        let output = redact(args, TEXT);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}
