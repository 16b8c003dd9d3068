//! Putting a backup into an empty database. Everything that can be judged before the first change is: the backup's
//! files, the key that opens them, the versions, the target, the keyring.
//!
//! Then roles are made as `migrate` makes them, the archive goes in as the administrator, whom row security does not
//! bind, in one transaction, and migrations bring it to this binary's version. A restore that is cut off left an
//! empty database, or the whole one. No run begins by it: those that were under way go on when a worker comes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use secrecy::SecretString;
use tokio_postgres::Client;

use super::check::check;
use super::crypt::Unlock;
use super::error::BackupError;
use super::manifest::{KeyId, Manifest, ids, major};
use super::programs::Program;
use super::{DATABASE, KEYRING};
use crate::embedded::write_atomic;
use crate::keyring::Keyring;
use crate::migrate::{self, RolePassword, connect};
use crate::pool::parse_url;

/// What messages call the administrator's URL.
const VARIABLE: &str = "--admin-url";

/// Where a backup is restored to.
pub struct Target {
    /// The database as a superuser.
    pub admin: SecretString,
    /// The same as `awooop_owner`.
    pub owner: SecretString,
    /// The passwords that the roles shall have.
    pub passwords: Vec<RolePassword>,
    /// The keyring's directory.
    pub keys: PathBuf,
    /// `AWOOOP_PG_BIN`.
    pub programs: Option<PathBuf>,
}

/// What a restore did.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The backup's description.
    pub manifest: Manifest,
    /// The migrations that brought an older backup to this binary's version.
    pub migrated: Vec<i64>,
    /// Was the keyring written?
    pub has_written_keyring: bool,
}

/// A backup that was read through and that opens. Only such a one is restored.
pub struct Checked {
    directory: PathBuf,
    manifest: Manifest,
    unlock: Unlock,
}

impl Checked {
    /// Reads a backup through; blocks for as long as that takes. Touches nothing else.
    ///
    /// # Errors
    /// As [`check()`], [`BackupError::Locked`] where it does not open, and [`BackupError::Newer`].
    pub fn read(directory: &Path, unlock: Unlock) -> Result<Self, BackupError> {
        let manifest = check(directory, &Unlock::None)?;
        let (found, known) = (manifest.schema_version, migrate::latest_version());
        if found > known {
            return Err(BackupError::Newer { found, known, product: manifest.product_version });
        }
        for entry in &manifest.files {
            unlock.open(&directory.join(&entry.name))?;
        }
        Ok(Self { directory: directory.to_owned(), manifest, unlock })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

/// Restores a backup.
///
/// # Errors
/// Before the archive has gone in, every one leaves the database empty: roles at most were made.
pub async fn restore(backup: Checked, target: &Target) -> Result<Restored, BackupError> {
    let keyring = judge_keyring(&backup, &target.keys)?;
    let client = connect(VARIABLE, &target.admin).await?;
    // nobody else migrates or restores meanwhile
    client.batch_execute("SET statement_timeout = 0; SELECT pg_advisory_lock(7166004)").await?;
    let server = refuse_server(&client, &backup.manifest).await?;
    refuse_full(&client).await?;
    let needed = server.max(major(&backup.manifest.dump_version));
    let program = Program::find("pg_restore", target.programs.as_deref(), needed)?;
    let has_written_keyring = keyring.is_some();
    if let Some(text) = keyring {
        write_keyring(&target.keys, &text)?;
    }
    migrate::create_roles(&target.admin, &target.passwords).await?;
    // the archive makes it again, with its privileges
    client.batch_execute("DROP SCHEMA awooop RESTRICT").await?;
    let manifest = backup.manifest.clone();
    load(backup, program, target).await?;
    drop(client);
    let migrated = migrate::migrate(&target.owner).await?;
    Ok(Restored { manifest, migrated, has_written_keyring })
}

/// The keyring to write, or none where the right one is there. Rows whose keys are gone are of no use.
fn judge_keyring(backup: &Checked, keys: &Path) -> Result<Option<Vec<u8>>, BackupError> {
    let Checked { directory, manifest, unlock } = backup;
    if keys.join(KEYRING).exists() {
        let there = ids(&Keyring::load(keys)?.keys());
        let is_missing = |key: &&KeyId| !there.contains(*key);
        return match manifest.keys.iter().find(is_missing) {
            None => Ok(None),
            Some(key) => {
                let missing = format!("{} {}", key.name, key.id);
                Err(BackupError::OtherKeyring { path: keys.to_owned(), missing })
            }
        };
    }
    let Some(entry) = manifest.file(KEYRING) else { return Err(BackupError::NoKeyring(keys.to_owned())) };
    let path = directory.join(&entry.name);
    let mut text = Vec::new();
    unlock.open(&path)?.read_to_end(&mut text).map_err(BackupError::io("read", path))?;
    Ok(Some(text))
}

fn write_keyring(keys: &Path, text: &[u8]) -> Result<(), BackupError> {
    std::fs::create_dir_all(keys).map_err(BackupError::io("create the directory", keys))?;
    let path = keys.join(KEYRING);
    write_atomic(&path, text, 0o600).map_err(BackupError::io("write", path))?;
    Keyring::load(keys)?;
    Ok(())
}

/// The server's major version, which must not be older than the backup's.
async fn refuse_server(client: &Client, manifest: &Manifest) -> Result<u32, BackupError> {
    let row = client.query_one("SELECT current_setting('server_version')", &[]).await?;
    let (server, backup) = (major(row.get(0)), major(&manifest.server_version));
    if server < backup {
        return Err(BackupError::OlderServer { backup, server });
    }
    Ok(server)
}

/// Refuses a database that holds anything but what PostgreSQL and its extensions put there.
async fn refuse_full(client: &Client) -> Result<(), BackupError> {
    let sql = "
SELECT 1 AS kind, s.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND s.nspname NOT LIKE 'pg\\_%' AND s.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 2, s.nspname || '.' || p.proname || '()' FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
WHERE s.nspname = 'awooop'
ORDER BY 1, 2 LIMIT 1";
    match client.query_opt(sql, &[]).await? {
        None => Ok(()),
        Some(row) => Err(BackupError::NotEmpty(format!("it holds {}", row.get::<_, String>(1)))),
    }
}

/// Streams the archive into `pg_restore`, which commits at its end or not at all.
async fn load(backup: Checked, program: Program, target: &Target) -> Result<(), BackupError> {
    let config = parse_url(VARIABLE, &target.admin)?;
    let Checked { directory, manifest, unlock } = backup;
    let entry = manifest.file(DATABASE).expect("a manifest was checked for it");
    let path = directory.join(&entry.name);
    let mut command = program.command(&config);
    command.args(["--format=custom", "--single-transaction", "--exit-on-error", "--no-password"]);
    command.arg(format!("--dbname={}", config.get_dbname().unwrap_or_default()));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let loading = tokio::task::spawn_blocking(move || {
        let mut archive = unlock.open(&path)?;
        let mut running = program.start(command)?;
        let mut to = running.child.stdin.take().expect("it is a pipe");
        let copied = io::copy(&mut archive, &mut to);
        if let Err(error) = copied
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            // killed before it sees an end that is none
            drop(running);
            return Err(BackupError::io("read", path)(error));
        }
        drop(to);
        // a pipe that broke was closed by an end that says why
        running.finish()
    });
    loading.await.expect("loading does not panic")
}
