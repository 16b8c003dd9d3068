//! What a migration would do, read from its own text: its first line says what it is for, its statements which of the
//! tables that are there already are locked, read through, rewritten or changed. Nothing is run for it.
//!
//! The judgement is on the safe side: whatever alters a table counts as a lock of it. What lies within the body of a
//! function is not looked at, since a migration that defines one does not run it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// One migration that would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedMigration {
    /// The schema's version after it.
    pub version: i64,
    /// Its file's name without the number.
    pub name: String,
    /// The first line of its file.
    pub what: String,
    /// What it does to tables that are there before it, by table. Empty when no server notices it.
    pub tables: BTreeMap<String, Effect>,
    /// May servers of the version before it start again after it? Those that run go on in any case.
    pub keeps_older_servers: bool,
}

/// What is done to a table, the mildest first. Each one means those before it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Locked for a moment.
    Locks,
    /// Locked, for writing at least, while all of it is read.
    Scans,
    /// Rows are changed, deleted or added.
    Writes,
    /// Locked while all of it is written anew.
    Rewrites,
}

impl Effect {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Locks => "locks for a moment",
            Effect::Scans => "locks while it reads all of",
            Effect::Writes => "changes rows of",
            Effect::Rewrites => "locks while it writes anew all of",
        }
    }
}

/// Reads a migration.
pub(super) fn planned(version: i64, name: &str, sql: &str) -> PlannedMigration {
    let first = sql.lines().find_map(|line| line.trim().strip_prefix("--"));
    let mut tables: BTreeMap<String, Effect> = BTreeMap::new();
    let mut made = BTreeSet::new();
    for statement in statements(sql) {
        match read(&statement) {
            Some(Reading::Makes(table)) => {
                made.insert(table);
            }
            Some(Reading::Does(table, effect)) if !made.contains(&table) => {
                let known = tables.entry(table).or_insert(effect);
                *known = effect.max(*known);
            }
            Some(Reading::Does(..)) | None => {}
        }
    }
    let what = first.unwrap_or_default().trim().to_owned();
    let keeps_older_servers = !sql.contains("FUNCTION awooop.compatible_from()");
    PlannedMigration { version, name: name.to_owned(), what, tables, keeps_older_servers }
}

/// What a statement is to tables.
enum Reading {
    Makes(String),
    Does(String, Effect),
}

/// Statements as words in lower case, without comments, quoted text and bodies of functions.
fn statements(sql: &str) -> Vec<Vec<String>> {
    // the parts with an odd number lie between dollar signs
    let outside = sql.split("$$").step_by(2).collect::<Vec<_>>().join(" ");
    let clear: Vec<&str> = outside.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let unquoted = clear.join("\n").split('\'').step_by(2).collect::<Vec<_>>().join(" ");
    let words = |statement: &str| -> Vec<String> {
        let parted = statement.replace(['(', ')', ','], " ");
        parted.split_whitespace().map(str::to_lowercase).collect()
    };
    unquoted.split(';').map(words).filter(|words| !words.is_empty()).collect()
}

fn read(statement: &[String]) -> Option<Reading> {
    let words: Vec<&str> = statement.iter().map(String::as_str).collect();
    let has = |wanted: &[&str]| words.windows(wanted.len()).any(|found| found == wanted);
    let name = |at: usize| words.get(at).map(|word| word.trim_start_matches("awooop.").to_owned());
    match words.as_slice() {
        ["create", "table", ..] | ["create", "unlogged", "table", ..] => {
            let at = words.iter().position(|word| *word == "table")? + 1;
            let skipped = if has(&["if", "not", "exists"]) { 3 } else { 0 };
            Some(Reading::Makes(name(at + skipped)?))
        }
        ["alter", "table", ..] => {
            let effect = if has(&["type"]) && has(&["alter", "column"])
                || has(&["generated"])
                || words.iter().any(|word| word.starts_with("gen_random_uuid"))
            {
                Effect::Rewrites
            } else if has(&["add", "constraint"]) && !has(&["not", "valid"]) || has(&["set", "not", "null"]) {
                Effect::Scans
            } else {
                Effect::Locks
            };
            let skipped = if has(&["if", "exists"]) && words.get(2) == Some(&"if") { 2 } else { 0 };
            Some(Reading::Does(name(2 + skipped)?, effect))
        }
        ["create", "index", ..] | ["create", "unique", "index", ..] => {
            let at = words.iter().position(|word| *word == "on")? + 1;
            Some(Reading::Does(name(at)?, Effect::Scans))
        }
        ["create", "policy", ..] | ["alter", "policy", ..] => {
            let at = words.iter().position(|word| *word == "on")? + 1;
            Some(Reading::Does(name(at)?, Effect::Locks))
        }
        // it makes policies where it has to, and each locks its table
        ["call", "admit_retention", ..] | ["call", "awooop.admit_retention", ..] => {
            Some(Reading::Does("every table of projects".to_owned(), Effect::Locks))
        }
        ["drop", "table", ..] => Some(Reading::Does(name(2)?, Effect::Locks)),
        ["update", ..] => Some(Reading::Does(name(1)?, Effect::Writes)),
        ["delete", "from", ..] | ["insert", "into", ..] => Some(Reading::Does(name(2)?, Effect::Writes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &[(&str, Effect)]) {
        let found = planned(7, "x", sql);
        let expected: BTreeMap<String, Effect> =
            expected.iter().map(|(table, effect)| ((*table).to_owned(), *effect)).collect();
        assert_eq!(found.tables, expected, "{sql}");
    }

    #[test]
    fn what_a_statement_does_to_a_table_that_is_there_is_told() {
        check("ALTER TABLE a ADD COLUMN b text;", &[("a", Effect::Locks)]);
        check("alter table awooop.a alter column b type bigint", &[("a", Effect::Rewrites)]);
        check("ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0)", &[("a", Effect::Scans)]);
        check("ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0) NOT VALID", &[("a", Effect::Locks)]);
        check("CREATE UNIQUE INDEX i ON a (project_id, b)", &[("a", Effect::Scans)]);
        check("UPDATE a SET b = 1; ALTER TABLE a ADD COLUMN c text", &[("a", Effect::Writes)]);
        check("INSERT INTO a VALUES ('x'); DROP TABLE b;", &[("a", Effect::Writes), ("b", Effect::Locks)]);
        check("CREATE POLICY p ON a FOR SELECT TO r USING (true)", &[("a", Effect::Locks)]);
        check("CALL admit_retention();", &[("every table of projects", Effect::Locks)]);
    }

    #[test]
    fn new_tables_comments_texts_and_bodies_of_functions_do_not_count() {
        check("CREATE TABLE a (b text); CREATE INDEX i ON a (b); ALTER TABLE a ADD COLUMN c text;", &[]);
        check("-- ALTER TABLE a ADD COLUMN b text;\nGRANT SELECT ON a TO r;", &[]);
        check("COMMENT ON TABLE x IS 'UPDATE a; ALTER TABLE b';", &[]);
        check(
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE a SET b = 1; END $$;",
            &[],
        );
    }

    #[test]
    fn every_migration_begins_with_a_line_that_says_what_it_is() {
        for migration in crate::migrate::all() {
            assert!(migration.what.len() > 10, "V{} begins with a comment", migration.version);
        }
        let audit = crate::migrate::all().into_iter().find(|m| m.version == 5).expect("V5");
        assert!(audit.what.starts_with("The audit shows tampering"), "{audit:?}");
        assert!(audit.tables.contains_key("audit_event"), "it renames one that was there: {audit:?}");
    }
}
