//! PostgreSQL's own `pg_dump` and `pg_restore`: where they are, and how they are told where the database is.
//!
//! A dump needs a `pg_dump` of the server's major version or later, and the nearest one is taken: a later
//! `pg_restore` may send settings that an older server does not know. The password goes through the environment of
//! the child, never into its arguments.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use tokio_postgres::config::Host;

use super::error::BackupError;
use crate::embedded::{command_here, parse_version, versioned_places};
use crate::pool::wants_tls;

/// How much of a program's words explains a failure, in bytes.
const MOST_OUTPUT: usize = 4000;
/// Where systems keep the certificates they trust, in one file.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A program of PostgreSQL's.
#[derive(Debug, Clone)]
pub(super) struct Program {
    name: &'static str,
    path: PathBuf,
    /// Such as `15.18`.
    pub(super) version: String,
}

impl Program {
    /// Finds the program of the major version `needed`, or the next later one. `explicit` is `AWOOOP_PG_BIN`: when
    /// given it is the only place looked at. Runs `--version` of each candidate.
    pub(super) fn find(
        name: &'static str,
        explicit: Option<&Path>,
        needed: u32,
    ) -> Result<Self, BackupError> {
        let places = match explicit {
            Some(place) => vec![place.to_owned()],
            None => {
                let mut places = versioned_places(Path::new("/"));
                places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
                places
            }
        };
        Self::nearest(name, &places, needed)
    }

    fn nearest(name: &'static str, places: &[PathBuf], needed: u32) -> Result<Self, BackupError> {
        let mut found: Vec<(u32, Program)> = places.iter().filter_map(|place| probe(name, place)).collect();
        // the first place wins between equals
        found.sort_by_key(|(major, _)| *major);
        let what = match found.last() {
            Some((newest, _)) if *newest >= needed => {
                let fit = found.into_iter().find(|(major, _)| *major >= needed);
                return Ok(fit.expect("the newest is one").1);
            }
            Some((_, old)) => format!("only {} was found, in {}", old.version, old.directory()),
            None => "none was found".to_owned(),
        };
        let found = format!("The {name} of PostgreSQL {needed} or newer is needed, and {what}.");
        Err(BackupError::NoProgram { found, install: command_here() })
    }

    fn directory(&self) -> String {
        self.path.parent().unwrap_or(Path::new("/")).display().to_string()
    }

    /// The program, told where the database is, with nothing else of this process's environment but `PATH`.
    pub(super) fn command(&self, config: &tokio_postgres::Config) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().envs(environment(config)).current_dir("/");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// Starts it, with what it says on stderr kept.
    pub(super) fn start(&self, mut command: Command) -> Result<Running, BackupError> {
        let spawned = command.stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(BackupError::io("start", &self.path))?;
        let mut words = child.stderr.take().expect("it is a pipe");
        let words = std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = words.read(&mut piece) {
                text.extend_from_slice(&piece[..n]);
                text.drain(..text.len().saturating_sub(MOST_OUTPUT));
            }
            text
        });
        Ok(Running { name: self.name, child, words: Some(words) })
    }
}

/// A program at work. Dropped, it is killed.
pub(super) struct Running {
    name: &'static str,
    pub(super) child: Child,
    words: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Waits for its end, which must be a success.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        let status = self.child.wait().map_err(BackupError::io("wait for", self.name))?;
        if status.success() {
            return Ok(());
        }
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        let output = String::from_utf8_lossy(&words).trim().to_owned();
        Err(BackupError::Program { program: self.name, status: status.to_string(), output })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // one that has ended is not there to be killed
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The version of the program in `place`; `None` where there is none that answers.
fn probe(name: &'static str, place: &Path) -> Option<(u32, Program)> {
    let path = std::path::absolute(place).ok()?.join(name);
    let output = Command::new(&path).arg("--version").stdin(Stdio::null()).output().ok()?;
    let (major, version) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
    Some((major, Program { name, path, version }))
}

/// What libpq reads, for the same place that our own driver connects to, and as strict in TLS.
fn environment(config: &tokio_postgres::Config) -> Vec<(&'static str, String)> {
    let mut found = vec![("PGAPPNAME", "awooop backup".to_owned()), ("PGCONNECT_TIMEOUT", "10".to_owned())];
    let mut set = |name, value: Option<String>| found.extend(value.map(|value| (name, value)));
    let host = config.get_hosts().first().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    set("PGHOST", host);
    set("PGPORT", config.get_ports().first().map(ToString::to_string));
    set("PGUSER", config.get_user().map(str::to_owned));
    set("PGDATABASE", config.get_dbname().map(str::to_owned));
    set("PGPASSWORD", config.get_password().map(|p| String::from_utf8_lossy(p).into_owned()));
    if wants_tls(config) {
        set("PGSSLMODE", Some("verify-full".to_owned()));
        set("PGSSLROOTCERT", certificates());
    } else {
        set("PGSSLMODE", Some("disable".to_owned()));
    }
    found
}

/// The file of trusted certificates: the operator's, else the system's.
fn certificates() -> Option<String> {
    let own = std::env::var("SSL_CERT_FILE").ok().filter(|path| !path.is_empty());
    own.or_else(|| BUNDLES.iter().find(|path| Path::new(path).is_file()).map(|path| (*path).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_nearest_version_that_is_not_older_is_taken_and_what_is_missing_is_named() {
        let root = tempfile::tempdir().expect("a directory");
        let mut places = Vec::new();
        for version in ["14.9", "17.2", "16.4"] {
            let place = root.path().join(version);
            std::fs::create_dir(&place).expect("a place");
            let program = place.join("pg_dump");
            let text = format!("#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n");
            std::fs::write(&program, text).expect("a fake program");
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("executable");
            places.push(place);
        }
        let version = |needed| Program::nearest("pg_dump", &places, needed).map(|p| p.version);
        assert_eq!(version(15).expect("there is one"), "16.4");
        assert_eq!(version(17).expect("there is one"), "17.2");
        let message = version(18).expect_err("too new").to_string();
        assert!(
            message.contains("pg_dump of PostgreSQL 18 or newer") && message.contains("only 17.2"),
            "{message}"
        );
        let message = Program::nearest("pg_restore", &places, 15).expect_err("none").to_string();
        assert!(message.contains("pg_restore") && message.contains("none was found"), "{message}");
    }

    #[test]
    fn a_password_goes_into_the_environment_and_tls_is_checked_in_full() {
        let config: tokio_postgres::Config =
            "host=db.example port=5433 user=u password='p w' dbname=d sslmode=require"
                .parse()
                .expect("valid");
        let found = environment(&config);
        for expected in [
            ("PGHOST", "db.example"),
            ("PGPORT", "5433"),
            ("PGUSER", "u"),
            ("PGDATABASE", "d"),
            ("PGPASSWORD", "p w"),
            ("PGSSLMODE", "verify-full"),
        ] {
            assert!(found.iter().any(|(name, value)| (*name, value.as_str()) == expected), "{expected:?}");
        }
        let local: tokio_postgres::Config = "host=/run/pg user=u dbname=d".parse().expect("valid");
        assert!(environment(&local).contains(&("PGSSLMODE", "disable".to_owned())));
    }
}
