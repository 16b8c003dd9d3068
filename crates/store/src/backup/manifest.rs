//! What a backup says of itself, in `manifest.json`, readable without any key: versions, time, sizes and hashes. It
//! holds no secret. Its hashes show damage, and nothing else: whoever may write to the backup writes them too.
//!
//! A backup is code: what the archive says is run with an administrator's rights. Encryption to a public key says
//! nothing about who encrypted; only that it opens under a passphrase does. The signatures and the audit's seals are
//! looked at after the restore, which is too late for that. So: restore only what you trust, or what opens under your
//! passphrase.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keyring::{KeyInfo, KeyState};

/// The format that this binary writes and reads.
pub(super) const FORMAT: &str = "awooop-backup/1";

/// A backup's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `awooop-backup/1`.
    pub format: String,
    /// The version of the program that took it.
    pub product_version: String,
    /// The schema's version in the database.
    pub schema_version: i64,
    /// The moment of the snapshot.
    pub taken_at: Timestamp,
    /// The version of the database's server, such as `15.18`.
    pub server_version: String,
    /// The version of the `pg_dump` that wrote the archive.
    pub dump_version: String,
    /// Projects in it, the platform among them.
    pub projects: i64,
    /// Are the files encrypted?
    pub is_encrypted: bool,
    /// The keys that the rows were signed and hashed under, as far as a keyring was named; none of their secrets.
    pub keys: Vec<KeyId>,
    /// The other files of the backup.
    pub files: Vec<FileEntry>,
}

/// A key by its name and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyId {
    /// What it is for.
    pub name: String,
    /// 8 hexadecimal digits.
    pub id: String,
}

/// A file of a backup as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// The size of everything, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The entry of the file of this name, with or without the ending of encrypted ones.
    pub(super) fn file(&self, name: &str) -> Option<&FileEntry> {
        let is_it = |file: &&FileEntry| file.name.strip_suffix(super::AGE).unwrap_or(&file.name) == name;
        self.files.iter().find(is_it)
    }

    /// Does it hold the keyring?
    pub fn has_keyring(&self) -> bool {
        self.file(super::KEYRING).is_some()
    }
}

/// The ids of the keys that still have a secret.
pub(super) fn ids(keys: &[KeyInfo]) -> Vec<KeyId> {
    let alive = keys.iter().filter(|key| key.state != KeyState::Retired);
    alive.map(|key| KeyId { name: key.name.as_str().to_owned(), id: key.id.clone() }).collect()
}

/// The first of `needed` that is not there, as people name a key.
pub(super) fn missing(needed: &[KeyId], there: &[KeyId]) -> Option<String> {
    let key = needed.iter().find(|key| !there.contains(key))?;
    Some(format!("{} {}", key.name, key.id))
}

/// The major version in `15.18` or `17beta1`.
pub(super) fn major(version: &str) -> u32 {
    let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}
