//! Why there is no backup, or why one was not restored. These meet a person at a terminal, so they carry no `E-…`
//! code. No text holds a URL, a password, or more of PostgreSQL's own words than the end of what it wrote.

use std::path::PathBuf;

use crate::error::StoreError;
use crate::keyring::KeyringError;
use crate::migrate::MigrateError;
use crate::pool::OpenError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something of that name is there.
    #[error("{} exists already: name a directory that does not", .0.display())]
    Exists(PathBuf),
    /// Another process writes it.
    #[error("another backup to {} is under way", .0.display())]
    UnderWay(PathBuf),
    /// The role may not read all projects.
    #[error(
        "the role `{0}` of AWOOOP_BACKUP_DATABASE_URL cannot read every project: it must be awooop_backup, as `awooop migrate --admin-url` makes it"
    )]
    Role(String),
    /// There is no schema to back up.
    #[error("this database holds no AwoooP: there is nothing to back up")]
    NoSchema,
    /// A program of PostgreSQL is not there, or too old.
    #[error("{found} Install it with\n\n    {install}\n\nor set AWOOOP_PG_BIN to the directory it lies in.")]
    NoProgram {
        /// One sentence on what is needed and what was found.
        found: String,
        /// The exact command for this system.
        install: String,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed ({status}):\n{output}")]
    Program {
        /// Which.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The directory is no backup, or not a whole one.
    #[error("{} is not a whole backup: {why}", path.display())]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The backup is encrypted, and no key was given, or the wrong one.
    #[error("{why}")]
    Locked {
        /// What is wrong.
        why: String,
    },
    /// The backup is of a schema that this binary does not know.
    #[error(
        "the backup's schema is at version {found}, newer than this binary's {known}: restore it with version {product} or later"
    )]
    Newer {
        /// What the backup has.
        found: i64,
        /// What the code knows.
        known: i64,
        /// Who took it.
        product: String,
    },
    /// The server is older than the one that was backed up.
    #[error(
        "the backup is of PostgreSQL {backup}, and this server is {server}: restore it into PostgreSQL {backup} or newer"
    )]
    OlderServer {
        /// The major version that was backed up.
        backup: u32,
        /// That of the target.
        server: u32,
    },
    /// The target holds something.
    #[error(
        "the database is not empty ({0}): a backup is restored into an empty one only; nothing was changed"
    )]
    NotEmpty(String),
    /// The target has a keyring that is not the backup's.
    #[error("the keyring at {} is not the one of this backup (it lacks the key {missing}): move it away, or name another place; nothing was changed", path.display())]
    OtherKeyring {
        /// The directory.
        path: PathBuf,
        /// A key that the backup's rows were made under.
        missing: String,
    },
    /// A role's URL names another database than the administrator's.
    #[error(
        "{variable} names another database than --admin-url (host, port or dbname differ): a restore would load into one and write to the other; nothing was changed"
    )]
    OtherDatabase {
        /// The setting's name.
        variable: &'static str,
    },
    /// A key was retired while rows that were made under it were read.
    #[error("the key {0} was retired while the backup was taken: take it again")]
    KeyRetired(String),
    /// Neither the backup nor the target has a keyring.
    #[error("the backup holds no keyring, and there is none at {}: put the original's keyring.json there first; nothing was changed", .0.display())]
    NoKeyring(PathBuf),
    /// The connection fails or the URL is none.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Roles or schema could not be made.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The keyring cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The operating system refused something.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// Of what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

impl BackupError {
    /// For `map_err`: an input or output error of `what` at `path`.
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> BackupError {
        let path = path.into();
        move |source| BackupError::Io { what, path, source }
    }
}

impl From<StoreError> for BackupError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

impl From<tokio_postgres::Error> for BackupError {
    fn from(error: tokio_postgres::Error) -> Self {
        StoreError::from(error).into()
    }
}
