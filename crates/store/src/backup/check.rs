//! Reading a backup through: is everything there that its manifest names, byte by byte, and, where a key is at hand,
//! does it open to its end?

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::crypt::Unlock;
use super::error::BackupError;
use super::files::hexadecimal;
use super::manifest::{FORMAT, FileEntry, Manifest};
use super::{AGE, DATABASE, KEYRING, MANIFEST};

/// The longest manifest that is read.
const MOST_MANIFEST: u64 = 1 << 20;

/// Checks a backup; blocks for as long as reading it takes. Encrypted files are opened to their end, where `unlock`
/// can.
///
/// # Errors
/// [`BackupError::Damaged`], which names the file; [`BackupError::Locked`] where `unlock` holds the wrong key, or any
/// key for a backup in clear.
pub fn check(directory: &Path, unlock: &Unlock) -> Result<Manifest, BackupError> {
    let manifest = read_manifest(directory)?;
    refuse_clear(&manifest, unlock)?;
    for entry in &manifest.files {
        check_file(directory, entry)?;
    }
    if manifest.is_encrypted && !matches!(unlock, Unlock::None) {
        for entry in &manifest.files {
            let path = directory.join(&entry.name);
            io::copy(&mut unlock.open(&path)?, &mut io::sink())
                .map_err(|e| damaged(directory, format!("{}: {e}", entry.name)))?;
        }
    }
    Ok(manifest)
}

/// Whoever gives a key expects what was encrypted: something in clear was put in its place.
pub(super) fn refuse_clear(manifest: &Manifest, unlock: &Unlock) -> Result<(), BackupError> {
    if manifest.is_encrypted || matches!(unlock, Unlock::None) {
        return Ok(());
    }
    let why = "the backup is not encrypted, and a key to open it was given: is it the one you mean? Without \
               --identity and --passphrase-file one in clear is taken";
    Err(BackupError::Locked { why: why.to_owned() })
}

/// The manifest, which must make sense.
fn read_manifest(directory: &Path) -> Result<Manifest, BackupError> {
    let path = directory.join(MANIFEST);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(directory, format!("it has no {MANIFEST}")));
        }
        Err(error) => return Err(BackupError::io("read", path)(error)),
    };
    let mut text = String::new();
    file.take(MOST_MANIFEST).read_to_string(&mut text).map_err(BackupError::io("read", &path))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|e| damaged(directory, format!("{MANIFEST}: {e}")))?;
    if manifest.format != FORMAT {
        return Err(damaged(directory, format!("its format is `{}`, not `{FORMAT}`", manifest.format)));
    }
    let ending = if manifest.is_encrypted { AGE } else { "" };
    let is_known =
        |file: &FileEntry| [DATABASE, KEYRING].iter().any(|name| file.name == format!("{name}{ending}"));
    if let Some(other) = manifest.files.iter().find(|file| !is_known(file)) {
        return Err(damaged(directory, format!("{MANIFEST} names `{}`, which no backup has", other.name)));
    }
    if manifest.file(DATABASE).is_none() {
        return Err(damaged(directory, format!("{MANIFEST} names no {DATABASE}")));
    }
    if manifest.has_keyring() && !manifest.is_encrypted {
        return Err(damaged(directory, "it holds a keyring in clear, which no backup does".to_owned()));
    }
    if manifest.has_keyring() && manifest.keys.is_empty() {
        return Err(damaged(directory, "it holds a keyring, and names no keys".to_owned()));
    }
    Ok(manifest)
}

fn check_file(directory: &Path, entry: &FileEntry) -> Result<(), BackupError> {
    let name = &entry.name;
    let path = directory.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(directory, format!("{name} is missing")));
        }
        Err(error) => return Err(BackupError::io("read", path)(error)),
    };
    let bytes = file.metadata().map_err(BackupError::io("look at", &path))?.len();
    if bytes != entry.bytes {
        return Err(damaged(directory, format!("{name} has {bytes} bytes, and must have {}", entry.bytes)));
    }
    match Hashing::of(file).is(&entry.sha256).map_err(BackupError::io("read", &path))? {
        true => Ok(()),
        false => Err(differs(directory, name)),
    }
}

/// A file that is hashed as it is read. A clone is the same one.
#[derive(Clone)]
pub(super) struct Hashing(Arc<Mutex<(File, Sha256)>>);

impl Hashing {
    pub(super) fn of(file: File) -> Self {
        Self(Arc::new(Mutex::new((file, Sha256::new()))))
    }

    /// Reads on to the end: is this the hash of everything?
    pub(super) fn is(&mut self, sha256: &str) -> io::Result<bool> {
        let mut piece = vec![0; 1 << 16];
        while self.read(&mut piece)? > 0 {}
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone().finalize();
        Ok(hexadecimal(&found) == sha256)
    }
}

impl Read for Hashing {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = inner.0.read(piece)?;
        inner.1.update(&piece[..n]);
        Ok(n)
    }
}

pub(super) fn differs(directory: &Path, name: &str) -> BackupError {
    damaged(directory, format!("{name} is not what was written: its hash differs"))
}

fn damaged(directory: &Path, why: String) -> BackupError {
    BackupError::Damaged { path: directory.to_owned(), why }
}
