//! What a keyring's text holds, judged before it is in any place: a backup's own may not lie on the disk in clear
//! until the rows it belongs to are there.
//!
//! Only what a backup asks of it is looked at: which keys have a secret, and that each name has one current key.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::BackupError;
use super::manifest::KeyId;
use crate::keyring::{KeyName, KeyState, KeyringError};

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    state: KeyState,
    #[serde(default)]
    secret: String,
}

/// The ids of the keys that still have a secret. Errors name `path`, and repeat nothing of the text.
pub(super) fn alive(text: &[u8], path: &Path) -> Result<Vec<KeyId>, BackupError> {
    let damaged =
        |reason| BackupError::from(KeyringError::Damaged { path: path.display().to_string(), reason });
    let file: BTreeMap<KeyName, Vec<Entry>> =
        serde_json::from_slice(text).map_err(|e| damaged(format!("line {}", e.line())))?;
    let mut found = Vec::new();
    for name in KeyName::ALL {
        let entries = file.get(&name).map(Vec::as_slice).unwrap_or_default();
        if entries.iter().filter(|entry| entry.state == KeyState::Current).count() != 1 {
            return Err(damaged(format!("`{}` has not one current key", name.as_str())));
        }
        for entry in entries.iter().filter(|entry| entry.state != KeyState::Retired) {
            if entry.secret.is_empty() {
                return Err(damaged(format!("the {} key {} has no secret", name.as_str(), entry.id)));
            }
            found.push(KeyId { name: name.as_str().to_owned(), id: entry.id.clone() });
        }
    }
    Ok(found)
}

/// The first of `needed` that is not there, as people name a key.
pub(super) fn missing(needed: &[KeyId], there: &[KeyId]) -> Option<String> {
    let key = needed.iter().find(|key| !there.contains(key))?;
    Some(format!("{} {}", key.name, key.id))
}
