//! `awooop backup` and `awooop restore`.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

/// `awooop backup`.
#[derive(Args)]
#[command(
    after_help = "The database is the one that AWOOOP_BACKUP_DATABASE_URL names, or else, and always where --data-dir is given, the \
running one of `awooop dev`. Servers go on working meanwhile.\n\
An encrypted backup holds the keyring as well; `age --decrypt` opens its files too. See docs/backup.md."
)]
pub(crate) struct BackupArgs {
    /// The directory the backup will be; it must not exist
    pub(crate) directory: PathBuf,
    /// Encrypt to this public key (age1…); may be given several times, and each key opens it
    #[arg(long, value_name = "KEY")]
    pub(crate) recipient: Vec<String>,
    /// Encrypt under the passphrase in the first line of this file; with --check, open with it
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The directory of the keyring that belongs to the database [default: `keys` in the data directory of `dev`]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The data directory of `awooop dev` [default: as for dev]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Take none: check that the one in DIRECTORY is whole
    #[arg(long, conflicts_with_all = ["recipient", "keys", "data_dir"])]
    pub(crate) check: bool,
    /// For --check of an encrypted one: open it with the private keys in this file
    #[arg(long, value_name = "FILE", requires = "check", conflicts_with = "passphrase_file")]
    pub(crate) identity: Option<PathBuf>,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// `awooop restore`.
#[derive(Args)]
#[command(
    after_help = "Into an empty database only: the one that AWOOOP_DATABASE_URL and --admin-url name, or, where that is not set and \
always where --data-dir is given, that of a `dev` that is not started. No server may run on it. See docs/backup.md."
)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) directory: PathBuf,
    /// Open it with the private keys in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Open it with the passphrase in the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// A superuser's connection URL, to make the roles and to load the rows
    #[arg(long, value_name = "URL")]
    pub(crate) admin_url: Option<SecretString>,
    /// The directory the keyring belongs in; one that is there must be the backup's [default for dev: `keys` in the
    /// data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The data directory of `awooop dev` [default: as for dev]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print exactly one JSON document on stdout
    #[arg(long)]
    pub(crate) json: bool,
}
