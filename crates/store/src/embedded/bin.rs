//! Finds an installed PostgreSQL server: the directory the operator named, else the newest of Debian's,
//! RHEL's and Homebrew's places and `PATH`. Nothing is downloaded and nothing is bundled.
//!
//! A directory counts when it holds `initdb` and `postgres` and `postgres --version` answers a version
//! not below the floor. Fails with one message that holds the exact install command of this system.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::install;

/// The oldest major version this product's SQL runs on.
pub const MIN_MAJOR: u32 = 15;

/// The `bin` directory of a PostgreSQL server that answered to `--version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgBin {
    /// Absolute path of the directory that holds `initdb` and `postgres`.
    pub dir: PathBuf,
    /// Major version, such as 15.
    pub major: u32,
    /// The version as the server says it, such as `15.14`.
    pub version: String,
}

/// Why there is no server to run.
#[derive(Debug, thiserror::Error)]
pub enum PgNotFound {
    /// The operator named a directory, and it will not do; nothing else is tried.
    #[error("AWOOOP_PG_BIN is {}, but {problem}; it must name the bin directory of PostgreSQL {MIN_MAJOR} or newer", path.display())]
    Explicit {
        /// The directory as given.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing is installed, or only something too old.
    #[error(
        "{found} Install it with\n\n    {install}\n\nor set AWOOOP_PG_BIN to the bin directory of an installed one."
    )]
    Missing {
        /// One sentence on what was found instead.
        found: String,
        /// The exact command for this system, for the user who runs this.
        install: String,
    },
}

/// Finds a server. `explicit` is the operator's `AWOOOP_PG_BIN`: when given it is the only place looked at.
/// Runs `postgres --version` of each candidate and blocks for that long.
pub fn find_postgres(explicit: Option<&Path>) -> Result<PgBin, PgNotFound> {
    if let Some(path) = explicit {
        return named(path);
    }
    let mut places = versioned_places(Path::new("/"));
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    newest(&places)
}

fn named(path: &Path) -> Result<PgBin, PgNotFound> {
    let refuse = |problem: String| PgNotFound::Explicit { path: path.to_owned(), problem };
    let bin = probe(path).map_err(refuse)?;
    if bin.major < MIN_MAJOR {
        return Err(refuse(format!("that is PostgreSQL {}", bin.version)));
    }
    Ok(bin)
}

/// The newest server of the floor or above; the first place wins between equals.
fn newest(places: &[PathBuf]) -> Result<PgBin, PgNotFound> {
    let mut best: Option<PgBin> = None;
    for bin in places.iter().filter_map(|place| probe(place).ok()) {
        if best.as_ref().is_none_or(|best| bin.major > best.major) {
            best = Some(bin);
        }
    }
    let found = match best {
        Some(bin) if bin.major >= MIN_MAJOR => return Ok(bin),
        Some(bin) => format!(
            "PostgreSQL {MIN_MAJOR} or newer is needed, and only {} was found in {}.",
            bin.version,
            bin.dir.display()
        ),
        None => format!("PostgreSQL {MIN_MAJOR} or newer was not found on this machine."),
    };
    Err(PgNotFound::Missing { found, install: install::command_here() })
}

/// Where distributions put servers of several versions side by side, below `root`.
pub(crate) fn versioned_places(root: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (parent, prefix) in [
        ("usr/lib/postgresql", ""),         // Debian, Ubuntu
        ("usr", "pgsql-"),                  // the PostgreSQL project's own RPMs
        ("opt/homebrew/opt", "postgresql"), // Homebrew on Apple silicon
        ("usr/local/opt", "postgresql"),    // Homebrew on Intel
    ] {
        let Ok(entries) = std::fs::read_dir(root.join(parent)) else { continue };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                places.push(entry.path().join("bin"));
            }
        }
    }
    places.sort();
    places
}

/// Asks the server in `dir` for its version; the error says what is wrong with the directory.
fn probe(dir: &Path) -> Result<PgBin, String> {
    let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
    for program in ["initdb", "postgres"] {
        if !dir.join(program).is_file() {
            return Err(format!("there is no {program} in it"));
        }
    }
    let output = Command::new(dir.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("its postgres does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (major, version) =
        parse_version(&text).ok_or_else(|| "its postgres does not say its version".to_owned())?;
    Ok(PgBin { dir, major, version })
}

/// Reads `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`, also `17beta1` and `18devel`.
pub(crate) fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((digits.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory whose `postgres` is a script that prints `answer`.
    fn fake(dir: &Path, answer: &str) {
        std::fs::create_dir_all(dir).expect("a fake bin directory");
        for program in ["initdb", "postgres"] {
            let path = dir.join(program);
            std::fs::write(&path, format!("#!/bin/sh\necho '{answer}'\n")).expect("a fake program");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
        }
    }

    #[test]
    fn versions_are_read_as_servers_print_them() {
        let check = |text, expected: Option<(u32, &str)>| {
            assert_eq!(parse_version(text), expected.map(|(major, v)| (major, v.to_owned())), "{text}");
        };
        check("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some((15, "15.14")));
        check("postgres (PostgreSQL) 17beta1", Some((17, "17beta1")));
        check("postgres (PostgreSQL) 9.6.24", Some((9, "9.6.24")));
        check("postgres (PostgreSQL) ", None);
        check("postgres (EnterpriseDB) 15", None);
        check("", None);
    }

    #[test]
    fn the_newest_version_wins_wherever_it_lies() {
        let root = tempfile::tempdir().expect("a directory");
        fake(&root.path().join("usr/lib/postgresql/9/bin"), "postgres (PostgreSQL) 9.6");
        fake(&root.path().join("usr/lib/postgresql/15/bin"), "postgres (PostgreSQL) 15.1");
        fake(&root.path().join("usr/pgsql-16/bin"), "postgres (PostgreSQL) 16.2");
        fake(&root.path().join("usr/lib/postgresql/junk/bin"), "hello");
        let found = newest(&versioned_places(root.path())).expect("three servers are there");
        assert_eq!((found.major, found.dir), (16, root.path().join("usr/pgsql-16/bin")));
    }

    #[test]
    fn nothing_installed_is_one_message_with_a_command() {
        let message = newest(&[PathBuf::from("/nonexistent")]).expect_err("nothing is there").to_string();
        assert!(message.starts_with("PostgreSQL 15 or newer was not found"), "{message}");
        assert!(message.contains("AWOOOP_PG_BIN"), "{message}");
    }

    #[test]
    fn a_server_that_is_too_old_is_named() {
        let root = tempfile::tempdir().expect("a directory");
        fake(root.path(), "postgres (PostgreSQL) 13.4");
        let message = newest(&[root.path().to_owned()]).expect_err("13 is too old").to_string();
        assert!(message.contains("only 13.4 was found"), "{message}");
        let message = find_postgres(Some(root.path())).expect_err("13 is too old").to_string();
        assert!(message.contains("that is PostgreSQL 13.4"), "{message}");
    }

    #[test]
    fn a_named_directory_without_a_server_is_refused_with_the_reason() {
        let root = tempfile::tempdir().expect("a directory");
        let check = |expected: &str| {
            let message = find_postgres(Some(root.path())).expect_err("no server").to_string();
            assert!(message.contains(expected), "{message}");
        };
        check("there is no initdb in it");
        fake(root.path(), "I am not a database");
        check("does not say its version");
        std::fs::set_permissions(root.path().join("postgres"), PermissionsExt::from_mode(0o644))
            .expect("not executable");
        check("does not start");
    }
}
