//! The keyring: secrets of the server itself, in a directory outside the database. This version holds the
//! pepper under which API keys are stored. Each secret has an id, so that it can be rotated later
//! without making what was written under the old one unreadable.
//!
//! `serve` refuses to start without one; `dev` makes it on first start, mode 0600.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const FILE: &str = "keyring.json";

/// The server's secrets. Cheap to clone; never prints.
#[derive(Clone)]
pub struct Keyring {
    pepper_id: String,
    pepper: SecretSlice<u8>,
}

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The directory has none.
    #[error("there is no keyring at {0}; `awooop migrate --keys DIR` makes one")]
    Missing(String),
    /// The file cannot be read or written.
    #[error("the keyring at {path} cannot be used")]
    Io {
        /// Where it lies.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a keyring.
    #[error("the keyring at {0} is damaged")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    key_pepper: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    created_at: jiff::Timestamp,
    secret: String,
}

impl Keyring {
    /// Reads the keyring of a directory.
    pub fn load(directory: &Path) -> Result<Self, KeyringError> {
        let path = directory.join(FILE);
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(KeyringError::Missing(shown)),
            Err(source) => return Err(KeyringError::Io { path: shown, source }),
        };
        let file: File = serde_json::from_str(&text).map_err(|_| KeyringError::Damaged(shown.clone()))?;
        let entry = file.key_pepper.first().ok_or_else(|| KeyringError::Damaged(shown.clone()))?;
        let pepper = STANDARD.decode(&entry.secret).map_err(|_| KeyringError::Damaged(shown.clone()))?;
        if pepper.len() < 32 {
            return Err(KeyringError::Damaged(shown));
        }
        Ok(Self { pepper_id: entry.id.clone(), pepper: pepper.into() })
    }

    /// A keyring that knows no key: for reading a database without checking anybody.
    pub fn for_reading() -> Self {
        let pepper: [u8; 32] = rand::random();
        Self { pepper_id: "none".to_owned(), pepper: pepper.to_vec().into() }
    }

    /// Reads the keyring of a directory, or makes it there.
    pub fn load_or_create(directory: &Path, now: jiff::Timestamp) -> Result<Self, KeyringError> {
        match Self::load(directory) {
            Err(KeyringError::Missing(shown)) => {
                write_new(&directory.join(FILE), now)
                    .map_err(|source| KeyringError::Io { path: shown, source })?;
                Self::load(directory)
            }
            other => other,
        }
    }

    /// The id of the pepper new keys are stored under.
    pub(crate) fn pepper_id(&self) -> &str {
        &self.pepper_id
    }

    /// HMAC-SHA256 of a key's whole public part and secret under the pepper.
    pub(crate) fn key_hmac(&self, key: &str) -> Vec<u8> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.pepper.expose_secret()).expect("HMAC takes any length");
        mac.update(key.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }
}

fn write_new(path: &Path, now: jiff::Timestamp) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let secret: [u8; 32] = rand::random();
    let id: u32 = rand::random();
    let entry = Entry { id: format!("{id:08x}"), created_at: now, secret: STANDARD.encode(secret) };
    let text = serde_json::to_string_pretty(&File { key_pepper: vec![entry] })?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_is_made_once_private_and_read_back() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Keyring::load(directory.path()), Err(KeyringError::Missing(_))));
        let first = Keyring::load_or_create(directory.path(), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let again = Keyring::load_or_create(directory.path(), jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(first.key_hmac("x"), again.key_hmac("x"));
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(directory.path().join(FILE), "{}").unwrap();
        assert!(matches!(Keyring::load(directory.path()), Err(KeyringError::Damaged(_))));
    }
}
