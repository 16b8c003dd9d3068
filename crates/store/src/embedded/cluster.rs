//! The cluster on disk, below `{data-dir}/pg`: `data` (PostgreSQL's own), `hba.conf`, `log`, `s` (the
//! socket). `pg` itself stays ours, so the database's account cannot move things that root then follows.
//!
//! initdb works in `data.new`, which becomes `data` by a rename: a cut first start leaves a directory that
//! the next one throws away. A cluster of another major version is refused before anything touches it.

use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use secrecy::ExposeSecret;

use super::account::{self, Account};
use super::bin::PgBin;
use super::data_dir::DataDir;
use super::error::EmbeddedError;
use super::files;
use super::parent_death;
use super::passwords::{Passwords, Role};

/// Who may connect: everybody who reaches the private socket and knows a password. Nobody from elsewhere.
const HBA: &str = "# Written by awooop at every start.\nlocal all all scram-sha-256\n";
/// How much of initdb's output explains a failure, in characters.
const OUTPUT_CHARS: usize = 2000;

/// Where the cluster's parts lie, and who runs it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) bin: PgBin,
    pub(super) dir: DataDir,
}

impl Cluster {
    /// PostgreSQL's own data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.pg().join("data")
    }

    /// The access rules, outside the data directory: what the database's account writes there is ignored.
    pub(super) fn hba(&self) -> PathBuf {
        self.dir.pg().join("hba.conf")
    }

    /// The server's log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.pg().join("log")
    }

    pub(super) fn account(&self) -> Option<&Account> {
        self.dir.account()
    }

    /// A command of the server's installation, as the database's account, with an empty environment, in a
    /// directory it may enter, out of reach of the terminal's Ctrl-C, ending with this thread.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.dir.join(program));
        command.env_clear().stdin(Stdio::null()).current_dir(self.dir.pg()).process_group(0);
        if let Some(account) = self.account() {
            command.uid(account.uid).gid(account.gid); // and no supplementary groups
        }
        parent_death::interrupt_with_parent(&mut command);
        command
    }

    /// Gives a path to the database's account.
    pub(super) fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Some(account) = self.account() else { return Ok(()) };
        chown(path, Some(account.uid), Some(account.gid)).map_err(EmbeddedError::io("give away", path))
    }

    /// Makes the cluster if it is absent; refuses one that this server cannot read. Returns the passwords.
    pub(super) fn prepare(&self) -> Result<Passwords, EmbeddedError> {
        self.check_reach()?;
        let data = self.data();
        remove_if_empty(&data).map_err(EmbeddedError::io("look at", &data))?;
        self.check_version()?;
        let passwords = super::passwords::load_or_make(&self.dir, data.clone())?;
        let hba = self.hba();
        files::write_atomic(&hba, HBA.as_bytes(), 0o644).map_err(EmbeddedError::io("write", hba))?;
        if !data.exists() {
            self.initdb(&passwords)?;
        }
        Ok(passwords)
    }

    fn check_reach(&self) -> Result<(), EmbeddedError> {
        let Some(account) = self.account() else { return Ok(()) };
        let programs = &self.bin.dir;
        match account::first_closed(programs, account).map_err(EmbeddedError::io("look at", programs))? {
            None => Ok(()),
            Some(ancestor) => {
                Err(EmbeddedError::ProgramsOutOfReach { ancestor, account: account.name.clone() })
            }
        }
    }

    fn check_version(&self) -> Result<(), EmbeddedError> {
        let path = self.data();
        if !path.exists() {
            return Ok(());
        }
        let file = path.join("PG_VERSION");
        let text = files::read_if_there(&file).map_err(EmbeddedError::io("read", file))?;
        let Some(text) = text else { return Err(EmbeddedError::NotACluster { path }) };
        let data = String::from_utf8_lossy(&text).trim().to_owned();
        if data == self.bin.major.to_string() {
            return Ok(());
        }
        if data.is_empty() || !data.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(EmbeddedError::NotACluster { path });
        }
        Err(EmbeddedError::OtherMajor { path, data, server: self.bin.major })
    }

    fn initdb(&self, passwords: &Passwords) -> Result<(), EmbeddedError> {
        let pg = self.dir.pg();
        let (fresh, secret) = (pg.join("data.new"), pg.join("password.new"));
        remove_tree(&fresh).map_err(EmbeddedError::io("remove", &fresh))?;
        files::make_dir(&fresh, 0o700).map_err(EmbeddedError::io("create the directory", &fresh))?;
        self.give(&fresh)?;
        let password = passwords.get(Role::Admin).expose_secret();
        files::write_atomic(&secret, password.as_bytes(), 0o600)
            .map_err(EmbeddedError::io("write", &secret))?;
        let made = self.give(&secret).and_then(|()| self.run_initdb(&fresh, &secret));
        files::remove_if_there(&secret).map_err(EmbeddedError::io("remove", secret))?;
        made?;
        let data = self.data();
        std::fs::rename(&fresh, &data).map_err(EmbeddedError::io("rename", fresh))?;
        files::sync_dir(&pg).map_err(EmbeddedError::io("sync", pg))
    }

    /// Runs initdb to its end; it syncs what it writes.
    fn run_initdb(&self, into: &Path, secret: &Path) -> Result<(), EmbeddedError> {
        let mut pwfile = std::ffi::OsString::from("--pwfile=");
        pwfile.push(secret);
        let output = self
            .command("initdb")
            .args(["--locale=C.UTF-8", "--encoding=UTF8", "--auth=scram-sha-256"])
            .arg(format!("--username={}", Role::Admin.name()))
            .arg(pwfile)
            .arg("--pgdata")
            .arg(into)
            .output()
            .map_err(EmbeddedError::io("run", self.bin.dir.join("initdb")))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let skipped = text.chars().count().saturating_sub(OUTPUT_CHARS);
        Err(EmbeddedError::Initdb {
            status: output.status.to_string(),
            output: text.chars().skip(skipped).collect::<String>().trim().to_owned(),
        })
    }
}

/// An empty directory is an absent one: somebody made it, nothing was in it.
fn remove_if_empty(path: &Path) -> io::Result<()> {
    let is_empty = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if is_empty { std::fs::remove_dir(path) } else { Ok(()) }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
