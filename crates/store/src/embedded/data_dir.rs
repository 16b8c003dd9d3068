//! The data directory of `awooop dev`: `{dev.env, keys/, pg/, node.json, operator.toml, lock}`, owned by
//! one process at a time through an own flock. The kernel frees the lock however the owner ends, so a
//! leftover `lock` file means nothing; its content only tells a second comer who the owner is.
//!
//! Invariants: the directory belongs to this user and holds nothing of others; `keys/` is 0700 and every
//! file written here is 0600 and whole. As root the directory and `pg/` are 0711 and everything above must
//! be passable for the database's account. Clones share the lock; the last one dropped frees it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::account::{self, Account};
use super::files;

/// What may lie in a directory that no `awooop dev` has owned yet.
const OWN_NAMES: [&str; 7] = ["dev.env", "keys", "pg", "node.json", "operator.toml", "lock", "lost+found"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("the data directory {} is in use by {owner}; stop it or choose another data directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who has it.
        owner: LockOwner,
    },
    /// The database's account could not reach it.
    #[error(
        "{} is below {}, which the database's account `{account}` may not pass; use a directory such as \
         /var/lib/awooop, or run: chmod o+x {}", path.display(), ancestor.display(), ancestor.display()
    )]
    OutOfReach {
        /// The data directory.
        path: PathBuf,
        /// The closed directory.
        ancestor: PathBuf,
        /// Who may not pass.
        account: String,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to uid {owner}; run as that user or choose another data directory", path.display())]
    OtherOwner {
        /// The data directory.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
    },
    /// It holds files that are not ours.
    #[error("{} is no data directory: it holds {name}; choose an empty or absent directory", path.display())]
    ForeignFiles {
        /// The directory.
        path: PathBuf,
        /// One of the foreign names.
        name: String,
    },
    /// Root has no account to give the database.
    #[error("PostgreSQL does not run as root, and {why}; run as an ordinary user")]
    NoAccount {
        /// What is missing.
        why: &'static str,
    },
    /// A file name that leads out of the directory.
    #[error("`{0}` is not a name inside the data directory")]
    BadName(String),
    /// `node.json` makes no sense. It is not replaced silently: another identity would leave its leases.
    #[error("{} is not readable as this node's identity: {why}; remove it to begin a new one", path.display())]
    Node {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The operating system refused something.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// Of what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl DataDirError {
    /// For `map_err`: an input or output error of `what` at `path`.
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> DataDirError {
        let path = path.into();
        move |source| DataDirError::Io { what, path, source }
    }
}

/// Who holds a data directory, as it wrote itself into `lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// Process id in the owner's own namespace; 0 when the owner has not written it yet.
    pub pid: u32,
    /// The program's name.
    pub program: String,
    /// When it took the directory, RFC 3339 by the file system's clock.
    pub started_at: String,
    /// Where it serves, once it does.
    pub url: Option<String>,
}

impl std::fmt::Display for LockOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.pid == 0 {
            return f.write_str("another process that has only just started");
        }
        write!(f, "{} (pid {}, since {}", self.program, self.pid, self.started_at)?;
        match &self.url {
            Some(url) => write!(f, ", at {url})"),
            None => f.write_str(")"),
        }
    }
}

/// A data directory that this process owns until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct DataDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    account: Option<Account>,
    /// The lock and what it says; the mutex also keeps two writers of one file apart.
    lock: Mutex<(Flock<File>, LockOwner)>,
}

impl DataDir {
    /// Creates or takes the directory. Errors name the owner, the closed ancestor or the foreign file.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let path = resolve(path)?;
        let cluster_owner = std::fs::metadata(path.join("pg/data")).ok().map(|meta| meta.uid());
        let account =
            account::server_account(cluster_owner).map_err(|why| DataDirError::NoAccount { why })?;
        check_ancestors(&path, account.as_ref())?;
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        create_all(&path, mode)?;
        check_ownership(&path)?;
        check_content(&path)?;
        let lock = take_lock(&path)?;
        for (dir, mode) in [("", mode), ("keys", 0o700), ("pg", mode)] {
            let dir = path.join(dir);
            files::make_dir(&dir, mode).map_err(DataDirError::io("create the directory", dir))?;
        }
        let inner = Inner { root: path, account, lock: Mutex::new(lock) };
        Ok(DataDir { inner: Arc::new(inner) })
    }

    /// The absolute path without symlinks.
    pub fn path(&self) -> &Path {
        &self.inner.root
    }

    /// Where the keyring and the database's passwords lie; 0700.
    pub fn keys(&self) -> PathBuf {
        self.inner.root.join("keys")
    }

    /// Where the database lies.
    pub(super) fn pg(&self) -> PathBuf {
        self.inner.root.join("pg")
    }

    /// The account the database runs as; `None` for an ordinary user's own.
    pub(super) fn account(&self) -> Option<&Account> {
        self.inner.account.as_ref()
    }

    /// Tells a second comer where this owner serves.
    pub fn announce_url(&self, url: &str) -> Result<(), DataDirError> {
        let mut lock = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, owner) = &mut *lock;
        owner.url = Some(url.to_owned());
        write_owner(file, owner).map_err(DataDirError::io("write", self.inner.root.join("lock")))
    }

    /// Writes a file inside the directory, 0600, whole or not at all. `name` is relative and may name a
    /// file in an existing subdirectory, such as `keys/publish.json`.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !is_inside {
            return Err(DataDirError::BadName(name.to_owned()));
        }
        let path = self.inner.root.join(name);
        let _one_writer = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        files::write_atomic(&path, bytes, 0o600).map_err(DataDirError::io("write", path))
    }
}

/// The absolute path without symlinks, where the last parts need not exist yet.
fn resolve(path: &Path) -> Result<PathBuf, DataDirError> {
    let absolute = std::path::absolute(path).map_err(DataDirError::io("resolve", path))?;
    let mut missing = Vec::new();
    let mut known = absolute.as_path();
    loop {
        match known.canonicalize() {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |path: PathBuf, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(name), Some(parent)) = (known.file_name(), known.parent()) else {
                    return Err(DataDirError::io("resolve", path)(error));
                };
                missing.push(name);
                known = parent;
            }
            Err(error) => return Err(DataDirError::io("resolve", path)(error)),
        }
    }
}

/// Every existing directory above `path` must let the database's account through. The directory itself is
/// given its mode by us.
fn check_ancestors(path: &Path, account: Option<&Account>) -> Result<(), DataDirError> {
    let (Some(account), Some(parent)) = (account, path.parent()) else { return Ok(()) };
    let existing = parent.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let closed = account::first_closed(existing, account).map_err(DataDirError::io("look at", existing))?;
    match closed {
        Some(ancestor) => {
            Err(DataDirError::OutOfReach { path: path.to_owned(), ancestor, account: account.name.clone() })
        }
        None => Ok(()),
    }
}

/// Makes the directory and what is missing above it, each with this mode; leaves what exists as it is.
fn create_all(path: &Path, mode: u32) -> Result<(), DataDirError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for dir in missing.into_iter().rev() {
        files::make_dir(dir, mode).map_err(DataDirError::io("create the directory", dir))?;
    }
    Ok(())
}

fn check_ownership(path: &Path) -> Result<(), DataDirError> {
    let meta = std::fs::metadata(path).map_err(DataDirError::io("look at", path))?;
    if !meta.is_dir() {
        return Err(DataDirError::io("use", path)(io::ErrorKind::NotADirectory.into()));
    }
    if meta.uid() != account::own_uid() {
        return Err(DataDirError::OtherOwner { path: path.to_owned(), owner: meta.uid() });
    }
    Ok(())
}

/// A directory without our lock may hold only what is ours: this is no place to take over by a typo.
fn check_content(path: &Path) -> Result<(), DataDirError> {
    if path.join("lock").exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(DataDirError::io("read", path))? {
        let name = entry.map_err(DataDirError::io("read", path))?.file_name();
        let name = name.to_string_lossy();
        if !OWN_NAMES.contains(&name.as_ref()) {
            return Err(DataDirError::ForeignFiles { path: path.to_owned(), name: name.into_owned() });
        }
    }
    Ok(())
}

fn take_lock(root: &Path) -> Result<(Flock<File>, LockOwner), DataDirError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(DataDirError::io("open", &path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let owner = introduce(&mut lock).map_err(DataDirError::io("write", path))?;
            Ok((lock, owner))
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let owner = read_owner(&mut file);
            Err(DataDirError::InUse { path: root.to_owned(), owner })
        }
        Err((_, errno)) => Err(DataDirError::io("lock", path)(errno.into())),
    }
}

/// Writes who this is. The start time is the file system's: it is what the write itself left behind.
fn introduce(file: &mut File) -> io::Result<LockOwner> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(b" ")?;
    let written_at = file.metadata()?.modified()?;
    let started_at = jiff::Timestamp::try_from(written_at).map_err(io::Error::other)?;
    let program = std::env::args_os().next().map(PathBuf::from);
    let program =
        program.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let owner = LockOwner {
        pid: std::process::id(),
        program: program.unwrap_or_else(|| "awooop".to_owned()),
        started_at: format!("{started_at:.0}"),
        url: None,
    };
    write_owner(file, &owner)?;
    Ok(owner)
}

/// Overwrites in place: a rename would leave the lock on the old file.
fn write_owner(file: &mut File, owner: &LockOwner) -> io::Result<()> {
    let text = serde_json::to_vec(owner)?;
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)
}

fn read_owner(file: &mut File) -> LockOwner {
    let mut text = Vec::new();
    let read = file.read_to_end(&mut text);
    read.ok().and_then(|_| serde_json::from_slice(&text).ok()).unwrap_or(LockOwner {
        pid: 0,
        program: String::new(),
        started_at: String::new(),
        url: None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A parent that the database's account may pass.
    fn parent() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o711)).tempdir().expect("a directory")
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn the_second_open_names_the_owner_and_its_url() {
        let parent = parent();
        let path = parent.path().join("a/b");
        let first = DataDir::open(&path).expect("a new directory");
        let message = DataDir::open(&path).expect_err("it is taken").to_string();
        assert!(message.contains(&format!("(pid {}, since 2", std::process::id())), "{message}");
        first.announce_url("http://127.0.0.1:4848").expect("written");
        let message = DataDir::open(&path).expect_err("it is taken").to_string();
        assert!(message.contains(", at http://127.0.0.1:4848)"), "{message}");
        drop(first.clone());
        DataDir::open(&path).expect_err("a clone was dropped, not the owner");
        drop(first);
        DataDir::open(&path).expect("it is free again");
    }

    #[test]
    fn a_lock_without_sense_is_still_a_lock_and_without_an_owner_is_none() {
        let parent = parent();
        std::fs::write(parent.path().join("lock"), "garbage").expect("a leftover");
        let first = DataDir::open(parent.path()).expect("nobody holds it");
        std::fs::write(parent.path().join("lock"), "garbage").expect("a torn write");
        let message = DataDir::open(parent.path()).expect_err("it is taken").to_string();
        assert!(message.contains("only just started"), "{message}");
        drop(first);
    }

    #[test]
    fn private_files_and_directories_are_private() {
        let parent = parent();
        let dir = DataDir::open(&parent.path().join("d")).expect("a new directory");
        dir.write_private("dev.env", b"A=1").expect("written");
        dir.write_private("keys/x.json", b"{}").expect("written");
        assert_eq!(mode(&dir.keys()), 0o700);
        assert_eq!(mode(&dir.path().join("dev.env")), 0o600);
        assert_eq!(mode(&dir.path().join("lock")), 0o600);
        for name in ["", "/etc/x", "../x", "keys/../../x", "."] {
            let error = dir.write_private(name, b"").expect_err(name);
            assert!(matches!(error, DataDirError::BadName(_)), "{name}: {error}");
        }
    }

    #[test]
    fn a_directory_of_other_things_is_not_taken_over() {
        let parent = parent();
        std::fs::write(parent.path().join("thesis.tex"), "").expect("a foreign file");
        let message = DataDir::open(parent.path()).expect_err("not ours").to_string();
        assert!(message.contains("thesis.tex"), "{message}");
        let file = parent.path().join("thesis.tex");
        DataDir::open(&file).expect_err("a file is no directory");
        DataDir::open(&file.join("x")).expect_err("nothing lies below a file");
    }

    #[test]
    fn a_symlink_is_followed_once_and_the_real_path_is_used() {
        let parent = parent();
        std::fs::create_dir(parent.path().join("real")).expect("a directory");
        std::os::unix::fs::symlink(parent.path().join("real"), parent.path().join("link")).expect("a link");
        let dir = DataDir::open(&parent.path().join("link")).expect("opened");
        assert!(dir.path().ends_with("real"), "{}", dir.path().display());
        DataDir::open(&parent.path().join("real")).expect_err("the same directory");
    }

    #[test]
    fn as_root_a_closed_ancestor_is_named_and_nothing_is_created() {
        if account::own_uid() != 0 {
            return; // an ordinary user's own server passes where its user does
        }
        let closed = parent();
        std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).expect("closed");
        let path = closed.path().join("d");
        let message = DataDir::open(&path).expect_err("out of reach").to_string();
        assert!(message.contains(&format!("chmod o+x {}", closed.path().display())), "{message}");
        assert!(!path.exists());
        let parent = parent();
        std::os::unix::fs::chown(parent.path(), Some(65534), None).expect("given away");
        let message = DataDir::open(parent.path()).expect_err("another's").to_string();
        assert!(message.contains("belongs to uid 65534"), "{message}");
    }
}
