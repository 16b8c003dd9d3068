//! Reading a backup through: is everything there that its manifest names, byte by byte, and, where a key is at hand,
//! does it open to its end?

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

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
/// [`BackupError::Damaged`], which names the file; [`BackupError::Locked`] where `unlock` holds the wrong key.
pub fn check(directory: &Path, unlock: &Unlock) -> Result<Manifest, BackupError> {
    let manifest = read_manifest(directory)?;
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
    Ok(manifest)
}

fn check_file(directory: &Path, entry: &FileEntry) -> Result<(), BackupError> {
    let name = &entry.name;
    let path = directory.join(name);
    let mut file = match File::open(&path) {
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
    let (mut sha256, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece).map_err(BackupError::io("read", &path))? {
            0 => break,
            n => sha256.update(&piece[..n]),
        }
    }
    if hexadecimal(&sha256.finalize()) != entry.sha256 {
        return Err(damaged(directory, format!("{name} is not what was written: its hash differs")));
    }
    Ok(())
}

fn damaged(directory: &Path, why: String) -> BackupError {
    BackupError::Damaged { path: directory.to_owned(), why }
}
