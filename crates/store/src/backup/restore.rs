//! Putting a backup into an empty database. Everything that can be judged before the first change is: the backup's
//! files, the key that opens them, the versions, the target, that all URLs name it, the keyring.
//!
//! Then roles are made as `migrate` makes them, the archive goes in as the administrator, whom row security does not
//! bind, in one transaction, the keyring is written, and migrations bring it to this binary's version. A restore that is
//! cut off left an empty database, or the whole one. The archive is hashed again as it is sent: `pg_restore` is given
//! its last piece only when it is what was checked. No run begins by it: those that were under way go on when a worker comes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use secrecy::SecretString;
use tokio_postgres::Client;
use tokio_postgres::config::Host;

use super::check::{Hashing, check, differs, refuse_clear};
use super::crypt::Unlock;
use super::error::BackupError;
use super::manifest::{FileEntry, Manifest, ids, major, missing};
use super::programs::Program;
use super::{DATABASE, KEYRING};
use crate::embedded::write_atomic;
use crate::keyring::Keyring;
use crate::migrate::{self, RolePassword, connect};
use crate::pool::{DatabaseUrls, parse_url};

/// What messages call the administrator's URL.
const VARIABLE: &str = "--admin-url";
/// What is sent to `pg_restore` at once, in bytes.
const PIECE: usize = 1 << 16;

/// Hosts, their addresses, ports, database.
type Place = (Vec<Host>, Vec<IpAddr>, Vec<u16>, String);

/// Where a backup is restored to.
pub struct Target {
    /// The database as a superuser.
    pub admin: SecretString,
    /// The same as `awooop_owner`.
    pub owner: SecretString,
    /// The same as the server's roles.
    pub urls: DatabaseUrls,
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
        refuse_clear(&manifest, &unlock)?;
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
    refuse_elsewhere(target)?;
    let keyring = judge_keyring(&backup, &target.keys)?;
    let client = connect(VARIABLE, &target.admin).await?;
    // nobody else migrates or restores meanwhile
    client.batch_execute("SET statement_timeout = 0; SELECT pg_advisory_lock(7166004)").await?;
    let server = refuse_server(&client, &backup.manifest).await?;
    refuse_full(&client).await?;
    let needed = server.max(major(&backup.manifest.dump_version));
    let program = Program::find("pg_restore", target.programs.as_deref(), needed)?;
    migrate::create_roles(&target.admin, &target.passwords).await?;
    // the archive makes it again, with its privileges
    client.batch_execute("DROP SCHEMA awooop RESTRICT").await?;
    let manifest = backup.manifest.clone();
    load(backup, program, target).await?;
    let has_written_keyring = keyring.is_some();
    if let Some(text) = keyring {
        write_keyring(&target.keys, text.as_bytes())?;
    }
    drop(client);
    let migrated = migrate::migrate(&target.owner).await?;
    Ok(Restored { manifest, migrated, has_written_keyring })
}

/// Refuses URLs of which one names another database: the archive goes in by one and what follows by the others.
fn refuse_elsewhere(target: &Target) -> Result<(), BackupError> {
    let admin = place(VARIABLE, &target.admin)?;
    for (variable, url) in [
        ("AWOOOP_OWNER_DATABASE_URL", &target.owner),
        ("AWOOOP_DATABASE_URL", &target.urls.app),
        ("AWOOOP_DISPATCH_DATABASE_URL", &target.urls.dispatch),
    ] {
        if place(variable, url)? != admin {
            return Err(BackupError::OtherDatabase { variable });
        }
    }
    Ok(())
}

/// Hosts, their ports and the database that a URL names, with what it leaves out as the driver adds it.
fn place(variable: &'static str, url: &SecretString) -> Result<Place, BackupError> {
    let config = parse_url(variable, url)?;
    let hosts = config.get_hosts().to_vec();
    let mut ports = config.get_ports().to_vec();
    if ports.len() < 2 {
        let port = ports.first().copied().unwrap_or(5432);
        ports = vec![port; hosts.len()];
    }
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default().to_owned();
    Ok((hosts, config.get_hostaddrs().to_vec(), ports, database))
}

/// The keyring to write, or none where the right one is there. Rows whose keys are gone are of no use.
fn judge_keyring(backup: &Checked, keys: &Path) -> Result<Option<String>, BackupError> {
    let Checked { directory, manifest, unlock } = backup;
    if keys.join(KEYRING).exists() {
        let there = ids(&Keyring::load(keys)?.keys());
        return match missing(&manifest.keys, &there) {
            None => Ok(None),
            Some(missing) => Err(BackupError::OtherKeyring { path: keys.to_owned(), missing }),
        };
    }
    let Some(entry) = manifest.file(KEYRING) else { return Err(BackupError::NoKeyring(keys.to_owned())) };
    let (mut text, path) = (String::new(), directory.join(&entry.name));
    let (mut clear, mut file) = open(directory, entry, unlock)?;
    clear.read_to_string(&mut text).map_err(BackupError::io("read", &path))?;
    if !file.is(&entry.sha256).map_err(BackupError::io("read", &path))? {
        return Err(differs(directory, &entry.name));
    }
    match missing(&manifest.keys, &ids(&Keyring::judge(&text, &path)?)) {
        None => Ok(Some(text)),
        Some(missing) => Err(BackupError::OtherKeyring { path, missing }),
    }
}

/// A file in clear, and the hash of what is read of it.
fn open(
    directory: &Path,
    entry: &FileEntry,
    unlock: &Unlock,
) -> Result<(Box<dyn Read + Send>, Hashing), BackupError> {
    let path = directory.join(&entry.name);
    let file = Hashing::of(File::open(&path).map_err(BackupError::io("read", &path))?);
    Ok((unlock.read(&path, file.clone())?, file))
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
    let entry = manifest.file(DATABASE).expect("a manifest was checked for it").clone();
    let mut command = program.command(&config);
    command.args(["--format=custom", "--single-transaction", "--exit-on-error", "--no-password"]);
    command.arg(format!("--dbname={}", config.get_dbname().unwrap_or_default()));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let loading = tokio::task::spawn_blocking(move || {
        let path = directory.join(&entry.name);
        let (mut archive, mut file) = open(&directory, &entry, &unlock)?;
        let mut running = program.start(command)?;
        let mut to = running.child.stdin.take().expect("it is a pipe");
        // where this returns early, it is killed before it sees an end
        let last = match send(&mut archive, &mut to) {
            Ok(last) => last,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                drop(to);
                // a pipe that broke was closed by an end that says why
                running.finish()?;
                return Err(differs(&directory, &entry.name));
            }
            Err(error) => return Err(BackupError::io("read", path)(error)),
        };
        if !file.is(&entry.sha256).map_err(BackupError::io("read", &path))? {
            return Err(differs(&directory, &entry.name));
        }
        if let Err(error) = to.write_all(&last)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(BackupError::io("send", path)(error));
        }
        drop(to);
        running.finish()
    });
    loading.await.expect("loading does not panic")
}

/// Sends all but the last piece, which is returned: `pg_restore` commits once it has the archive's last byte, and does
/// not wait for the end of the pipe.
fn send(archive: &mut dyn Read, to: &mut dyn Write) -> io::Result<Vec<u8>> {
    let mut held = Vec::new();
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        if (&mut *archive).take(PIECE as u64).read_to_end(&mut piece)? == 0 {
            return Ok(held);
        }
        to.write_all(&held)?;
        held = piece;
    }
}
