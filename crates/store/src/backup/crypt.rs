//! Encryption in the `age` format (age-encryption.org/v1), so that the files open with the `age` tool as well: to
//! public keys (`age1…`) or under a passphrase.
//!
//! Deliberately absent: SSH keys and plugins. A wrong key is told from a damaged file: the header says whose it is.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use secrecy::{ExposeSecret, SecretString};

use super::error::BackupError;

/// What a passphrase costs, as a power of two: about a second, and 256 MiB.
const WORK_FACTOR: u8 = 18;
/// What a file may ask for: some seconds, and 1 GiB.
const MOST_WORK: u8 = 20;
/// A passphrase shorter than this can be guessed.
const SHORTEST_PASSPHRASE: usize = 12;

/// For whom a backup is encrypted.
pub enum Encryption {
    /// Nobody: it lies there in clear, and holds no keyring.
    None,
    /// The owners of these public keys, any one of which opens it.
    Recipients(Vec<x25519::Recipient>),
    /// Whoever knows it.
    Passphrase(SecretString),
}

impl Encryption {
    /// Reads public keys.
    ///
    /// # Errors
    /// [`BackupError::Locked`], which repeats what is no key.
    pub fn to(recipients: &[String]) -> Result<Self, BackupError> {
        let read = |text: &String| {
            let why =
                |reason| BackupError::Locked { why: format!("`{text}` is no age public key: {reason}") };
            text.trim().parse().map_err(why)
        };
        Ok(Self::Recipients(recipients.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Reads the first line of a file as a passphrase.
    ///
    /// # Errors
    /// [`BackupError::Io`], and [`BackupError::Locked`] when it is shorter than 12 characters.
    pub fn passphrase_of(path: &Path) -> Result<Self, BackupError> {
        let passphrase = first_line(path)?;
        if passphrase.expose_secret().chars().count() < SHORTEST_PASSPHRASE {
            let path = path.display();
            let why = format!("the passphrase in {path} is shorter than {SHORTEST_PASSPHRASE} characters");
            return Err(BackupError::Locked { why });
        }
        Ok(Self::Passphrase(passphrase))
    }

    /// Is anything encrypted at all?
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// What encrypts one file; `None` where nothing does.
    pub(super) fn encryptor(&self) -> Option<Encryptor> {
        let made = match self {
            Self::None => return None,
            Self::Recipients(keys) => {
                Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient))
            }
            Self::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK_FACTOR);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
        };
        Some(made.expect("there is a recipient, and all are of one kind"))
    }
}

/// What opens an encrypted backup.
pub enum Unlock {
    /// Nothing.
    None,
    /// Private keys.
    Identities(Vec<x25519::Identity>),
    /// The passphrase.
    Passphrase(SecretString),
}

impl Unlock {
    /// Reads a file of private keys, as `age-keygen` writes it.
    ///
    /// # Errors
    /// [`BackupError::Io`], and [`BackupError::Locked`] when it holds something else; it is not repeated.
    pub fn identities_of(path: &Path) -> Result<Self, BackupError> {
        let text = std::fs::read_to_string(path).map_err(BackupError::io("read", path))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<x25519::Identity>, _> = lines.map(str::parse).collect();
        match keys {
            Ok(keys) if !keys.is_empty() => Ok(Self::Identities(keys)),
            _ => {
                let why =
                    format!("{} holds no age private keys (AGE-SECRET-KEY-1…, one a line)", path.display());
                Err(BackupError::Locked { why })
            }
        }
    }

    /// Reads the first line of a file as a passphrase.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub fn passphrase_of(path: &Path) -> Result<Self, BackupError> {
        first_line(path).map(Self::Passphrase)
    }

    /// A file of a backup in clear, whether it is encrypted or not.
    pub(super) fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, BackupError> {
        self.read(path, File::open(path).map_err(BackupError::io("read", path))?)
    }

    /// The same of what was opened: `path` names it.
    pub(super) fn read(
        &self,
        path: &Path,
        file: impl Read + Send + 'static,
    ) -> Result<Box<dyn Read + Send>, BackupError> {
        let file = BufReader::new(file);
        if path.extension().is_none_or(|ending| ending != "age") {
            return Ok(Box::new(file));
        }
        let fail = |error| problem(path, &error);
        let decryptor = Decryptor::new_buffered(file).map_err(fail)?;
        let opened = match self {
            Self::None => {
                let why = "the backup is encrypted: name --identity or --passphrase-file".to_owned();
                return Err(BackupError::Locked { why });
            }
            Self::Identities(keys) => decryptor.decrypt(keys.iter().map(|key| key as &dyn age::Identity)),
            Self::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MOST_WORK);
                decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
        };
        Ok(Box::new(opened.map_err(fail)?))
    }
}

/// A passphrase without the end of its line.
fn first_line(path: &Path) -> Result<SecretString, BackupError> {
    let text = SecretString::from(std::fs::read_to_string(path).map_err(BackupError::io("read", path))?);
    Ok(text.expose_secret().lines().next().unwrap_or_default().into())
}

fn problem(path: &Path, error: &DecryptError) -> BackupError {
    match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed => {
            let why =
                "the backup does not open with this key or passphrase: it was encrypted for another one";
            BackupError::Locked { why: why.to_owned() }
        }
        DecryptError::ExcessiveWork { .. } => BackupError::Locked {
            why: "the passphrase of the backup costs too much work to check".to_owned(),
        },
        other => BackupError::Damaged { path: path.to_owned(), why: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused_and_a_private_one_is_never_repeated() {
        let refused = Encryption::to(&["age1nonsense".to_owned()]).err().expect("no key");
        assert!(refused.to_string().contains("age1nonsense"), "{refused}");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        std::fs::write(&file, "AGE-SECRET-KEY-1NONSENSE\n").expect("written");
        let refused = Unlock::identities_of(&file).err().expect("no key").to_string();
        assert!(!refused.contains("NONSENSE") && refused.contains("no age private keys"), "{refused}");
        std::fs::write(&file, "# a comment\n\n").expect("written");
        assert!(Unlock::identities_of(&file).is_err());
        let made = x25519::Identity::generate();
        std::fs::write(&file, format!("# made today\n{}\n", made.to_string().expose_secret()))
            .expect("written");
        assert!(Unlock::identities_of(&file).is_ok());
        std::fs::write(&file, "short\n").expect("written");
        assert!(Encryption::passphrase_of(&file).err().expect("too short").to_string().contains("shorter"));
    }
}
