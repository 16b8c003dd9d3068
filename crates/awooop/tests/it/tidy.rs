//! The architecture's police: what the sources may not do, read from the sources.
//!
//! Rooms depend only on the rooms below them, SQL is spoken in one room, every file says what it is, every
//! code has its page, and files stay small enough to read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use awooop_core::ErrorCode;

use crate::support::root;

/// Each room and the rooms it may know.
const ROOMS: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("redact", &[]),
    ("store", &["core", "redact"]),
    ("gateway", &["core", "redact", "store"]),
    ("worker", &["core", "redact", "store", "gateway"]),
    ("http", &["core", "redact", "store", "gateway"]),
    ("awooop", &["core", "redact", "store", "gateway", "worker", "http"]),
    ("journeys", &["core", "redact", "store"]),
];
/// Crates a room may not use at all, with the room they belong to.
const KEPT_OUT: [(&str, &[&str]); 3] = [
    // jiff is its calendar, for schedules; the clock in it is kept out by the test below
    ("core", &["tokio", "tokio-postgres", "reqwest", "axum"]),
    ("redact", &["tokio", "tokio-postgres", "reqwest", "axum", "jiff"]),
    ("worker", &["axum", "tokio-postgres", "deadpool-postgres"]),
];
const MOST_LINES: usize = 700;

/// Every file below a directory with this ending.
pub(crate) fn files(below: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(below) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let roots = [root().join("crates"), root().join("examples")];
    let paths = roots.iter().flat_map(|root| files(root, ".rs"));
    let read: Vec<_> = paths.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    assert!(read.len() > 50, "the sources were found");
    read
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The names of a manifest's dependencies, development ones left out.
fn dependencies(room: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("crates").join(room).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let table = manifest.get("dependencies").and_then(toml::Value::as_table);
    table.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    let there: BTreeSet<String> =
        crates.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(there, ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect(), "every room has its rule");
    for (room, may_know) in ROOMS {
        for name in dependencies(room) {
            if let Some(other) = name.strip_prefix("awooop-") {
                assert!(may_know.contains(&other), "{room} may not know {other}");
            }
        }
    }
    for (room, kept_out) in KEPT_OUT {
        let used = dependencies(room);
        for name in kept_out {
            assert!(!used.contains(*name), "{room} may not use {name}");
        }
    }
    for room in ["core", "redact", "gateway", "worker", "http", "awooop"] {
        let used = dependencies(room);
        for driver in ["tokio-postgres", "deadpool-postgres", "refinery"] {
            assert!(!used.contains(driver), "only store speaks to the database, not {room}");
        }
    }
}

#[test]
fn core_never_asks_what_time_it_is() {
    let core = root().join("crates/core/src");
    let is_test = |path: &Path| path.ends_with("tests.rs");
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with(&core) && !is_test(path)) {
        for clock in ["::now(", "SystemTime", "Instant", "::system("] {
            assert!(!text.contains(clock), "{} knows a clock: {clock}", shown(path));
        }
    }
}

/// Two words that together are a statement and in no sentence of ours.
const STATEMENTS: [(&str, &str); 8] = [
    ("SELECT ", " FROM "),
    ("INSERT INTO ", ""),
    ("UPDATE ", " SET "),
    ("DELETE FROM ", ""),
    ("CREATE TABLE", ""),
    ("ALTER TABLE", ""),
    ("FOR UPDATE", ""),
    ("ON CONFLICT", ""),
];

#[test]
fn sql_is_spoken_only_in_store() {
    for room in ["core", "redact", "gateway", "worker", "http", "awooop"] {
        for path in files(&root().join("crates").join(room).join("src"), ".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for (head, tail) in STATEMENTS {
                let found = text.lines().any(|line| {
                    line.split_once(head).is_some_and(|(_, rest)| rest.contains(tail)) && !is_comment(line)
                });
                assert!(!found, "{} speaks SQL: {head}", shown(&path));
            }
        }
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn every_file_says_what_it_is() {
    let is_header = |line: &&str| line.starts_with("//!");
    let says_something = |text: &str| text.lines().take_while(is_header).map(str::len).sum::<usize>() > 15;
    let without: Vec<String> =
        sources().iter().filter(|(_, text)| !says_something(text)).map(|(path, _)| shown(path)).collect();
    assert!(without.is_empty(), "files without a header: {without:#?}");
}

#[test]
fn files_stay_readable_and_nothing_is_left_for_later() {
    // put together, so that this file does not find itself
    let marks =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat(), ["todo", "!("].concat()];
    let mut found = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > MOST_LINES {
            found.push(format!("{} has {lines} lines", shown(&path)));
        }
        for mark in &marks {
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '!' && c != '(');
            if words.any(|word| word == mark) {
                found.push(format!("{} holds {mark}", shown(&path)));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_code_has_its_page_and_every_page_its_code() {
    let directory = root().join("docs/errors");
    let pages: BTreeSet<String> = files(&directory, ".md")
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("E-"))
        .collect();
    let codes: BTreeSet<String> = ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(pages, codes);
    for code in ErrorCode::ALL {
        let text = std::fs::read_to_string(directory.join(format!("{code}.md"))).unwrap();
        let head = text.lines().next().unwrap_or_default();
        assert!(head.starts_with('#') && head.contains(code.as_str()), "{code}.md begins with its code");
        assert!(text.contains(&code.status().to_string()), "{code}.md names its status {}", code.status());
    }
}

#[test]
fn promises_name_tests_that_exist() {
    let tests: BTreeSet<String> = files(&root().join("crates"), ".rs")
        .iter()
        .flat_map(|path| {
            let (text, file) = (std::fs::read_to_string(path).unwrap(), path.file_stem().unwrap());
            let name =
                |line: &str| Some(line.trim_start().split_once("fn ")?.1.split_once("()")?.0.to_owned());
            let file = file.to_string_lossy().into_owned();
            text.lines().filter_map(name).map(|test| format!("{file}::{test}")).collect::<Vec<_>>()
        })
        .collect();
    let mut promised = 0;
    for page in files(&root().join("docs/security"), ".md") {
        let text = std::fs::read_to_string(&page).unwrap();
        for word in text.split('`').skip(1).step_by(2).filter(|word| word.contains("::")) {
            promised += 1;
            assert!(tests.contains(word), "{}: there is no test {word}", shown(&page));
        }
    }
    assert!(promised > 20, "the pages were read");
}

#[test]
fn migrations_lift_forced_row_security_only_for_themselves() {
    for path in files(&root().join("crates/store/migrations"), ".sql") {
        let text = std::fs::read_to_string(&path).unwrap();
        let lifted = text.matches("NO FORCE ROW LEVEL SECURITY").count();
        let forced = text.matches("FORCE ROW LEVEL SECURITY").count() - lifted;
        assert!(lifted <= forced, "{} lifts more than it forces again", shown(&path));
    }
}
