//! The directory of a backup while it is written, and its files: hashed as they are written, encrypted before they
//! reach the disk, synced, and given their name at the end.
//!
//! What a killed backup leaves is a hidden neighbour of the name, which the next backup to that name takes away: the
//! lock on it says whether its writer lives.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use age::stream::StreamWriter;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use super::crypt::Encryption;
use super::error::BackupError;
use super::manifest::FileEntry;

/// A backup that is not finished. Dropped before that, it is removed.
pub(super) struct Unfinished {
    path: PathBuf,
    goal: PathBuf,
    is_finished: bool,
    _lock: Flock<File>,
}

impl Unfinished {
    /// Begins a backup that will be `goal`, which must be absent or an empty directory.
    pub(super) fn begin(goal: &Path) -> Result<Self, BackupError> {
        let goal = std::path::absolute(goal).map_err(BackupError::io("resolve", goal))?;
        refuse_taken(&goal)?;
        let name = goal.file_name().ok_or_else(|| BackupError::Exists(goal.clone()))?;
        let path = goal.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let parent = goal.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(BackupError::io("create the directory", parent))?;
        let made = DirBuilder::new().mode(0o700).create(&path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(BackupError::io("create the directory", path)(error));
        }
        let directory = own(&path)?;
        let lock = Flock::lock(directory, FlockArg::LockExclusiveNonblock)
            .map_err(|_| BackupError::UnderWay(goal.clone()))?;
        // its former owner may have renamed it between the two
        if !is_at(&lock, &path) {
            return Err(BackupError::UnderWay(goal));
        }
        let unfinished = Self { path, goal, is_finished: false, _lock: lock };
        unfinished.clear().map_err(BackupError::io("clear", &unfinished.path))?;
        Ok(unfinished)
    }

    /// Removes what a killed writer left.
    fn clear(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// A new file in it. An encrypted one bears the ending for that.
    pub(super) fn create(&self, name: &str, encryption: &Encryption) -> Result<Writing, BackupError> {
        let encryptor = encryption.encryptor();
        let name = format!("{name}{}", if encryptor.is_some() { super::AGE } else { "" });
        let path = self.path.join(&name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(BackupError::io("create", &path))?;
        let hashed = Hashed { file: BufWriter::new(file), sha256: Sha256::new(), bytes: 0 };
        let to = match encryptor {
            None => Sink::Clear(hashed),
            Some(encryptor) => {
                let writer = encryptor.wrap_output(hashed).map_err(BackupError::io("write", &path))?;
                Sink::Encrypted(Box::new(writer))
            }
        };
        Ok(Writing { name, path, to })
    }

    /// Gives the backup its name, once everything is on the disk.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        let fail = |what| BackupError::io(what, &self.goal);
        File::open(&self.path).and_then(|d| d.sync_all()).map_err(fail("sync"))?;
        refuse_taken(&self.goal)?;
        std::fs::rename(&self.path, &self.goal).map_err(fail("rename to"))?;
        let parent = self.goal.parent().unwrap_or(Path::new("/"));
        File::open(parent).and_then(|d| d.sync_all()).map_err(fail("sync the directory of"))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // what stays is taken away by the next backup to this name
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Opens the directory, which may be older than this process: nobody else's, no link, closed to others.
fn own(path: &Path) -> Result<File, BackupError> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let directory = opened.map_err(BackupError::io("open", path))?;
    let uid = directory.metadata().map_err(BackupError::io("look at", path))?.uid();
    if uid != geteuid().as_raw() {
        let error = io::Error::other(format!("it belongs to the user {uid}: remove it"));
        return Err(BackupError::io("use", path)(error));
    }
    let closed = directory.set_permissions(Permissions::from_mode(0o700));
    closed.map_err(BackupError::io("close to others", path))?;
    Ok(directory)
}

/// Is it still what bears the name?
fn is_at(directory: &File, path: &Path) -> bool {
    match (directory.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Is there something, other than an empty directory?
fn refuse_taken(goal: &Path) -> Result<(), BackupError> {
    let is_free = match std::fs::read_dir(goal) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_free { Ok(()) } else { Err(BackupError::Exists(goal.to_owned())) }
}

/// A file that is being written.
pub(super) struct Writing {
    name: String,
    path: PathBuf,
    to: Sink,
}

enum Sink {
    Clear(Hashed),
    Encrypted(Box<StreamWriter<Hashed>>),
}

impl Writing {
    /// Puts everything on the disk and tells what it is.
    pub(super) fn finish(self) -> Result<FileEntry, BackupError> {
        let Self { name, path, to } = self;
        let finish = || -> io::Result<(u64, String)> {
            let Hashed { file, sha256, bytes } = match to {
                Sink::Clear(hashed) => hashed,
                Sink::Encrypted(writer) => writer.finish()?,
            };
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            Ok((bytes, hexadecimal(&sha256.finalize())))
        };
        let (bytes, sha256) = finish().map_err(BackupError::io("write", path))?;
        Ok(FileEntry { name, bytes, sha256 })
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            Sink::Clear(hashed) => hashed.write(bytes),
            Sink::Encrypted(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file, and the hash of what went into it.
struct Hashed {
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes as text.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_backup_never_bears_the_name_and_a_second_writer_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let goal = dir.path().join("monday");
        let first = Unfinished::begin(&goal).expect("nothing is there");
        assert!(matches!(Unfinished::begin(&goal), Err(BackupError::UnderWay(_))));
        drop(first);
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "nothing stays");

        // as after kill -9
        let left = dir.path().join(".monday.partial");
        std::os::unix::fs::symlink(dir.path(), &left).expect("made");
        assert!(matches!(Unfinished::begin(&goal), Err(BackupError::Io { .. })), "a link is not followed");
        std::fs::remove_file(&left).expect("removed");
        std::fs::create_dir(&left).expect("made");
        std::fs::write(left.join("database.dump"), "half").expect("written");
        let again = Unfinished::begin(&goal).expect("its writer is dead");
        let mode = std::fs::metadata(&left).expect("there").mode();
        assert_eq!(mode & 0o777, 0o700, "closed to others");
        let mut file = again.create("database.dump", &Encryption::None).expect("made");
        file.write_all(b"whole").expect("written");
        let entry = file.finish().expect("synced");
        assert_eq!((entry.bytes, entry.sha256.len()), (5, 64));
        assert!(!goal.exists());
        again.finish().expect("renamed");
        assert_eq!(std::fs::read(goal.join("database.dump")).expect("there"), b"whole");
        assert!(matches!(Unfinished::begin(&goal), Err(BackupError::Exists(_))));
    }
}
