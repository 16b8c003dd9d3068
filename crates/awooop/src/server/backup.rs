//! `awooop backup`: a backup of a database that is at work, or a check of one that was taken.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use awooop_store::Clock;
use awooop_store::backup::{self, BackupError, Encryption, Manifest, Source, Unlock};
use awooop_store::migrate::MigrateError;
use awooop_store::pool::OpenError;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{logging, setting};
use crate::cli::BackupArgs;
use crate::failure::Failure;
use crate::output::{Reply, finish};
use crate::settings::default_data_dir;

/// Carries out the command.
pub(crate) async fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    logging::start("warn");
    let is_json = args.json;
    let reply = if args.check { check(args).await } else { take(args).await };
    Ok(finish(reply, is_json))
}

async fn take(args: BackupArgs) -> Result<Reply, Failure> {
    let encryption = match &args.passphrase_file {
        Some(file) => Encryption::passphrase_of(file),
        None if args.recipient.is_empty() => Ok(Encryption::None),
        None => Encryption::to(&args.recipient),
    };
    let encryption = encryption.map_err(|e| failure(&e))?;
    let (url, own_keys) = database(args.data_dir)?;
    let is_encrypted = encryption.is_on();
    let source =
        Source { url, keys: args.keys.or(own_keys), programs: programs(), now: Clock::system().now() };
    let manifest = backup::take(source, encryption, &args.directory).await.map_err(|e| failure(&e))?;
    let reply = Reply::done(document(&args.directory, &manifest), described(&args.directory, &manifest));
    Ok(match (is_encrypted, manifest.has_keyring()) {
        (true, true) => reply,
        (true, false) => reply.with_note("it holds no keyring: name its directory with --keys, or keep a copy of it elsewhere"),
        (false, _) => reply.with_note(
            "it is not encrypted, and so holds no keyring: without a copy of that elsewhere it is of no use. --recipient or --passphrase-file encrypt it",
        ),
    })
}

async fn check(args: BackupArgs) -> Result<Reply, Failure> {
    let unlock = unlock(args.identity.as_deref(), args.passphrase_file.as_deref())?;
    let is_opened = !matches!(unlock, Unlock::None);
    let directory = args.directory.clone();
    let reading = tokio::task::spawn_blocking(move || backup::check(&directory, &unlock));
    let manifest = reading.await.expect("reading does not panic").map_err(|e| failure(&e))?;
    let reply = Reply::done(document(&args.directory, &manifest), described(&args.directory, &manifest));
    Ok(match manifest.is_encrypted && !is_opened {
        true => reply.with_note("it is whole; --identity or --passphrase-file would show that it opens"),
        false => reply.with_note("it is whole"),
    })
}

/// The database to back up, and its keyring where that is known: that of the data directory that is named, else as the
/// environment says, else as the running `dev` wrote it down.
fn database(named: Option<PathBuf>) -> Result<(SecretString, Option<PathBuf>), Failure> {
    if named.is_none()
        && let Some(url) = setting("AWOOOP_BACKUP_DATABASE_URL")
    {
        return Ok((url, None));
    }
    let missing = || {
        Failure::Invalid {
        message: "no database is known to back up".to_owned(),
        hint: Some(
            "set AWOOOP_BACKUP_DATABASE_URL, or name the --data-dir of an `awooop dev` that was started by this version"
                .to_owned(),
        ),
    }
    };
    let data_dir = named.or_else(default_data_dir).ok_or_else(missing)?;
    let text = std::fs::read(data_dir.join("keys/database.json")).map_err(|_| missing())?;
    let known: Value = serde_json::from_slice(&text).map_err(|_| missing())?;
    let url = known["backup"].as_str().ok_or_else(missing)?;
    Ok((url.to_owned().into(), Some(data_dir.join("keys"))))
}

/// Where the programs of PostgreSQL are, if an operator says so.
pub(super) fn programs() -> Option<PathBuf> {
    std::env::var_os("AWOOOP_PG_BIN").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What opens a backup.
pub(super) fn unlock(identity: Option<&Path>, passphrase: Option<&Path>) -> Result<Unlock, Failure> {
    let read = match (identity, passphrase) {
        (Some(file), _) => Unlock::identities_of(file),
        (None, Some(file)) => Unlock::passphrase_of(file),
        (None, None) => Ok(Unlock::None),
    };
    read.map_err(|e| failure(&e))
}

fn document(directory: &Path, manifest: &Manifest) -> Value {
    json!({"directory": directory.display().to_string(), "manifest": manifest})
}

/// One line for a person.
pub(super) fn described(directory: &Path, manifest: &Manifest) -> String {
    let kind = match (manifest.is_encrypted, manifest.has_keyring()) {
        (true, true) => "encrypted, with the keyring",
        (true, false) => "encrypted, without the keyring",
        (false, _) => "not encrypted, without the keyring",
    };
    let (projects, schema) = (manifest.projects, manifest.schema_version);
    let (taken, kib) = (manifest.taken_at, manifest.bytes().div_ceil(1024));
    let directory = directory.display();
    format!("{directory}: taken at {taken}, {projects} projects, schema {schema}, {kib} KiB, {kind}")
}

/// A backup's error as every command shows one.
pub(super) fn failure(error: &BackupError) -> Failure {
    let mut reason = error.to_string();
    let (mut source, mut innermost) = (std::error::Error::source(error), reason.clone());
    while let Some(inner) = source {
        innermost = inner.to_string();
        if !reason.ends_with(&inner.to_string()) {
            reason = format!("{reason}: {inner}");
        }
        source = inner.source();
    }
    let in_the_way = |hint: &str| Failure::InTheWay { message: reason.clone(), hint: hint.to_owned() };
    match error {
        BackupError::Open(OpenError::Store(_))
        | BackupError::Migrate(MigrateError::Open(OpenError::Store(_))) => {
            let hint = "is PostgreSQL running there, or `awooop dev` on this data directory?".to_owned();
            Failure::NoDatabase { reason: innermost, hint }
        }
        BackupError::NotEmpty(_) => {
            in_the_way("make an empty database, or name an empty data directory with --data-dir")
        }
        BackupError::NoProgram { .. } => in_the_way("nothing was written"),
        BackupError::Program { .. } | BackupError::KeyRetired(_) => in_the_way("nothing of it was kept"),
        BackupError::UnderWay(_) => in_the_way("wait for it, or choose another name"),
        _ => Failure::invalid(reason),
    }
}
