//! The keyring: secrets of the server itself, in a directory outside the database. Whoever can write to every
//! table still cannot sign a contract or make an API key, because what signs them is here.
//!
//! Each name has one current key, which signs, and any number of accepted ones, which only verify. Rotating
//! makes a new current key and leaves the former accepted; retiring an accepted key erases its secret, and
//! what it signed verifies no more, but for the audit's seals: the public half of their key stays. A running server notices a changed file by itself, within a second.
//! `serve` refuses to start without a keyring; `dev` makes it on first start, mode 0600.

mod file;
mod seal;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use self::file::{Entry, FILE, File, Stamp, change, damaged, new_entry, parse, read_file, stamp};

const SECRET_BYTES: usize = 32;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyName {
    /// Signs contract versions, people's signatures under them, and activations.
    Publish,
    /// Signs approval tokens.
    Approval,
    /// Seals the audit.
    AuditSeal,
    /// Makes the tags that join masked values.
    RedactionTag,
    /// The pepper under which API keys are stored.
    KeyPepper,
}

impl KeyName {
    /// All of them.
    pub const ALL: [KeyName; 5] =
        [KeyName::Publish, KeyName::Approval, KeyName::AuditSeal, KeyName::RedactionTag, KeyName::KeyPepper];

    /// As the file and the command line spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyName::Publish => "publish",
            KeyName::Approval => "approval",
            KeyName::AuditSeal => "audit_seal",
            KeyName::RedactionTag => "redaction_tag",
            KeyName::KeyPepper => "key_pepper",
        }
    }
}

/// What a key may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Signs and verifies.
    #[default]
    Current,
    /// Verifies what it signed before.
    Accepted,
    /// Nothing: its secret is erased.
    Retired,
}

impl KeyState {
    /// As the file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyState::Current => "current",
            KeyState::Accepted => "accepted",
            KeyState::Retired => "retired",
        }
    }
}

/// A key without its secret, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// What it is for.
    pub name: KeyName,
    /// Its id: 8 hexadecimal digits, named by everything it signed.
    pub id: String,
    /// What it may do.
    pub state: KeyState,
    /// When it was made.
    pub created_at: Timestamp,
    /// The public half, in hexadecimal, of a key that signs for others: the audit's seals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// Why a signature is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    /// There is none.
    #[error("it carries no signature")]
    Absent,
    /// No key of this id.
    #[error("its signature names a key that this server does not have")]
    UnknownKey,
    /// The key was retired.
    #[error("its signature was made with a key that is retired")]
    RetiredKey,
    /// The content is not what was signed.
    #[error("its content is not what was signed")]
    Mismatch,
}

/// Why there is no keyring, or it was not changed.
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
    #[error("the keyring at {path} is damaged: {reason}")]
    Damaged {
        /// Where it lies.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name has no current key; an older version made the file.
    #[error("the keyring at {path} has no key `{name}`; `awooop migrate --keys DIR` adds what is missing")]
    Incomplete {
        /// Where it lies.
        path: String,
        /// What is missing.
        name: &'static str,
    },
    /// There is no key of this id under this name.
    #[error("there is no key {id} under `{name}`; `awooop keys list` shows them")]
    NoSuchKey {
        /// The name.
        name: &'static str,
        /// The id that was given.
        id: String,
    },
    /// The current key cannot be retired.
    #[error("{0} is the current key: rotate first, and retire it once nothing depends on it")]
    IsCurrent(String),
}

/// The server's secrets. Cheap to clone; never prints.
#[derive(Clone)]
pub struct Keyring(Arc<Shared>);

struct Shared {
    path: Option<PathBuf>,
    ring: RwLock<(Option<Stamp>, Ring)>,
}

/// One key in memory.
struct Key {
    info: KeyInfo,
    secret: SecretSlice<u8>,
    /// Of a key of the audit that still has its secret.
    sealing: Option<seal::Sealing>,
}

/// Every key, by name.
struct Ring(Vec<Key>);

impl Ring {
    fn read(path: &Path) -> Result<(Option<Stamp>, Self), KeyringError> {
        let (changed_at, file) = read_file(path)?;
        Ok((changed_at, Self::of(file, path)?))
    }

    /// The keys of a file that `path` names.
    fn of(file: File, path: &Path) -> Result<Self, KeyringError> {
        let mut keys = Vec::new();
        for (name, entries) in file {
            for entry in entries {
                keys.push(key(name, entry).map_err(|reason| damaged(path, reason))?);
            }
        }
        let ring = Self(keys);
        for name in KeyName::ALL {
            match ring.0.iter().filter(|k| k.info.name == name && k.info.state == KeyState::Current).count() {
                1 => {}
                0 => {
                    let path = path.display().to_string();
                    return Err(KeyringError::Incomplete { path, name: name.as_str() });
                }
                _ => return Err(damaged(path, format!("`{}` has several current keys", name.as_str()))),
            }
        }
        Ok(ring)
    }

    fn infos(&self) -> Vec<KeyInfo> {
        self.0.iter().map(|k| k.info.clone()).collect()
    }

    fn current(&self, name: KeyName) -> &Key {
        let is_current = |k: &&Key| k.info.name == name && k.info.state == KeyState::Current;
        self.0.iter().find(is_current).expect("a ring has a current key of every name")
    }

    fn find(&self, name: KeyName, id: &str) -> Option<&Key> {
        self.0.iter().find(|k| k.info.name == name && k.info.id == id)
    }
}

impl Keyring {
    /// Reads the keyring of a directory.
    ///
    /// # Errors
    /// [`KeyringError::Missing`], `Io`, `Damaged`, `Incomplete`.
    pub fn load(directory: &Path) -> Result<Self, KeyringError> {
        let path = directory.join(FILE);
        let ring = Ring::read(&path)?;
        Ok(Self(Arc::new(Shared { path: Some(path), ring: RwLock::new(ring) })))
    }

    /// The keys that a keyring's text holds, before it lies in any directory. Errors name `path` as where it comes from.
    ///
    /// # Errors
    /// [`KeyringError::Damaged`], `Incomplete`.
    pub fn judge(text: &str, path: &Path) -> Result<Vec<KeyInfo>, KeyringError> {
        Ok(Ring::of(parse(text, path)?, path)?.infos())
    }

    /// A keyring that knows no key: for reading a database without checking anybody.
    pub fn for_reading() -> Self {
        let make = |name| {
            let info = KeyInfo {
                name,
                id: String::new(),
                state: KeyState::Current,
                created_at: Timestamp::UNIX_EPOCH,
                public_key: None,
            };
            let secret: SecretSlice<u8> = rand::random::<[u8; SECRET_BYTES]>().to_vec().into();
            let sealing = seal::Sealing::of(name, secret.expose_secret());
            Key { info, secret, sealing }
        };
        let ring = Ring(KeyName::ALL.into_iter().map(make).collect());
        Self(Arc::new(Shared { path: None, ring: RwLock::new((None, ring)) }))
    }

    /// Was this made by [`Keyring::for_reading`]? Then no signature can be judged.
    pub fn is_for_reading(&self) -> bool {
        self.0.path.is_none()
    }

    /// Reads the keyring of a directory, makes it there, or adds the names that an older version did not know.
    ///
    /// # Errors
    /// As [`Keyring::load`], but for `Missing` and `Incomplete`.
    pub fn load_or_create(directory: &Path, now: Timestamp) -> Result<Self, KeyringError> {
        match Self::load(directory) {
            Err(KeyringError::Missing(_) | KeyringError::Incomplete { .. }) => {
                change(directory, true, |file| {
                    for name in KeyName::ALL {
                        let keys = file.entry(name).or_default();
                        if !keys.iter().any(|k| k.state == KeyState::Current) {
                            keys.push(new_entry(name, now));
                        }
                    }
                    Ok(())
                })?;
                Self::load(directory)
            }
            other => other,
        }
    }

    /// Makes a new current key; the former one stays accepted. Returns the new key.
    ///
    /// # Errors
    /// As [`Keyring::load`].
    pub fn rotate(directory: &Path, name: KeyName, now: Timestamp) -> Result<KeyInfo, KeyringError> {
        let made = new_entry(name, now);
        let info = describe(name, &made);
        change(directory, false, |file| {
            let keys = file.entry(name).or_default();
            keys.iter_mut()
                .filter(|k| k.state == KeyState::Current)
                .for_each(|k| k.state = KeyState::Accepted);
            keys.push(made);
            Ok(())
        })?;
        Ok(info)
    }

    /// Erases the secret of an accepted key for good. Retiring twice is the same as once.
    ///
    /// # Errors
    /// [`KeyringError::NoSuchKey`], [`KeyringError::IsCurrent`], and as [`Keyring::load`].
    pub fn retire(directory: &Path, name: KeyName, id: &str) -> Result<KeyInfo, KeyringError> {
        let mut retired = None;
        change(directory, false, |file| {
            let key = file.entry(name).or_default().iter_mut().find(|k| k.id == id);
            let key =
                key.ok_or_else(|| KeyringError::NoSuchKey { name: name.as_str(), id: id.to_owned() })?;
            if key.state == KeyState::Current {
                return Err(KeyringError::IsCurrent(id.to_owned()));
            }
            key.state = KeyState::Retired;
            if let Ok(secret) = STANDARD.decode(&key.secret)
                && !secret.is_empty()
            {
                // what it sealed can still be checked
                key.public_key = seal::public_key(name, &secret);
            }
            key.secret.clear();
            retired = Some(describe(name, key));
            Ok(())
        })?;
        Ok(retired.expect("the change went through this key"))
    }

    /// Every key, without secrets, by name and oldest first.
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.read(Ring::infos)
    }

    /// Takes a changed file over. Returns whether it had changed; a damaged file leaves everything as it was.
    ///
    /// # Errors
    /// As [`Keyring::load`].
    pub fn refresh(&self) -> Result<bool, KeyringError> {
        let Some(path) = &self.0.path else { return Ok(false) };
        let changed_at = stamp(path);
        if self.0.ring.read().unwrap_or_else(PoisonError::into_inner).0 == changed_at {
            return Ok(false);
        }
        let fresh = Ring::read(path)?;
        *self.0.ring.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    /// HMAC-SHA256 of `message` under the current key, and that key's id.
    pub(crate) fn sign(&self, name: KeyName, message: &[u8]) -> (String, Vec<u8>) {
        self.read(|ring| {
            let key = ring.current(name);
            (key.info.id.clone(), mac(key, message).finalize().into_bytes().to_vec())
        })
    }

    /// Is `signature` that of `message` under the key it names? Compared in constant time.
    pub(crate) fn verify(
        &self,
        name: KeyName,
        id: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureProblem> {
        self.learn(name, id);
        self.read(|ring| {
            let key = ring.find(name, id).ok_or(SignatureProblem::UnknownKey)?;
            if key.info.state == KeyState::Retired {
                return Err(SignatureProblem::RetiredKey);
            }
            mac(key, message).verify_slice(signature).map_err(|_| SignatureProblem::Mismatch)
        })
    }

    /// Looks at the file once more when there is no key of this id: another server may sign with one that this
    /// one has not read yet.
    fn learn(&self, name: KeyName, id: &str) {
        if self.read(|ring| ring.find(name, id).is_none())
            && let Err(error) = self.refresh()
        {
            tracing::error!(%error, "the keyring has changed and cannot be read");
        }
    }

    /// The id of the current key.
    pub(crate) fn current_id(&self, name: KeyName) -> String {
        self.read(|ring| ring.current(name).info.id.clone())
    }

    /// The id of the pepper new API keys are stored under.
    pub(crate) fn pepper_id(&self) -> String {
        self.current_id(KeyName::KeyPepper)
    }

    /// HMAC-SHA256 of a whole API key under the pepper of this id. Under one that is unknown or retired the
    /// same work is done, and the result fits nothing.
    pub(crate) fn key_hmac(&self, pepper_id: &str, key: &str) -> Option<Vec<u8>> {
        self.read(|ring| {
            let found =
                ring.find(KeyName::KeyPepper, pepper_id).filter(|k| k.info.state != KeyState::Retired);
            let pepper = found.unwrap_or_else(|| ring.current(KeyName::KeyPepper));
            let hmac = mac(pepper, key.as_bytes()).finalize().into_bytes().to_vec();
            found.map(|_| hmac)
        })
    }

    fn read<T>(&self, with: impl FnOnce(&Ring) -> T) -> T {
        with(&self.0.ring.read().unwrap_or_else(PoisonError::into_inner).1)
    }
}

fn mac(key: &Key, message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.secret.expose_secret()).expect("HMAC takes any length");
    mac.update(message);
    mac
}

fn key(name: KeyName, entry: Entry) -> Result<Key, String> {
    let info = describe(name, &entry);
    let secret = STANDARD.decode(&entry.secret).map_err(|_| format!("the key {} is not base64", info.id))?;
    match (info.state, secret.len()) {
        (KeyState::Retired, 0) => {}
        (KeyState::Retired, _) => return Err(format!("the retired key {} has a secret", info.id)),
        (_, ..SECRET_BYTES) => {
            return Err(format!("the key {} is shorter than {SECRET_BYTES} bytes", info.id));
        }
        _ => {}
    }
    let sealing = seal::Sealing::of(name, &secret);
    let public_key = seal::public_key(name, &secret).or(info.public_key);
    Ok(Key { info: KeyInfo { public_key, ..info }, secret: secret.into(), sealing })
}

fn describe(name: KeyName, entry: &Entry) -> KeyInfo {
    let public_key = entry.public_key.clone();
    KeyInfo { name, id: entry.id.clone(), state: entry.state, created_at: entry.created_at, public_key }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn ring() -> (tempfile::TempDir, Keyring) {
        let directory = tempfile::tempdir().unwrap();
        let ring = Keyring::load_or_create(directory.path(), NOW).unwrap();
        (directory, ring)
    }

    #[test]
    fn a_keyring_is_made_once_private_and_read_back() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Keyring::load(directory.path()), Err(KeyringError::Missing(_))));
        let first = Keyring::load_or_create(directory.path(), NOW).unwrap();
        let again = Keyring::load_or_create(directory.path(), NOW).unwrap();
        assert_eq!(first.sign(KeyName::Publish, b"x"), again.sign(KeyName::Publish, b"x"));
        assert_ne!(first.sign(KeyName::Publish, b"x").1, first.sign(KeyName::Approval, b"x").1);
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for nonsense in ["{", "[]", r#"{"publish": [{"id": "1"}]}"#, r#"{"no_such_name": []}"#] {
            std::fs::write(directory.path().join(FILE), nonsense).unwrap();
            assert!(
                matches!(Keyring::load(directory.path()), Err(KeyringError::Damaged { .. })),
                "{nonsense}"
            );
            assert!(Keyring::load_or_create(directory.path(), NOW).is_err(), "a damaged one is not replaced");
        }
    }

    #[test]
    fn names_that_an_older_version_did_not_know_are_added() {
        let directory = tempfile::tempdir().unwrap();
        let old = format!(
            r#"{{"key_pepper": [{{"id": "00000001", "created_at": "2026-01-01T00:00:00Z", "secret": "{}"}}]}}"#,
            STANDARD.encode([7u8; 32])
        );
        std::fs::write(directory.path().join(FILE), old).unwrap();
        assert!(matches!(Keyring::load(directory.path()), Err(KeyringError::Incomplete { .. })));
        let ring = Keyring::load_or_create(directory.path(), NOW).unwrap();
        assert_eq!(ring.pepper_id(), "00000001");
        assert_eq!(ring.keys().len(), KeyName::ALL.len());
    }

    #[test]
    fn a_rotated_key_verifies_until_it_is_retired_and_the_current_one_cannot_be() {
        let (directory, ring) = ring();
        let (old, signature) = ring.sign(KeyName::Publish, b"text");
        assert!(matches!(
            Keyring::retire(directory.path(), KeyName::Publish, &old),
            Err(KeyringError::IsCurrent(_))
        ));
        let made = Keyring::rotate(directory.path(), KeyName::Publish, NOW).unwrap();
        assert!(ring.refresh().unwrap());
        assert!(!ring.refresh().unwrap());
        assert_eq!(ring.sign(KeyName::Publish, b"text").0, made.id);
        assert_eq!(ring.verify(KeyName::Publish, &old, b"text", &signature), Ok(()));
        assert_eq!(
            ring.verify(KeyName::Publish, &made.id, b"text", &signature),
            Err(SignatureProblem::Mismatch)
        );
        Keyring::retire(directory.path(), KeyName::Publish, &old).unwrap();
        Keyring::retire(directory.path(), KeyName::Publish, &old).unwrap();
        ring.refresh().unwrap();
        assert_eq!(
            ring.verify(KeyName::Publish, &old, b"text", &signature),
            Err(SignatureProblem::RetiredKey)
        );
        let text = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert_eq!(text.matches("\"secret\"").count(), KeyName::ALL.len(), "the retired secret is erased");
        let elsewhere = tempfile::tempdir().unwrap();
        let rotated = Keyring::rotate(elsewhere.path(), KeyName::Publish, NOW);
        assert!(matches!(rotated, Err(KeyringError::Missing(_))), "a wrong directory gets no keyring");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert!(matches!(
            Keyring::retire(directory.path(), KeyName::Publish, "ffffffff"),
            Err(KeyringError::NoSuchKey { .. })
        ));
    }

    #[test]
    fn a_signature_of_other_content_or_of_a_key_of_another_name_is_refused() {
        let (_directory, ring) = ring();
        let (id, signature) = ring.sign(KeyName::Publish, b"text");
        assert_eq!(ring.verify(KeyName::Publish, &id, b"test", &signature), Err(SignatureProblem::Mismatch));
        assert_eq!(
            ring.verify(KeyName::Publish, &id, b"text", &signature[..31]),
            Err(SignatureProblem::Mismatch)
        );
        assert_eq!(ring.verify(KeyName::Publish, &id, b"text", b""), Err(SignatureProblem::Mismatch));
        assert_eq!(
            ring.verify(KeyName::Approval, &id, b"text", &signature),
            Err(SignatureProblem::UnknownKey)
        );
    }

    #[test]
    fn a_damaged_file_leaves_a_running_server_as_it_was() {
        let (directory, ring) = ring();
        let before = ring.sign(KeyName::Publish, b"x");
        std::fs::write(directory.path().join(FILE), "{").unwrap();
        assert!(ring.refresh().is_err());
        assert_eq!(ring.sign(KeyName::Publish, b"x"), before);
    }
}
