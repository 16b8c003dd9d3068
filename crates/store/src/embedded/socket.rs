//! The private directory of the server's socket. A socket's path may be 107 bytes long at most, so a deep
//! data directory gets a short one elsewhere, remembered in `pg/socket` so that restarts use it again.
//!
//! Invariants: 0700 and owned by the database's account, never a symlink; a remembered directory that is
//! not exactly so is left alone and another is made.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString};

use super::account;
use super::cluster::Cluster;
use super::error::EmbeddedError;
use super::files;

/// The port is only a part of the socket's name.
pub(super) const PORT: u16 = 5432;
/// `sun_path` holds 108 bytes with its final zero on Linux and 104 on macOS.
const MAX_PATH_BYTES: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// Makes the directory, or takes the one of the last start, without sockets of former servers.
pub(super) fn prepare(cluster: &Cluster) -> Result<PathBuf, EmbeddedError> {
    let own = cluster.dir.pg().join("s");
    let dir = if fits(&own) { own } else { short(cluster)? };
    files::make_dir(&dir, 0o700).map_err(EmbeddedError::io("create the directory", &dir))?;
    cluster.give(&dir)?;
    Ok(dir)
}

/// Removes what a server that is gone left behind: its lock file's process id may be another's by now.
pub(super) fn clear(dir: &Path) -> io::Result<()> {
    files::remove_if_there(&dir.join(format!(".s.PGSQL.{PORT}")))?;
    files::remove_if_there(&dir.join(format!(".s.PGSQL.{PORT}.lock")))
}

/// Short enough, and of characters that need no quoting in a setting or a connection string.
fn fits(dir: &Path) -> bool {
    let bytes = dir.as_os_str().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    bytes.len() + format!("/.s.PGSQL.{PORT}").len() <= MAX_PATH_BYTES && bytes.iter().all(is_plain)
}

/// The remembered short directory if it is still ours, else a new one.
fn short(cluster: &Cluster) -> Result<PathBuf, EmbeddedError> {
    let note = cluster.dir.pg().join("socket");
    let owner = cluster.account().map_or_else(account::own_uid, |account| account.uid);
    let noted = files::read_if_there(&note).map_err(EmbeddedError::io("read", &note))?;
    if let Some(noted) = noted.and_then(|text| String::from_utf8(text).ok()).map(PathBuf::from)
        && fits(&noted)
        && is_private(&noted, owner)
    {
        return Ok(noted);
    }
    let name = format!("awooop-{}", Alphanumeric.sample_string(&mut rand::rng(), 10));
    let dir = base(cluster).join(name);
    std::fs::create_dir(&dir).map_err(EmbeddedError::io("create the directory", &dir))?;
    files::write_atomic(&note, dir.as_os_str().as_bytes(), 0o600)
        .map_err(EmbeddedError::io("write", note))?;
    Ok(dir)
}

/// An ordinary user's runtime directory; it is closed to the account that root switches to.
fn base(cluster: &Cluster) -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|dir| {
        cluster.account().is_none()
            && fits(&dir.join("awooop-0123456789"))
            && is_private(dir, account::own_uid())
    });
    runtime.unwrap_or_else(|| PathBuf::from("/tmp"))
}

fn is_private(dir: &Path, owner: u32) -> bool {
    std::fs::symlink_metadata(dir)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == owner && meta.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_short_and_plain_directories_hold_a_socket() {
        let check = |dir: &str, expected| assert_eq!(fits(Path::new(dir)), expected, "{dir}");
        check("/var/lib/awooop/pg/s", true);
        check("/home/anna maria/pg/s", false);
        check("/home/a,b/pg/s", false);
        check("/home/\u{e9}/pg/s", false);
        check(&format!("/{}", "x".repeat(MAX_PATH_BYTES - 15)), true);
        check(&format!("/{}", "x".repeat(MAX_PATH_BYTES - 14)), false);
    }

    #[test]
    fn a_symlink_or_an_open_directory_is_not_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let mode = |mode| std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode));
        mode(0o700).expect("closed");
        let own = account::own_uid();
        assert!(is_private(dir.path(), own));
        assert!(!is_private(dir.path(), own + 1));
        assert!(!is_private(Path::new("/tmp"), own));
        mode(0o710).expect("a little open");
        assert!(!is_private(dir.path(), own));
        mode(0o700).expect("closed");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("a link");
        assert!(!is_private(&link, own));
    }
}
