//! The database's roles and their passwords, in `keys/postgres.json` (0600): made once, before the cluster,
//! and read at every start. Each is 43 random letters and digits (256 bits) and never prints.
//!
//! Fails rather than makes new ones when a cluster exists without them: nobody could enter it.

use std::path::PathBuf;

use rand::distr::{Alphanumeric, SampleString};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::data_dir::{DataDir, DataDirError};
use super::error::EmbeddedError;
use super::files;

const FILE: &str = "keys/postgres.json";
const LENGTH: usize = 43;

/// A role of the embedded database that somebody signs in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The superuser: makes the other roles and the database, and is used for nothing else.
    Admin,
    /// Owns the tables; migrations only.
    Owner,
    /// The server's tenant role.
    App,
    /// The server's role for discovery across projects.
    Dispatch,
    /// Deletes audit events that have expired.
    Retention,
    /// Reads everything, for backups.
    Backup,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 6] =
        [Role::Admin, Role::Owner, Role::App, Role::Dispatch, Role::Retention, Role::Backup];
    /// The roles that the migrations know; the superuser is there before them.
    pub const MIGRATED: [Role; 5] = [Role::Owner, Role::App, Role::Dispatch, Role::Retention, Role::Backup];

    /// The role's name in PostgreSQL.
    pub fn name(self) -> &'static str {
        match self {
            Role::Admin => "awooop_admin",
            Role::Owner => "awooop_owner",
            Role::App => "awooop_app",
            Role::Dispatch => "awooop_dispatch",
            Role::Retention => "awooop_retention",
            Role::Backup => "awooop_backup",
        }
    }
}

/// One password a role.
#[derive(Debug, Clone)]
pub struct Passwords {
    admin: SecretString,
    owner: SecretString,
    app: SecretString,
    dispatch: SecretString,
    retention: SecretString,
    backup: SecretString,
}

/// The file's shape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    awooop_admin: String,
    awooop_owner: String,
    awooop_app: String,
    awooop_dispatch: String,
    /// Absent in a file of before; the role's password is set at each start.
    awooop_retention: Option<String>,
    /// The same.
    awooop_backup: Option<String>,
}

impl Passwords {
    /// The password of `role`.
    pub fn get(&self, role: Role) -> &SecretString {
        match role {
            Role::Admin => &self.admin,
            Role::Owner => &self.owner,
            Role::App => &self.app,
            Role::Dispatch => &self.dispatch,
            Role::Retention => &self.retention,
            Role::Backup => &self.backup,
        }
    }

    fn random() -> Self {
        let [admin, owner, app, dispatch, retention, backup] = std::array::from_fn(|_| random());
        Self { admin, owner, app, dispatch, retention, backup }
    }

    fn to_json(&self) -> Vec<u8> {
        let pairs = Role::ALL.map(|role| (role.name().to_owned(), self.get(role).expose_secret().into()));
        let object: serde_json::Map<String, serde_json::Value> = pairs.into_iter().collect();
        serde_json::to_vec_pretty(&object).expect("strings are JSON")
    }
}

fn random() -> SecretString {
    Alphanumeric.sample_string(&mut rand::rng(), LENGTH).into()
}

/// Reads the passwords, or makes them when `cluster` does not exist yet.
pub(super) fn load_or_make(dir: &DataDir, cluster: PathBuf) -> Result<Passwords, EmbeddedError> {
    let path = dir.path().join(FILE);
    if let Some(text) = files::read_if_there(&path).map_err(EmbeddedError::io("read", &path))? {
        return read(&text).map_err(|why| EmbeddedError::PasswordsUnreadable { path, why });
    }
    if cluster.exists() {
        return Err(EmbeddedError::PasswordsLost { cluster, passwords: path });
    }
    let passwords = Passwords::random();
    dir.write_private(FILE, &passwords.to_json()).map_err(|error| match error {
        DataDirError::Io { what, path, source } => EmbeddedError::Io { what, path, source },
        other => EmbeddedError::io("write", path)(std::io::Error::other(other)),
    })?;
    Ok(passwords)
}

/// The error says where, never what: a parser's message may quote the text.
fn read(text: &[u8]) -> Result<Passwords, String> {
    let written: Written = serde_json::from_slice(text)
        .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
    let passwords = Passwords {
        admin: written.awooop_admin.into(),
        owner: written.awooop_owner.into(),
        app: written.awooop_app.into(),
        dispatch: written.awooop_dispatch.into(),
        retention: written.awooop_retention.map_or_else(random, SecretString::from),
        backup: written.awooop_backup.map_or_else(random, SecretString::from),
    };
    match Role::ALL.into_iter().find(|&role| passwords.get(role).expose_secret().is_empty()) {
        Some(role) => Err(format!("the password of {} is empty", role.name())),
        None => Ok(passwords),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_survive_the_file_differ_and_do_not_print() {
        let made = Passwords::random();
        let read = read(&made.to_json()).expect("what was written");
        for role in Role::ALL {
            let password = made.get(role).expose_secret();
            assert_eq!(password, read.get(role).expose_secret());
            assert_eq!(password.len(), LENGTH);
            assert!(!format!("{made:?}").contains(password));
        }
        assert_ne!(made.get(Role::App).expose_secret(), made.get(Role::Owner).expose_secret());
    }

    #[test]
    fn a_file_without_sense_is_refused_without_a_word_of_it() {
        for text in ["", "{}", "{\"awooop_admin\": \"hunter2\"", "\"hunter2\""] {
            let why = read(text.as_bytes()).expect_err(text);
            assert!(!why.contains("hunter2"), "{why}");
        }
        let empty = br#"{"awooop_admin":"a","awooop_owner":"b","awooop_app":"","awooop_dispatch":"d"}"#;
        assert!(read(empty).expect_err("empty").contains("awooop_app"));
    }
}
