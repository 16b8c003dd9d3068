//! The keyring's file: read whole, changed under a lock, replaced whole. Whoever reads it, at any moment and
//! whatever is killed, sees the old or the new one. It keeps its owner and is never readable by others.
//! What it holds is not judged here.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::public_key;
use super::{KeyName, KeyState, KeyringError, SECRET_BYTES};

pub(super) const FILE: &str = "keyring.json";

/// What the file holds: keys of each name, oldest first.
pub(super) type File = BTreeMap<KeyName, Vec<Entry>>;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) id: String,
    #[serde(default)]
    pub(super) state: KeyState,
    pub(super) created_at: Timestamp,
    /// Base64; empty once it is retired.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) secret: String,
    /// The public half of a key that signs for others, in hexadecimal; stays when the secret is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) public_key: Option<String>,
}

pub(super) fn new_entry(name: KeyName, now: Timestamp) -> Entry {
    let (id, secret): (u32, [u8; SECRET_BYTES]) = (rand::random(), rand::random());
    Entry {
        id: format!("{id:08x}"),
        state: KeyState::Current,
        created_at: now,
        secret: STANDARD.encode(secret),
        public_key: public_key(name, &secret),
    }
}

pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> KeyringError {
    KeyringError::Damaged { path: path.display().to_string(), reason: reason.into() }
}

pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> KeyringError {
    let path = path.display().to_string();
    move |source| KeyringError::Io { path: path.clone(), source }
}

/// What tells one file from its successor: a change replaces the file, and clocks tick coarsely.
pub(super) type Stamp = (SystemTime, u64);

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.ino()))
}

pub(super) fn read_file(path: &Path) -> Result<(Option<Stamp>, File), KeyringError> {
    // before the text: a change in between shows the next time
    let changed_at = stamp(path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(KeyringError::Missing(path.display().to_string()));
        }
        Err(source) => return Err(io(path)(source)),
    };
    Ok((changed_at, parse(&text, path)?))
}

/// Reads a file's text; errors name `path` and repeat nothing of it.
pub(super) fn parse(text: &str, path: &Path) -> Result<File, KeyringError> {
    serde_json::from_str(text).map_err(|e| damaged(path, format!("line {}", e.line())))
}

/// Changes the file under a lock, and replaces it whole: whoever reads it sees the old or the new one.
pub(super) fn change(
    directory: &Path,
    may_make: bool,
    change: impl FnOnce(&mut File) -> Result<(), KeyringError>,
) -> Result<(), KeyringError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join(FILE);
    let fail = io(&path);
    if !may_make && !path.exists() {
        return Err(KeyringError::Missing(path.display().to_string()));
    }
    let mut options = std::fs::OpenOptions::new();
    let lock = directory.join("keyring.lock");
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(lock).map_err(&fail)?;
    lock.lock().map_err(&fail)?;
    let mut file = match read_file(&path) {
        Ok((_, file)) => file,
        Err(KeyringError::Missing(_)) if may_make => File::new(),
        Err(other) => return Err(other),
    };
    change(&mut file)?;
    let text = serde_json::to_string_pretty(&file).expect("a keyring is JSON");
    replace(directory, &path, &text).map_err(&fail)
}

/// Writes the file anew, with the owner of the former one: whoever rotates may be another user than the server.
fn replace(directory: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let fresh = directory.join("keyring.json.new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let made = file.metadata()?;
    if let Ok(former) = std::fs::metadata(path)
        && (former.uid(), former.gid()) != (made.uid(), made.gid())
    {
        std::os::unix::fs::fchown(&file, Some(former.uid()), Some(former.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    std::fs::File::open(directory)?.sync_all()
}
