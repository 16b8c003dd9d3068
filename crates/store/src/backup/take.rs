//! Taking a backup while servers work. One transaction's snapshot is what everything in it is of: `pg_dump` reads
//! under it, and the manifest's facts come from it.
//!
//! The keyring is read when the snapshot is open, and again after the rows: the latter is what goes in, and a key
//! that is made meanwhile then is in it, though nothing needs it. One that was retired meanwhile is missed by rows, and
//! the backup fails.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio_postgres::Client;

use super::crypt::Encryption;
use super::error::BackupError;
use super::files::Unfinished;
use super::manifest::{FORMAT, FileEntry, KeyId, Manifest, ids, major, missing};
use super::programs::Program;
use super::{DATABASE, KEYRING, MANIFEST};
use crate::keyring::{Keyring, KeyringError};
use crate::migrate::connect;
use crate::pool::parse_url;

/// The setting that names the role.
const VARIABLE: &str = "AWOOOP_BACKUP_DATABASE_URL";

/// What is backed up.
pub struct Source {
    /// The database as `awooop_backup`.
    pub url: SecretString,
    /// The keyring's directory, where it is at hand. It goes into the backup only when that is encrypted.
    pub keys: Option<PathBuf>,
    /// `AWOOOP_PG_BIN`.
    pub programs: Option<PathBuf>,
    /// Now.
    pub now: Timestamp,
}

/// What the snapshot is of.
struct Snapshot {
    id: String,
    schema_version: i64,
    server_version: String,
    projects: i64,
}

/// Takes a backup, which will be the directory `goal`.
///
/// # Errors
/// Every one means that there is no backup of this name.
pub async fn take(source: Source, encryption: Encryption, goal: &Path) -> Result<Manifest, BackupError> {
    let client = connect(VARIABLE, &source.url).await?;
    let snapshot = open_snapshot(&client).await?;
    let alive = source.keys.as_deref().map(read_keyring).transpose()?.map(|(_, keys)| keys);
    let program = Program::find("pg_dump", source.programs.as_deref(), major(&snapshot.server_version))?;
    let unfinished = Unfinished::begin(goal)?;
    let alive = alive.unwrap_or_default();
    let written = tokio::task::spawn_blocking(move || {
        write(&source, &snapshot, &alive, &program, &encryption, unfinished)
    });
    let manifest = written.await.expect("writing does not panic")?;
    // the snapshot had to live until here
    drop(client);
    Ok(manifest)
}

/// Begins the transaction whose snapshot is backed up.
async fn open_snapshot(client: &Client) -> Result<Snapshot, BackupError> {
    let role = client
        .query_one(
            "SELECT rolname::text, rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await?;
    if !role.get::<_, bool>(1) {
        return Err(BackupError::Role(role.get(0)));
    }
    let there =
        client.query_one("SELECT to_regprocedure('awooop.schema_version()') IS NOT NULL", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Err(BackupError::NoSchema);
    }
    // it waits for as long as the dump takes
    client
        .batch_execute(
            "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0;
             BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )
        .await?;
    let row = client
        .query_one(
            "SELECT pg_export_snapshot(), awooop.schema_version(), current_setting('server_version'),
               (SELECT count(*) FROM awooop.project)",
            &[],
        )
        .await?;
    let version: String = row.get(2);
    let server_version = version.split_whitespace().next().unwrap_or_default().to_owned();
    Ok(Snapshot { id: row.get(0), schema_version: row.get(1), server_version, projects: row.get(3) })
}

/// Writes every file, the manifest last, and gives the backup its name. The keys `alive` must be so at the end.
fn write(
    source: &Source,
    snapshot: &Snapshot,
    alive: &[KeyId],
    program: &Program,
    encryption: &Encryption,
    unfinished: Unfinished,
) -> Result<Manifest, BackupError> {
    let mut files = vec![dump(source, snapshot, program, encryption, &unfinished)?];
    let mut keys = Vec::new();
    if let Some(directory) = &source.keys {
        let (text, found) = read_keyring(directory)?;
        if let Some(retired) = missing(alive, &found) {
            return Err(BackupError::KeyRetired(retired));
        }
        keys = found;
        if encryption.is_on() {
            files.push(copy_keyring(&text, encryption, &unfinished)?);
        }
    }
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        product_version: env!("CARGO_PKG_VERSION").to_owned(),
        schema_version: snapshot.schema_version,
        taken_at: source.now,
        server_version: snapshot.server_version.clone(),
        dump_version: program.version.clone(),
        projects: snapshot.projects,
        is_encrypted: encryption.is_on(),
        keys,
        files,
    };
    let mut file = unfinished.create(MANIFEST, &Encryption::None)?;
    let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is JSON");
    file.write_all(&text).map_err(BackupError::io("write", MANIFEST))?;
    file.finish()?;
    unfinished.finish()?;
    Ok(manifest)
}

/// Streams what `pg_dump` writes into the file. Without any of the unlogged tables: they hold nothing that outlives
/// a server.
fn dump(
    source: &Source,
    snapshot: &Snapshot,
    program: &Program,
    encryption: &Encryption,
    unfinished: &Unfinished,
) -> Result<FileEntry, BackupError> {
    let mut command = program.command(&parse_url(VARIABLE, &source.url)?);
    command.args(["--format=custom", "--schema=awooop", "--no-unlogged-table-data", "--no-password"]);
    command.arg(format!("--snapshot={}", snapshot.id)).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut file = unfinished.create(DATABASE, encryption)?;
    let mut running = program.start(command)?;
    let mut archive = running.child.stdout.take().expect("it is a pipe");
    std::io::copy(&mut archive, &mut file).map_err(BackupError::io("write", DATABASE))?;
    running.finish()?;
    file.finish()
}

/// The keyring's text, and the keys that live by just that text.
fn read_keyring(directory: &Path) -> Result<(String, Vec<KeyId>), BackupError> {
    let path = directory.join(KEYRING);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(KeyringError::Missing(path.display().to_string()).into());
        }
        read => read.map_err(BackupError::io("read", &path))?,
    };
    let keys = ids(&Keyring::judge(&text, &path)?);
    Ok((text, keys))
}

fn copy_keyring(
    text: &str,
    encryption: &Encryption,
    unfinished: &Unfinished,
) -> Result<FileEntry, BackupError> {
    let mut file = unfinished.create(KEYRING, encryption)?;
    file.write_all(text.as_bytes()).map_err(BackupError::io("write", KEYRING))?;
    file.finish()
}
